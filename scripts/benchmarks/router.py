"""Our router and helpers beside OpenSSH and nginx, to the same nginx, all on this machine.

    router   peer   wrk ─▶ nginx ═ sshd ══ ssh -R ═▶ target
             ours   wrk ─▶ router ═════ listener ═▶ target
    path     peer   wrk ─▶ nginx ═ sshd ══ ssh -R ═▶ nginx ─▶ app
             ours   wrk ─▶ router ═════ listener ═▶ auth helper ─▶ app

Each box is a process; target and app are one nginx; ═▶ is a Unix socket. Both ends of both tunnels
speak aes128-gcm@openssh.com. The peer is measured without and with connections kept into its
tunnel, and the better one counts. Several rounds in turn; medians are compared.

- ``rps32``      requests of 1 KiB a second over 32 connections (wrk); by the path each request
                 carries a session's cookie, which the auth helper checks
- ``latency1``   mean time of a request of 1 KiB over one connection, as wrk reports it: the peer's
                 is mostly waiting (Nagle's algorithm), which its median doesn't show; the median is
                 printed beside it
- ``download``   one download of 100 MiB (curl)
- ``ws_echo``    WebSocket round trips of 64 bytes a second over 32 connections

Then 1,000 tunnels into one router:

- ``tunnel.idle_kib``          resident memory of an idle one, at the end that needs more; each end
                               is a row of its own beside it
- ``tunnel.reconnect1000_s``   from the router's end until all are back at its successor

The listener is the real one and sends a PROXY v2 header, which the target is told to expect.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))

import asyncssh
from fakes.oauth_portal import OAuthPortal
from parts import loads, peer, tunnels
from parts.ours import (
    DIRECT,
    THROUGH,
    introduce,
    start_echo,
    start_helpers,
    start_listener,
    start_router,
)
from parts.peer import Contestant
from parts.processes import Processes, need
from parts.rows import Row, beside, show, write

from dit4c_p2p.identity.keys import generate

ROUNDS = 5
WARM_UP_S = 1
MANY_S = 3
ONE_S = 2
ECHO_S = 3
DOWNLOADS = 4
PARTS = ("router", "path", "tunnel")


@dataclass(frozen=True)
class Figure:
    """A figure of a part, and the ratio it is held to."""

    part: str
    name: str
    unit: str
    better: str
    ratio: float


FIGURES = [
    Figure("router", "rps32", "requests/s", "higher", 2.5),
    Figure("router", "latency1", "ms", "lower", 0.3),
    Figure("router", "download", "MB/s", "higher", 1.1),
    Figure("path", "rps32", "requests/s", "higher", 1.0),
    Figure("path", "download", "MB/s", "higher", 0.9),
    Figure("path", "ws_echo", "echoes/s", "higher", 1.0),
]
IDLE_GOAL_KIB = 40
RECONNECT_GOAL_S = 10


@dataclass
class Measured:
    """What one contestant reached, a figure for each round."""

    rps32: list[float] = field(default_factory=list)
    latency1: list[float] = field(default_factory=list)
    median1: list[float] = field(default_factory=list)
    download: list[float] = field(default_factory=list)
    ws_echo: list[float] = field(default_factory=list)


async def measure(part: str, to: Contestant, into: Measured) -> None:
    """One round."""
    await loads.wrk(to, 32, WARM_UP_S)
    into.rps32.append((await loads.wrk(to, 32, MANY_S))[0])
    if part == "router":
        _, mean, median = await loads.wrk(to, 1, ONE_S)
        into.latency1.append(mean)
        into.median1.append(median)
    else:
        into.ws_echo.append(await loads.echoes(to, ECHO_S))
    into.download.append(statistics.median([await loads.download(to) for _ in range(DOWNLOADS)]))


@contextlib.asynccontextmanager
async def standing(
    folder: Path, portal: OAuthPortal, key: asyncssh.SSHKey, parts: list[str]
) -> AsyncIterator[dict[str, list[Contestant]]]:
    """The contestants of each part, ours last; everything is ended on the way out."""
    processes = Processes()
    try:
        app = await peer.start_target(processes, folder)
        await start_echo(processes, folder)
        await peer.start_tunnel(processes, folder, app)
        introduce(folder, portal)
        _, ports = await start_router(processes, folder)
        contestants = {}
        if "router" in parts:
            fronts = await peer.start_fronts(processes, folder, "direct")
            portal.publish(DIRECT, direct_key := generate())
            pod = folder / "pod"
            ours = await start_listener(processes, pod, portal, ports, DIRECT, direct_key)
            contestants["router"] = [*fronts, ours]
        if "path" in parts:
            fronts = await peer.start_fronts(processes, folder, "through")
            pod = folder / "path-pod"
            pod.mkdir(mode=0o700)
            ours = await start_helpers(processes, pod, portal, ports, THROUGH, key, app)
            contestants["path"] = [*fronts, ours]
        yield contestants
    finally:
        await processes.end()


def rows_of(part: str, contestants: list[Contestant], measured: list[Measured]) -> list[Row]:
    """Print the medians of each; our rows."""
    columns = [name for name, values in vars(measured[0]).items() if values]
    print(f"{part:<18}" + "".join(f"{name:>12}" for name in columns))
    for to, each in zip(contestants, measured, strict=True):
        medians = [statistics.median(getattr(each, name)) for name in columns]
        print(f"{to.name:<18}" + "".join(f"{value:>12.3f}" for value in medians))
    print()
    return [
        beside(
            f"{part}.{figure.name}",
            figure.unit,
            figure.better,
            figure.ratio,
            ours=getattr(measured[-1], figure.name),
            peers=[getattr(each, figure.name) for each in measured[:-1]],
        )
        for figure in FIGURES
        if figure.part == part
    ]


def rows_of_tunnels(measured: tunnels.Measured) -> list[Row]:
    """Our rows, each beside its goal."""
    kib = {"router": measured.router_kib, "listener": measured.listener_kib}
    rows = [Row("tunnel.idle_kib", max(kib.values()), IDLE_GOAL_KIB, "KiB", "lower")]
    rows += [
        Row(f"tunnel.idle_kib.{end}", one, IDLE_GOAL_KIB, "KiB", "lower")
        for end, one in kib.items()
    ]
    reconnect_s = measured.reconnect_s
    return [*rows, Row("tunnel.reconnect1000_s", reconnect_s, RECONNECT_GOAL_S, "s", "lower")]


def say(text: str) -> None:
    """How it goes on, to whoever waits."""
    print(text, file=sys.stderr, flush=True)


async def bench(parts: list[str], rounds: int, json_file: Path | None) -> None:
    """Measure, print, and write ``json_file``."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    rows: list[Row] = []
    key = generate()
    with tempfile.TemporaryDirectory(prefix="dit4c-bench-") as name:
        async with OAuthPortal(THROUGH, key) as portal:
            if {"router", "path"} & set(parts):
                async with standing(Path(name), portal, key, parts) as contestants:
                    measured = {
                        part: [Measured() for _ in them] for part, them in contestants.items()
                    }
                    for turn in range(rounds):
                        say(f"round {turn + 1} of {rounds} …")
                        for part, them in contestants.items():
                            for to, into in zip(them, measured[part], strict=True):
                                await measure(part, to, into)
                for part, them in contestants.items():
                    rows += rows_of(part, them, measured[part])
            if "tunnel" in parts:
                rows += rows_of_tunnels(await tunnels.measure(Path(name) / "tunnels", portal, say))
    show(rows)
    write(rows, json_file)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench router", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} unless given")
    parser.add_argument("--only", choices=PARTS, action="append", help="these rows only")
    arguments = parser.parse_args()
    need(peer.NEEDED | loads.NEEDED)
    # The portal's streams of key events are cut when those who follow them are ended.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(bench(arguments.only or list(PARTS), arguments.rounds, arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
