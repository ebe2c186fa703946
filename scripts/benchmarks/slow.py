"""Slow visitors beside fast ones: 32 connections of wrk to an instance, alone and beside 500 more.

    wrk, 32 ──▶ router process ══ three listeners ═▶ nginx
    slow, 500 ─┘

- ``slow.readers_p99``   99 % of the fast ones' answers, beside 500 that download 100 MiB each at
                         half a KiB a second, 200 of them from the instance that the fast ones use
- ``slow.senders_p99``   the same beside 500 whose request heads come in a byte a second
- ``slow.memory_mib``    what the router has grown by, at most, and the whole machine's TCP with it:
                         what the kernel holds for slow visitors is in no process's memory

The slow ones are measured beside once the router has taken for them what it takes.

``ours`` is with the slow ones, ``peer`` is without them. Rounds in turn; medians are compared.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from fakes.registry import RegistryPortal
from parts.ours import Ports, introduce, start_listener, start_router
from parts.processes import Processes, line_of, need, output_of, resident_kib
from parts.rows import Row, show, write
from systems.nginx import Nginx

from dit4c_p2p.identity.keys import generate
from dit4c_p2p.identity.names import PeerName

Process = asyncio.subprocess.Process

ROUNDS = 3
RUN_S = 6
LEAST_ANSWERS = 100
SLOW = 500
# A tunnel takes 256 channels; the fast ones need 32 of their own.
SLOW_ON_THE_SAME = 200
FAST = "bench"
ADDRESSES = 100
OTHERS = ("slow1", "slow2")
DOWNLOAD_MIB = 100
NEEDED = {"nginx": "nginx-light", "wrk": "wrk"}  # program → Debian package
TIMES_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
TARGET = """
  server {{
    listen unix:{folder}/auth.sock proxy_protocol;
    root {folder}/www;
    location = /.dit4c/alive {{ return 200; }}
    keepalive_requests 1000000000;
  }}
