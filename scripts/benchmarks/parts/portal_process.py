"""A portal in a process, for ``scripts/bench portal``, with people, sessions and past instances.

``python -m scripts.benchmarks.parts.portal_process FOLDER PORT DATABASE PEOPLE INSTANCES ACTIVE``
prints a line of JSON: the portal's public line and the session token of each active person, an
admin's first. DATABASE is a PostgreSQL URL, or ``-`` for SQLite in FOLDER. It runs until its
standard input ends.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop

from dit4c_p2p.database import databases, in_transaction
from dit4c_p2p.identity.keys import generate, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.portal import CatalogueImage, Portal, PortalConfig
from dit4c_p2p.portal.models import Instance, Person, Session
from dit4c_p2p.portal.opaque_tokens import digest, new_token

IMAGE = "sha256:" + "5" * 64
_BATCH = 2000
_DAY_S = 24 * 3600.0
_WORDS = ("Soil", "Air", "Rivers", "Genes", "Stars", "Bees", "Rocks", "Ice")


async def fill(people: int, instances: int, active: int, now: float) -> list[str]:
    """Write the rows; return a session token for each active person and the admin, who is first."""
    tokens = [new_token() for _ in range(active + 1)]
    ids = ["admin", *(f"person-{number}" for number in range(people))]
    async with in_transaction("portal"):
        for start in range(1, len(ids), _BATCH):
            await Person.bulk_create(
                Person(
                    id=id,
                    name=f"{_WORDS[number % len(_WORDS)]} Person {number}",
                    is_admin=False,
                    created_at=now - number,
                    seen_at=now,
                )
                for number, id in enumerate(ids[start : start + _BATCH], start)
            )
        await Session.bulk_create(
            Session(digest=digest(token), person_id=ids[number], created_at=now, used_at=now)
            for number, token in enumerate(tokens)
        )
    for start in range(0, instances, _BATCH):
        async with in_transaction("portal"):
            await Instance.bulk_create(
                Instance(
                    id=f"past{number}",
                    owner_id=ids[1 + number % people],
                    name=f"{_WORDS[number % len(_WORDS)]} {number}",
                    image_name="jupyterlab",
                    image=IMAGE,
                    scheduler="main",
                    key_nonce="n",
                    state="discarded",
                    info="",
                    progress=None,
                    sequence=9,
                    log_tail="",
                    node="node-main",
                    answers_on=[],
                    created_at=now - _DAY_S - number,
                    changed_at=now - _DAY_S - number,
                )
                for number in range(start, min(start + _BATCH, instances))
            )
    return tokens


async def run(folder: Path, port: int, database: str, people: int, past: int, active: int) -> None:
    """Fill the database, start the portal, and tell how to reach it."""
    url = f"http://localhost:{port}"
    config = PortalConfig(
        data_folder=folder,
        url=url,
        addresses=(("127.0.0.1", port),),
        connect=(f"127.0.0.1:{port}",),
        user_url="http://{id}.localhost:8081/",
        routers=(RouterInfo(name="router-main", ssh=["127.0.0.1:1"], http=["127.0.0.1:1"]),),
        catalogue=(CatalogueImage("jupyterlab", "JupyterLab", "Notebooks.", IMAGE),),
        database="" if database == "-" else database,
    )
    async with databases([config.database_spec]):
        portal = Portal(config)
        await portal.start()
        await portal.ensure_admin("admin")
        for name in ("scheduler-main", "node-main"):
            key = generate()
            scheduler = "main" if name.startswith("node") else None
            await portal.enrol_own("admin", PeerName.parse(name), key, scheduler=scheduler)
            write_private(folder / name, key)
        tokens = await fill(people, past, active, portal._clock())
        print(json.dumps({"key": portal.info.key, "tokens": tokens}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await portal.stop()


if __name__ == "__main__":
    folder, port, database, people, past, active = sys.argv[1:]
    uvloop.run(run(Path(folder), int(port), database, int(people), int(past), int(active)))
