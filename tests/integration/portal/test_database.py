"""The portal when its database is busy, gone, locked or full; on SQLite and PostgreSQL.

Whoever asks is told to try again (503), and it works again by itself as soon as that is over.
"""

import asyncio
import sqlite3
from contextlib import asynccontextmanager

import asyncpg
import pytest
from lib.database_engines import OWN, connection
from systems.portal import IMAGE, Limits, PortalAtWork

from dit4c_p2p.database import in_transaction, postgresql, sqlite
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.tokens import VerifiedToken
from dit4c_p2p.messages.enrol import ENROL_NAMESPACE, enrol_statement
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import InstanceReport, StartInstance
from dit4c_p2p.portal.errors import BadRequest, Conflict
from dit4c_p2p.portal.models import (
    ApiToken,
    Counter,
    KeyChange,
    Outgoing,
    Peer,
    Person,
    Session,
    SshKey,
)
from dit4c_p2p.portal.oauth.server import claim_peer_token

pytestmark = pytest.mark.both_databases

EIGHT = range(8)

MANY = Limits(
    instances_per_person=1000,
    instances_at_once_per_person=1000,
    starts_per_minute_per_person=1000,
)


class NoQueue:
    """In the place of a process's own queue: as if each transaction were in another process."""

    async def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@pytest.fixture
async def crowd(work, engine):
    """A portal whose transactions are kept apart by nothing but the database."""
    if engine.is_postgresql:
        connection("portal").writer = NoQueue()
    return work


async def settled(*coroutines):
    return await asyncio.wait_for(asyncio.gather(*coroutines, return_exceptions=True), 30)


async def test_eight_transactions_at_once_count_to_eight(crowd):
    before = (await Counter.get(name="change")).value

    async def count() -> int:
        async with in_transaction("portal"):
            counter = await Counter.get(name="change")
            await asyncio.sleep(0)
            counter.value += 1
            await counter.save()
        return counter.value

    assert sorted(await settled(*(count() for _ in EIGHT))) == [before + 1 + n for n in EIGHT]


async def test_eight_keys_at_once_have_a_change_each(crowd):
    told = []
    crowd.portal._services.registry.watch(lambda change: told.append(change.change))
    first = (await Counter.get(name="change")).value + 1
    peers = [(PeerName.parse(f"router-r{n}"), generate()) for n in EIGHT]
    await settled(*(crowd.portal.enrol_own("admin", name, key) for name, key in peers))
    changes = (
        await KeyChange.filter(change__gte=first)
        .order_by("change")
        .values_list("change", flat=True)
    )
    assert list(changes) == [first + n for n in EIGHT]
    assert sorted(told) == list(changes)


async def test_mistake_3_a_key_that_eight_want_at_once_has_one_holder(crowd):
    key = generate()
    results = await settled(
        *(crowd.portal.enrol_own("admin", PeerName.parse(f"router-r{n}"), key) for n in EIGHT)
    )
    assert len([result for result in results if isinstance(result, str)]) == 1
    assert len([result for result in results if isinstance(result, Conflict)]) == 7
    assert await SshKey.filter(name__startswith="router-r").exclude(name="router-main").count() == 1
    assert await Peer.filter(name__startswith="router-r").exclude(name="router-main").count() == 1


async def test_mistake_7_a_token_that_comes_eight_times_at_once_counts_once(crowd):
    token = VerifiedToken(PeerName.parse("instance-abc"), "f" * 43, "jti", 0, 2_000_000_000, {})

    async def act() -> bool:
        async with in_transaction("portal"):
            return await claim_peer_token(token)

    assert sorted(await settled(*(act() for _ in EIGHT))) == [False] * 7 + [True]


async def test_mistake_7_a_nonce_signed_eight_times_at_once_counts_once(crowd):
    enrolment = crowd.portal._services.enrolment
    nonce = await enrolment.challenge("admin")

    async def enrol(number: int) -> str:
        name, key = PeerName.parse(f"router-n{number}"), generate()
        proof = sshsig.sign(key, enrol_statement(crowd.url, str(name), nonce), ENROL_NAMESPACE)
        return await enrolment.enrol("admin", name, key.convert_to_public(), nonce, proof)

    results = await settled(*(enrol(number) for number in EIGHT))
    assert len([result for result in results if isinstance(result, str)]) == 1
    assert len([result for result in results if isinstance(result, BadRequest)]) == 7


