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
import json
import os
import re
import shutil
import signal
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import uvloop

from dit4c_p2p.helpers.pod import FOLDER_VARIABLE
from dit4c_p2p.identity.keys import generate, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.pod import HelperState, HelperStatus, PodConfig
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.router import Router, RouterConfig

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from support.nginx import Nginx
from support.registry import RegistryPortal

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


async def start(folder: Path, label: str, *arguments: str, **environment: str) -> Process:
    """A program of ours, in a process of its own, whose output is kept for us to read."""
    with (folder / f"{label}.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, **environment},
        )


async def end(*processes: Process) -> None:
    """Each by its own id."""
    for process in processes:
        if process.returncode is None:
            process.terminate()
    for process in processes:
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def said(process: Process, folder: Path, label: str) -> bytes:
    """The next line of its output.

    :raises SystemExit: there is none in time.
    """
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            if line := await process.stdout.readline():
                return line
    except TimeoutError:
        pass
    raise SystemExit(f"{label}: {(folder / f'{label}.log').read_text()[-500:]}")


async def serve_router(folder: Path) -> None:
    """The router's process: prints its two ports and serves until it is ended."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    router = Router(
        RouterConfig(
            name=PeerName.parse("router-main"),
            key=asyncssh.read_private_key(folder / "router_key"),
            http=(("127.0.0.1", 0),),
            ssh=(("127.0.0.1", 0),),
            portal=decode((folder / "portal.json").read_bytes(), PortalInfo),
            user_url="http://{id}.localhost:8081/",
            data_folder=folder / "router",
        )
    )
    await router.start()
    print(router.http_port, router.ssh_port, flush=True)
    await told.wait()
    await router.stop()


async def start_router(folder: Path, portal: RegistryPortal) -> tuple[Process, int, RouterInfo]:
    """The router, the port of its HTTP side, and where it is found."""
    portal.publish(PeerName.parse("router-main"), key := generate())
    write_private(folder / "router_key", key)
    (folder / "portal.json").write_bytes(encode(portal.info))
    process = await start(folder, "router", __file__, "--router", str(folder))
    http, ssh = map(int, (await said(process, folder, "router")).split())
    info = RouterInfo(name="router-main", ssh=[f"127.0.0.1:{ssh}"], http=[f"127.0.0.1:{http}"])
    return process, http, info


async def start_listener(
    folder: Path, portal: RegistryPortal, router: RouterInfo, label: str
) -> Process:
    """An instance: its listener, in front of the one nginx."""
    name = PeerName.parse(f"instance-{label}")
    portal.publish(name, key := generate())
    pod = folder / label
    pod.mkdir(mode=0o700)
    (pod / "auth.sock").symlink_to(folder / "auth.sock")
    write_private(pod / "key", key)
    config = PodConfig(
        instance=str(name),
        url=f"http://{label}.localhost:8081/",
        app_port=80,
        portal=portal.info,
        routers=[router],
    )
    (pod / "config.json").write_bytes(encode(config))
    program = ("-m", "dit4c_p2p.helpers.listener")
    process = await start(folder, label, *program, **{FOLDER_VARIABLE: str(pod)})
    while True:
        line = await said(process, folder, label)
        if decode(line, HelperStatus).state is HelperState.PUBLISHED:
            return process


@contextlib.asynccontextmanager
async def the_slow_ones(kind: str, port: int, folder: Path) -> AsyncIterator[None]:
    """All 500 at work."""
    hosts = [f"{label}.localhost" for label in (FAST, *OTHERS)]
    process = await start(folder, kind, __file__, "--slow", kind, "--port", str(port), *hosts)
    try:
        await said(process, folder, kind)
        yield
        if process.returncode is not None:
            raise SystemExit(f"{kind}: {(folder / f'{kind}.log').read_text()[-500:]}")
    finally:
        await end(process)


async def output_of(*command: str) -> str:
    """What a program prints.

    :raises SystemExit: it fails.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        await end(process)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {output.decode(errors='replace').strip()}")
    return output.decode()


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
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


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


def results(found: dict[str, list[float]], grown_mib: float) -> list[dict[str, object]]:
    """As ``--json`` writes them."""
    alone = statistics.median(found["alone"])
    rows: list[dict[str, object]] = []
    for kind in ("readers", "senders"):
        p99 = statistics.median(found[kind])
        rows.append(
            {
                "name": f"slow.{kind}_p99",
                "ours": round(p99, 2),
                "peer": round(alone, 2),
                "ratio": round(p99 / alone, 2),
                "unit": "ms",
                "better": "lower",
            }
        )
    rows.append(
        {
            "name": "slow.memory_mib",
            "ours": round(grown_mib, 1),
            "peer": MAX_MIB,
            "ratio": round(grown_mib / MAX_MIB, 2),
            "unit": "MiB",
            "better": "lower",
        }
    )
    return rows


async def bench(json_file: Path | None) -> None:
    """Measure, print, and write ``json_file``."""
    with tempfile.TemporaryDirectory(prefix="dit4c-slow-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "www").mkdir()
        (folder / "www" / "1k").write_bytes(os.urandom(512).hex().encode())
        (folder / "www" / "100m").write_bytes(bytes(DOWNLOAD_MIB * 1024 * 1024))
        async with RegistryPortal(heartbeat_s=3) as portal:
            with Nginx(folder / "nginx", TARGET.format(folder=folder)):
                router, port, info = await start_router(folder, portal)
                processes = [router]
                try:
                    for label in (FAST, *OTHERS):
                        processes.append(await start_listener(folder, portal, info, label))
                    found, grown_mib = await measure(router, port, folder)
                finally:
                    await end(*reversed(processes))
    rows = results(found, grown_mib)
    for row in rows:
        goal = 1.0 if row["name"] == "slow.memory_mib" else MAX_RATIO
        ratio = row["ratio"]
        assert isinstance(ratio, float)
        print(
            f"{row['name']:<18}with {row['ours']:>8} {row['unit']:<4}without {row['peer']:>8}   "
            f"ratio {ratio:<6} goal ≤ {goal} {'met' if ratio <= goal else 'MISSED'}"
        )
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2) + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench slow", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--router", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--slow", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("hosts", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.slow:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        uvloop.run(slow(arguments.slow, arguments.port, arguments.hosts))
        return
    if arguments.router:
        uvloop.run(serve_router(arguments.router))
        return
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        raise SystemExit(f"missing programs; install them: apt-get install {' '.join(missing)}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(bench(arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
