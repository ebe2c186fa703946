"""A thousand tunnels into a router of their own: what an idle one costs, and how all come back.

The tunnels are those of a thousand instances, held by one process, each from a loopback address of
its own, as instances are on many machines: a router bears few logins at once from one address.

    tunnels.py FOLDER      the holder: says "all" whenever every tunnel listens

FOLDER holds ``router.json``, ``portal.json`` and ``keys/NAME``.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import uvloop

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.overlay.client import ListeningAtRouters, ListenState
from dit4c_p2p.overlay.ssh_options import PACKET_BYTES, WINDOW_BYTES, Identity

COUNT = 1000
# Tunnels that stood this long count as good: they come back as fast as they can.
STAND_S = 31
SETTLE_S = 5
ALL_LIMIT_S = 120


@dataclass(frozen=True)
class Measured:
    """What a thousand tunnels take; a KiB figure for each end."""

    router_kib: float
    listener_kib: float
    connect_s: float
    reconnect_s: float


async def measure(folder: Path, portal: Any, say: Callable[[str], None]) -> Measured:
    """Hold them, let them idle, restart the router under them.

    :param portal: where the names are published.
    :raises SystemExit: something does not come up.
    """
    from dit4c_p2p.identity.keys import generate, write_private
    from parts.ours import introduce, router_info, start_router
    from parts.processes import Processes, resident_kib

    folder.mkdir()
    introduce(folder, portal)
    (folder / "keys").mkdir()
    for number in range(COUNT + 1):
        name, key = PeerName.parse(f"instance-t{number:04}"), generate()
        portal.publish(name, key)
        write_private(folder / "keys" / str(name), key)
    processes = Processes()
    try:
        router, ports = await start_router(processes, folder)
        (folder / "router.json").write_bytes(encode(router_info(ports)))
        holder = await processes.start(
            sys.executable, __file__, str(folder), log=folder / "tunnels.log", talks=True
        )
        await _expect(holder, "first")
        before = resident_kib(router.pid), resident_kib(holder.pid)
        since = time.monotonic()
        holder.send_signal(signal.SIGUSR1)
        await _expect(holder, "all")
        connect_s = time.monotonic() - since
        say(f"{COUNT} tunnels after {connect_s:.1f} s; letting them stand …")
        await asyncio.sleep(SETTLE_S)
        after = resident_kib(router.pid), resident_kib(holder.pid)
        await asyncio.sleep(STAND_S - SETTLE_S)
        await processes.end_one(router)
        since = time.monotonic()
        router, _ = await start_router(processes, folder, ports)
        await _expect(holder, "all")
        reconnect_s = time.monotonic() - since
        say(f"{COUNT} tunnels again {reconnect_s:.1f} s after the router ended")
        costs = [(now - then) / COUNT for now, then in zip(after, before, strict=True)]
        return Measured(costs[0], costs[1], connect_s, reconnect_s)
    finally:
        await processes.end()


async def _expect(holder: asyncio.subprocess.Process, word: str) -> None:
    from parts.processes import line_of

    while await line_of(holder, "the holder of the tunnels", ALL_LIMIT_S) != word:
        continue


# ---- the holder


class Holder:
    """Keeps tunnels, and says when the last one listens."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self._folder = folder
        self._registry = registry
        self._router = decode((folder / "router.json").read_bytes(), RouterInfo)
        self._listening: set[str] = set()
        self._held: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def hold(self, paths: list[Path], word: str) -> None:
        """Hold these as well; say ``word`` whenever all that are held listen."""
        self._word = word
        self._held |= {path.name for path in paths}
        for path in paths:
            self._tasks.append(asyncio.create_task(self._keep(path), name=path.name))

    async def end(self) -> None:
        """Let go of all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, path: Path) -> None:
        identity = Identity(PeerName.parse(path.name), asyncssh.read_private_key(path))

        async def bind(connection: asyncssh.SSHClientConnection) -> asyncssh.SSHListener:
            return await connection.create_server(
                lambda host, port: _Nothing(),
                path.name,
                80,
                encoding=None,
                window=WINDOW_BYTES,
                max_pktsize=PACKET_BYTES,
            )

        def on_state(router: RouterInfo, state: ListenState, text: str) -> None:
            if state is not ListenState.LISTENING:
                self._listening.discard(path.name)
                return
            self._listening.add(path.name)
            if self._listening == self._held:
                print(self._word, flush=True)

        await ListeningAtRouters(identity, [self._router], self._registry, bind, on_state).run()


class _Nothing(asyncssh.SSHTCPSession[bytes]):
    """Nobody visits these."""


def _own_addresses() -> None:
    """Have each tunnel come from an address of its own, 127.1.0.1 and up."""
    connect = asyncssh.connect

    async def from_own(*args: Any, **options: Any) -> asyncssh.SSHClientConnection:
        number = int(options["username"].removeprefix("instance-t"))
        options["local_addr"] = (f"127.1.{number // 250}.{number % 250 + 1}", 0)
        return await connect(*args, **options)

    asyncssh.connect = from_own  # type: ignore[assignment]


async def hold(folder: Path) -> None:
    """One tunnel, then at SIGUSR1 all; until SIGTERM."""
    loop = asyncio.get_running_loop()
    more, told = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, more.set)
    loop.add_signal_handler(signal.SIGTERM, told.set)
    _own_addresses()
    portal = decode((folder / "portal.json").read_bytes(), PortalInfo)
    async with PortalClient(portal) as client:
        registry = Registry(client, None)
        following = asyncio.create_task(registry.run(), name="registry")
        holder = Holder(folder, registry)
        paths = sorted((folder / "keys").iterdir())
        holder.hold(paths[:1], "first")
        await more.wait()
        holder.hold(paths[1:], "all")
        await told.wait()
        following.cancel()
        await holder.end()
        await asyncio.gather(following, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(hold(Path(sys.argv[1])))