async def test_a_login_link_spent_eight_times_at_once_lets_one_in(crowd):
    token = (await crowd.login_link()).rpartition("/")[2]
    sessions = crowd.portal._services.sessions
    results = await settled(*(sessions.log_in(token) for _ in EIGHT))
    assert len([result for result in results if isinstance(result, str)]) == 1
    assert results.count(None) == 7


async def test_no_more_instances_than_one_may_have_and_every_order_is_sent(tmp_path, engine):
    async with PortalAtWork(tmp_path, Limits(instances_per_person=3)) as work:
        if engine.is_postgresql:
            connection("portal").writer = NoQueue()
        async with work.api() as api, work.scheduler() as scheduler:
            answers = await settled(
                *(api.post("instances", json={"image": "jupyterlab"}) for _ in EIGHT)
            )
            assert sorted(answer.status for answer in answers) == [201] * 3 + [409] * 5
            made = {answer.json["id"] for answer in answers if answer.status == 201}
            names = {answer.json["name"] for answer in answers if answer.status == 201}
            assert names == {"JupyterLab", "JupyterLab 2", "JupyterLab 3"}
            orders = [await scheduler.message(StartInstance) for _ in range(3)]
            assert {order.instance for order in orders} == made


async def test_messages_come_in_the_order_of_their_commits(crowd):
    """A reader that asks for what is after the last position must never pass one over."""
    seen: list[int] = []

    async def put(number: int) -> None:
        async with in_transaction("portal"):
            await Outgoing.create(
                message_id=f"m{number}", scheduler="other", body="", created_at=0.0
            )
            await asyncio.sleep(0.01 * (number % 3))

    async def follow() -> None:
        while len(seen) < len(EIGHT):
            last = seen[-1] if seen else 0
            found = Outgoing.filter(scheduler="other", position__gt=last).order_by("position")
            seen.extend([message.position for message in await found])
            await asyncio.sleep(0)

    await settled(follow(), *(put(number) for number in EIGHT))
    assert len(set(seen)) == len(EIGHT)


@asynccontextmanager
async def locked(work, engine):
    """Another process writes and does not end."""
    if engine.is_postgresql:
        other = await asyncpg.connect(work.database.url)
        try:
            async with other.transaction():
                await other.execute("SELECT pg_advisory_xact_lock($1)", 0x44495434)
                yield
        finally:
            await other.close()
    else:
        file = sqlite3.connect(work.database.path)
        file.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            file.close()


async def is_unavailable(answer) -> None:
    assert (answer.status, answer.headers["Content-Type"][:24]) == (503, "application/problem+json")
    assert answer.json["code"] == "unavailable"
    assert "Try again" in answer.json["detail"]


async def test_locked_it_says_try_again_and_goes_on(tmp_path, engine, monkeypatch):
    monkeypatch.setattr(postgresql, "_LOCK_S", 0.2)
    monkeypatch.setitem(sqlite.PRAGMAS, "busy_timeout", 200)
    async with PortalAtWork(tmp_path) as work, work.api() as api:
        async with locked(work, engine):
            await is_unavailable(await api.post("instances", json={"image": "jupyterlab"}))
            assert (await api.get("instances")).status == 200, "reading goes on"
        assert (await api.post("instances", json={"image": "jupyterlab"})).status == 201


@asynccontextmanager
async def refusing(engine):
    """The portal's database is read as ever, and takes nothing: its disk is full, or mounted so."""
    if engine.is_postgresql:
        async with engine.no_room("portal"):
            yield
    else:
        await connection("portal").execute_query("PRAGMA query_only=ON")
        try:
            yield
        finally:
            await connection("portal").execute_query("PRAGMA query_only=OFF")