"""
READ_BYTES = 512
STEP_S = 1.0
SETTLE_S = 60.0
BEGUN_LIMIT_S = 60.0
MAX_RATIO = 2.0
MAX_MIB = 256.0
HEAD = "GET /100m HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nX-Filler: "


# ---- the slow ones, in a process of their own


async def slow(kind: str, port: int, hosts: list[str]) -> None:
    """Be slow until ended; says so once all are at it."""
    uses = [hosts[0]] * SLOW_ON_THE_SAME
    uses += [hosts[1 + n % (len(hosts) - 1)] for n in range(SLOW - len(uses))]
    begun = asyncio.Semaphore(0)
    work = {"readers": read_slowly, "senders": send_slowly}[kind]
    async with asyncio.TaskGroup() as group:
        for number, host in enumerate(uses):
            group.create_task(work(port, host, number, begun))
        for _ in uses:
            await begun.acquire()
        print("begun", flush=True)


async def connect(port: int, number: int) -> socket.socket:
    """A connection with as little room for what arrives as the kernel gives.

    They come from many addresses: one has few places, and this is about what those cost.
    """
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((f"127.0.1.{1 + number % ADDRESSES}", 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def read_slowly(port: int, host: str, number: int, begun: asyncio.Semaphore) -> None:
    """Ask for 100 MiB and take half a KiB a second."""
    loop = asyncio.get_running_loop()
    sock = await connect(port, number)
    await loop.sock_sendall(sock, (HEAD.format(host=host) + "x\r\n\r\n").encode())
    data = await loop.sock_recv(sock, READ_BYTES)
    if not data.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"a slow reader of {host} got {data!r}")
    begun.release()
    await asyncio.sleep(STEP_S * number / SLOW)
    while data:
        await asyncio.sleep(STEP_S)
        data = await loop.sock_recv(sock, READ_BYTES)
    raise SystemExit("a slow reader was cut off")


async def send_slowly(port: int, host: str, number: int, begun: asyncio.Semaphore) -> None:
    """Send a head a byte a second; when the router has had enough, begin again."""
    loop = asyncio.get_running_loop()
    first = True
    while True:
        sock = await connect(port, number)
        with contextlib.suppress(ConnectionError), sock:
            await loop.sock_sendall(sock, HEAD.format(host=host).encode())
            if first:
                begun.release()
                await asyncio.sleep(STEP_S * number / SLOW)
            first = False
            while True:
                await asyncio.sleep(STEP_S)
                await loop.sock_sendall(sock, b"x")


# ---- the house


async def start_instance(
    processes: Processes, folder: Path, portal: RegistryPortal, ports: Ports, label: str
) -> None:
    """An instance: its listener, in front of the one nginx."""
    name = PeerName.parse(f"instance-{label}")
    portal.publish(name, key := generate())
    pod = folder / label
    pod.mkdir(mode=0o700)
    (pod / "auth.sock").symlink_to(folder / "auth.sock")
    await start_listener(processes, pod, portal, ports, name, key)


@contextlib.asynccontextmanager
async def the_slow_ones(kind: str, port: int, folder: Path) -> AsyncIterator[None]:
    """All 500 at work."""
    hosts = [f"{label}.localhost" for label in (FAST, *OTHERS)]
    processes = Processes()
    try:
        process = await processes.start(
            *(sys.executable, __file__, "--slow", kind, "--port", str(port), *hosts),
            log=folder / f"{kind}.log",
            talks=True,
        )
        await line_of(process, f"the slow {kind}", BEGUN_LIMIT_S)
        yield
        if process.returncode is not None:
            raise SystemExit(f"{kind}: {(folder / f'{kind}.log').read_text()[-500:]}")
    finally:
        await processes.end()


async def fast_p99_ms(port: int) -> float:
    """99 % of the answers of 32 connections came within so many milliseconds.

    Where next to none came, wrk knows no latency and says 0: that counts as the whole run.
    """
    output = await output_of(
        *("wrk", "-t1", "-c32", f"-d{RUN_S}s", "--latency"),
        *("-H", f"Host: {FAST}.localhost", f"http://127.0.0.1:{port}/1k"),
    )
    if trouble := re.search(r"Non-2xx.*", output):
        raise SystemExit(f"the fast ones: {trouble[0]}")
    found = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    answers = re.search(r"(\d+) requests in", output)
    assert found and answers, output
    if int(answers[1]) < LEAST_ANSWERS or not float(found[1]):
        print(f"only {answers[1]} answers in {RUN_S} s", file=sys.stderr, flush=True)
        return RUN_S * 1000.0
    return float(found[1]) * TIMES_MS[found[2]]


def kernel_mib() -> float:
    """What all TCP of the machine holds in the kernel now, others' included."""
    found = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    return int(found[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2 if found else 0.0


def resident_mib(process: Process) -> float:
    """What it has in memory now."""
    return resident_kib(process.pid) / 1024


async def settled(process: Process) -> None:
    """Until it has stopped growing."""
    async with asyncio.timeout(SETTLE_S):
        last = -1.0
        while resident_mib(process) > last + 1:
            last = resident_mib(process)
            await asyncio.sleep(2)


async def measure(router: Process, port: int, folder: Path) -> tuple[dict[str, list[float]], float]:
    """The fast ones' figures by who else is there, and by how much memory has grown."""
    found: dict[str, list[float]] = {"alone": [], "readers": [], "senders": []}
    await fast_p99_ms(port)
    before = most = resident_mib(router) + kernel_mib()
    for turn in range(ROUNDS):
        print(f"round {turn + 1} of {ROUNDS} …", file=sys.stderr, flush=True)
        found["alone"].append(await fast_p99_ms(port))
        for kind in ("readers", "senders"):
            async with the_slow_ones(kind, port, folder):
                await settled(router)
                found[kind].append(await fast_p99_ms(port))
                now = resident_mib(router) + kernel_mib()
                print(
                    f"{kind}: {found[kind][-1]:.1f} ms beside {found['alone'][-1]:.1f} ms, "
                    f"router {resident_mib(router):.0f} MiB, kernel {kernel_mib():.0f} MiB",
                    file=sys.stderr,
                    flush=True,
                )
                most = max(most, now)
    return found, most - before


def rows_of(found: dict[str, list[float]], grown_mib: float) -> list[Row]:
    """Beside what the fast ones have when they are alone, and beside the goal."""
    alone = statistics.median(found["alone"])
    rows = [
        Row(f"slow.{kind}_p99", statistics.median(found[kind]), alone, "ms", "lower", MAX_RATIO)
        for kind in ("readers", "senders")
    ]
    return [*rows, Row("slow.memory_mib", grown_mib, MAX_MIB, "MiB", "lower")]


async def bench(json_file: Path | None) -> None:
    """Measure, print, and write ``json_file``."""
    with tempfile.TemporaryDirectory(prefix="dit4c-slow-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "www").mkdir()
        (folder / "www" / "1k").write_bytes(os.urandom(512).hex().encode())
        (folder / "www" / "100m").write_bytes(bytes(DOWNLOAD_MIB * 1024 * 1024))
        processes = Processes()
        async with RegistryPortal(heartbeat_s=3) as portal:
            with Nginx(folder / "nginx", TARGET.format(folder=folder)):
                try:
                    introduce(folder, portal)
                    router, ports = await start_router(processes, folder)
                    for label in (FAST, *OTHERS):
                        await start_instance(processes, folder, portal, ports, label)
                    found, grown_mib = await measure(router, ports[0], folder)
                finally:
                    await processes.end()
    rows = rows_of(found, grown_mib)
    show(rows)
    write(rows, json_file)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench slow", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--slow", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("hosts", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.slow:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        uvloop.run(slow(arguments.slow, arguments.port, arguments.hosts))
        return
    need(NEEDED)
    # The portal's streams of key events are cut when those who follow them are ended.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(bench(arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
