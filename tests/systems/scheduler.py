"""A scheduler in a process of its own, to be killed; run as a program by :class:`Process`."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from dit4c_p2p.database import databases
from dit4c_p2p.identity.keys import load_or_create
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.scheduler import Scheduler, SchedulerConfig, scheduler_database


class Process:
    """``start`` returns when it serves; ``kill`` is ``kill -9``."""

    def __init__(
        self,
        name: PeerName,
        folder: Path,
        portal: PortalInfo,
        routers: Sequence[RouterInfo],
        nodes: Sequence[str],
    ) -> None:
        # Not for the program, which has no folder of tests to import from.
        from lib import database_engines

        self._settings = {
            "name": str(name),
            "folder": str(folder),
            "portal": msgspec.to_builtins(portal),
            "routers": msgspec.to_builtins(list(routers)),
            "nodes": list(nodes),
            "database": str(database_engines.database("scheduler", folder).location),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            json.dumps(self._settings),
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 20)
        assert line == b"serving\n", line

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        await asyncio.wait_for(self._process.wait(), 10)


async def _serve(settings: dict[str, Any]) -> None:
    folder = Path(settings["folder"])
    config = SchedulerConfig(
        name=PeerName.parse(settings["name"]),
        key=load_or_create(folder / "key"),
        data_folder=folder,
        portal=msgspec.convert(settings["portal"], PortalInfo),
        routers=msgspec.convert(settings["routers"], list[RouterInfo]),
        nodes=settings["nodes"],
    )
    async with databases([scheduler_database(folder, settings["database"])]):
        scheduler = Scheduler(config)
        await scheduler.start()
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, lambda: asyncio.ensure_future(scheduler.stop())
        )
        print("serving", flush=True)
        await scheduler.wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