async def test_who_only_reads_is_answered_by_a_database_that_takes_nothing(work, engine, caplog):
    """That a session or a token is in use is noted when it is read, and must not fail it."""
    async with work.api() as api, work.browser() as browser:
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        work.clock.ahead = 120
        at = work.clock()
        async with refusing(engine):
            for _ in range(3):
                assert (await api.get("instances")).status == 200
                assert (await browser.get("/")).status == 200
            await is_unavailable(await api.post("instances", json={"image": "jupyterlab"}))
            started = await browser.submit("/start", csrf=csrf, image="jupyterlab")
            assert started.status == 503
            assert caplog.text.count("what is used is not written down") == 1
            work.clock.ahead += 61
            assert (await api.get("whoami")).status == 200
            assert caplog.text.count("what is used is not written down") == 2, "once a minute"
        assert (await Session.get()).used_at < at
        work.clock.ahead += 61
        assert (await browser.get("/")).status == 200
        assert (await api.get("whoami")).status == 200
        assert (await Session.get()).used_at > at, "noted again by itself"
        assert (await ApiToken.get()).used_at > at
        assert (await Person.get(id="admin")).seen_at > at


async def test_disk_full_it_says_try_again_and_goes_on(tmp_path, engine, caplog):
    """security.md, section 5: disk full: a clear error, nothing corrupt, on when there is room."""
    wanted = {"image": IMAGE, "name": "x" * 100}
    async with (
        PortalAtWork(
            tmp_path,
            Limits(
                instances_per_person=1000,
                instances_at_once_per_person=1000,
                starts_per_minute_per_person=1000,
            ),
        ) as work,
        work.api() as api,
        work.scheduler() as scheduler,
    ):
        made = []
        async with engine.no_room("portal"):
            while (answer := await api.post("instances", json=wanted)).status == 201:
                made.append(answer.json["id"])
            await is_unavailable(answer)
        assert engine.no_room_text in caplog.text
        made.append((await api.post("instances", json=wanted)).json["id"])
        listed = [found["id"] for found in (await api.get("instances")).json]
        assert sorted(listed) == sorted(made), "all of an instance, or nothing"
        orders = [(await scheduler.message(StartInstance)).instance for _ in made]
        assert orders == made


@pytest.mark.parametrize("engine", OWN, indirect=True)
async def test_gone_and_back_nothing_is_lost(work, engine, caplog):
    async with work.api() as api, work.browser() as browser:
        await browser.log_in(await work.login_link())
        id = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        published = await api.get(f"{work.url}/routers/main/ssh-keys")
        with engine.gone(work.database):
            await is_unavailable(await api.post("instances", json={"image": "jupyterlab"}))
            await is_unavailable(await api.get("instances"))
            page = await browser.get("/")
            assert (page.status, "try again" in page.text.lower()) == (503, True)
            again = await api.get(f"{work.url}/routers/main/ssh-keys")
            assert (again.status, again.text) == (200, published.text), "what is signed, serves"
            await work.portal._services.registry.write_seen()
            assert "does not work" in await work.portal.checks["database"]()
        assert await work.portal.checks["database"]() == ""
        assert (await browser.get("/")).status == 200, "still logged in, at once"
        assert [found["id"] for found in (await api.get("instances")).json] == [id]
        assert (await api.post("instances", json={"image": "jupyterlab"})).status == 201
        async with work.scheduler() as scheduler:
            assert (await scheduler.message(StartInstance)).instance == id
        assert "Traceback" not in caplog.text, "a line for each request that failed"


async def test_names_with_any_unicode_and_what_no_text_can_have(work):
    async with work.api() as api, work.scheduler() as scheduler:
        for path in ("a%00b", "%ED%A0%80", "x" * 3000, "é", "\N{PILE OF POO}"):
            assert (await api.get(f"instances/{path}")).status in (400, 404), path[:10]
        name = "Ada \N{SNOWMAN} الكويت 𝔘"
        made = await api.post("instances", json={"image": IMAGE, "name": name})
        assert (made.status, made.json["name"]) == (201, name)
        await scheduler.message(StartInstance)
        await scheduler.tell(
            InstanceReport(
                instance=made.json["id"],
                sequence=1,
                state=State.ERRORED,
                info="it said \0",
                log_tail="a\0b",
            )
        )
        found = (await api.get(f"instances/{made.json['id']}")).json
        assert (found["state"], found["info"][:8]) == ("errored", "it said ")
