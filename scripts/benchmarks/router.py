"""Our router and listener beside OpenSSH and nginx, to the same nginx, all on this machine.

    peer   wrk ─▶ nginx ─▶ Unix socket ═ sshd ══ ssh -R ═▶ Unix socket ─▶ nginx
    ours   wrk ─▶ router process ═══════════ listener process ═▶ Unix socket ─▶ nginx

Both ends of both speak aes128-gcm@openssh.com. The peer is measured without and with keepalive
between nginx and sshd, and the better one counts. Several rounds in turn; medians are compared.

- ``router.rps32``     requests of 1 KiB a second over 32 connections (wrk)
- ``router.latency1``  mean time of a request of 1 KiB over one connection, as wrk reports it: the
                       peer's is mostly waiting (Nagle's algorithm), which its median doesn't show;
                       the median is printed beside it
- ``router.download``  one download of 100 MiB (curl)

The listener is the real one and sends a PROXY v2 header, which nginx is told to expect.
"""

import argparse
import asyncio
import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import uvloop

from dit4c_p2p.identity.keys import generate, public_line, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.pod import HelperState, HelperStatus, PodConfig
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.router import Router, RouterConfig

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from support.registry import RegistryPortal

ROUNDS = 5
WARM_UP_S = 1
MANY_S = 3
ONE_S = 2
DOWNLOADS = 4
DOWNLOAD_BYTES = 100 * 1024 * 1024
CIPHER = "aes128-gcm@openssh.com"
SBIN = "/usr/sbin:/sbin"
# program → Debian package
NEEDED = {"nginx": "nginx-light", "sshd": "openssh-server", "ssh": "openssh-client"} | {
    "wrk": "wrk",
    "curl": "curl",
}
TIMES_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass
class Measured:
    """What one contestant reached, a figure for each round."""

    rps32: list[float] = field(default_factory=list)
    latency1: list[float] = field(default_factory=list)
    median1: list[float] = field(default_factory=list)
    download: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Contestant:
    """A way to the target: where it is reached and under which host name."""

    name: str
    port: int
    host: str = "127.0.0.1"


class Processes:
    """Every process that was started here, ended by its own id."""

    def __init__(self) -> None:
        self._running: list[asyncio.subprocess.Process] = []

    async def start(
        self, *command: str, log: Path, env: dict[str, str] | None = None, talks: bool = False
    ) -> asyncio.subprocess.Process:
        """Start one; ``log`` gets what it says, but for what ``talks`` keeps on its output."""
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if talks else file,
                stderr=file,
                env={**os.environ, **(env or {})},
            )
        self._running.append(process)
        return process

    async def end(self) -> None:
        """End them, the last one first."""
        for process in reversed(self._running):
            if process.returncode is None:
                process.terminate()
        for process in self._running:
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def free_port() -> int:
    """A TCP port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(what: str, ready: Callable[[], Awaitable[bool]], limit_s: float = 15) -> None:
    """Wait until ``ready`` says so.

    :raises SystemExit: it did not in ``limit_s``.
    """
    end = time.monotonic() + limit_s
    while not await ready():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come up in {limit_s:.0f} s")
        await asyncio.sleep(0.05)


async def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


# ---- what is reached, and the two ways to it


NGINX = """
daemon off; worker_processes auto; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
{user}
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp;
  fastcgi_temp_path {folder}/tmp; uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  {body}
}}
"""

TARGET = """
  server {{
    listen unix:{folder}/pod/auth.sock proxy_protocol;
    listen unix:{folder}/plain.sock;
    root {folder}/www;
    location = /.dit4c/alive {{ return 200; }}
  }}
"""

FRONT = """
  upstream kept {{ server unix:{folder}/front.sock; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{plain};
    location / {{ proxy_pass http://unix:{folder}/front.sock; }}
  }}
  server {{
    listen 127.0.0.1:{kept};
    location / {{
      proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
"""


async def start_nginx(processes: Processes, folder: Path, name: str, body: str) -> None:
    """One nginx with the servers of ``body``."""
    path = folder / f"{name}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(NGINX.format(folder=folder, name=name, user=user, body=body))
    log = folder / f"{name}.log"
    await processes.start("nginx", "-c", str(path), "-e", str(log), log=log)


async def start_target(processes: Processes, folder: Path) -> None:
    """The nginx that everything leads to."""
    for sub in ("www", "tmp", "pod"):
        (folder / sub).mkdir(mode=0o700)
    (folder / "www" / "1k").write_bytes(os.urandom(512).hex().encode())
    with (folder / "www" / "100m").open("wb") as file:
        for _ in range(DOWNLOAD_BYTES // (1024 * 1024)):
            file.write(os.urandom(1024 * 1024))
    await start_nginx(processes, folder, "target", TARGET.format(folder=folder))

    async def ready() -> bool:
        return (folder / "plain.sock").exists() and (folder / "pod" / "auth.sock").exists()

    await until("nginx", ready)


async def start_peer(processes: Processes, folder: Path) -> list[Contestant]:
    """OpenSSH's server with a reverse forward of a Unix socket, behind nginx."""
    port, plain, kept = free_port(), free_port(), free_port()
    host_key, user_key = generate(), generate()
    write_private(folder / "host_key", host_key)
    write_private(folder / "user_key", user_key)
    (folder / "authorized_keys").write_text(public_line(user_key) + "\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public_line(host_key)}\n")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\n"
        f"PermitRootLogin prohibit-password\nCiphers {CIPHER}\nCompression no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:{SBIN}") or "sshd"
    await processes.start(
        sshd, "-D", "-e", "-f", str(folder / "sshd_config"), log=folder / "sshd.log"
    )
    await until("sshd", lambda: listens(port))
    options = {
        "UserKnownHostsFile": folder / "known_hosts",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "ExitOnForwardFailure": "yes",
        "Ciphers": CIPHER,
        "Compression": "no",
    }
    await processes.start(
        *("ssh", "-F", "none", "-N", "-p", str(port), "-i", str(folder / "user_key")),
        *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
        *("-R", f"{folder}/front.sock:{folder}/plain.sock", f"{getpass.getuser()}@127.0.0.1"),
        log=folder / "ssh.log",
    )

    async def forwarded() -> bool:
        return (folder / "front.sock").exists()

    await until("ssh -R", forwarded)
    body = FRONT.format(folder=folder, plain=plain, kept=kept)
    await start_nginx(processes, folder, "front", body)
    await until("nginx", lambda: listens(kept))
    return [Contestant("OpenSSH + nginx", plain), Contestant("… with keepalive", kept)]


async def start_ours(processes: Processes, folder: Path, portal: RegistryPortal) -> Contestant:
    """A router and a listener, each in a process of its own."""
    portal.publish(PeerName.parse("router-main"), router_key := generate())
    portal.publish(PeerName.parse("instance-bench"), instance_key := generate())
    write_private(folder / "router_key", router_key)
    write_private(folder / "pod" / "key", instance_key)
    (folder / "portal.json").write_bytes(encode(portal.info))
    router = await processes.start(
        sys.executable, __file__, "--router", str(folder), log=folder / "router.log", talks=True
    )
    assert router.stdout is not None
    http_port, ssh_port = map(int, (await router.stdout.readline()).split())
    config = PodConfig(
        instance="instance-bench",
        url=f"http://bench.localhost:{http_port}/",
        app_port=80,
        portal=portal.info,
        routers=[
            RouterInfo(
                name="router-main", ssh=[f"127.0.0.1:{ssh_port}"], http=[f"127.0.0.1:{http_port}"]
            )
        ],
    )
    (folder / "pod" / "config.json").write_bytes(encode(config))
    listener = await processes.start(
        *(sys.executable, "-m", "dit4c_p2p.helpers.listener"),
        log=folder / "listener.log",
        env={"DIT4C_POD_FOLDER": str(folder / "pod")},
        talks=True,
    )
    assert listener.stdout is not None
    try:
        async with asyncio.timeout(20):
            async for line in listener.stdout:
                if decode(line, HelperStatus).state is HelperState.PUBLISHED:
                    break
    except TimeoutError:
        raise SystemExit("the listener did not come up in 20 s") from None
    return Contestant("dit4c-p2p", http_port, f"bench.localhost:{http_port}")


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


# ---- measuring


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
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {output.decode(errors='replace').strip()}")
    return output.decode()


async def wrk(to: Contestant, connections: int, seconds: int) -> tuple[float, float, float]:
    """Requests a second, and the mean and median of the latency in milliseconds."""
    output = await output_of(
        *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"),
        *("-H", f"Host: {to.host}", f"http://127.0.0.1:{to.port}/1k"),
    )
    trouble = re.search(r"Non-2xx.*|Socket errors.*", output)
    if trouble:
        raise SystemExit(f"{to.name}: {trouble[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    mean = re.search(r"Latency\s+([\d.]+)(us|ms|s)", output)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", output)
    assert rate and mean and median, output
    return (
        float(rate[1]),
        float(mean[1]) * TIMES_MS[mean[2]],
        float(median[1]) * TIMES_MS[median[2]],
    )


async def download(to: Contestant) -> float:
    """MB a second."""
    output = await output_of(
        *("curl", "-sS", "-o", "/dev/null", "-H", f"Host: {to.host}"),
        *("-w", "%{http_code} %{size_download} %{speed_download}"),
        f"http://127.0.0.1:{to.port}/100m",
    )
    status, size, speed = output.split()
    if status != "200" or int(size) != DOWNLOAD_BYTES:
        raise SystemExit(f"{to.name}: {size} bytes with status {status}")
    return float(speed) / 1e6


async def measure(to: Contestant, into: Measured) -> None:
    """One round."""
    await wrk(to, 32, WARM_UP_S)
    into.rps32.append((await wrk(to, 32, MANY_S))[0])
    _, mean, median = await wrk(to, 1, ONE_S)
    into.latency1.append(mean)
    into.median1.append(median)
    into.download.append(statistics.median([await download(to) for _ in range(DOWNLOADS)]))


@dataclass(frozen=True)
class Goal:
    """A figure and the ratio it is held to."""

    name: str
    unit: str
    better: str
    ratio: float


GOALS = [
    Goal("rps32", "requests/s", "higher", 2.5),
    Goal("latency1", "ms", "lower", 0.3),
    Goal("download", "MB/s", "higher", 1.1),
]


def compare(ours: Measured, peers: list[Measured]) -> list[dict[str, object]]:
    """Our medians beside the better peer's."""
    results: list[dict[str, object]] = []
    for goal in GOALS:
        mine = statistics.median(getattr(ours, goal.name))
        best = max if goal.better == "higher" else min
        peer = best(statistics.median(getattr(each, goal.name)) for each in peers)
        results.append(
            {
                "name": f"router.{goal.name}",
                "ours": round(mine, 3),
                "peer": round(peer, 3),
                "ratio": round(mine / peer, 3),
                "unit": goal.unit,
                "better": goal.better,
            }
        )
    return results


def show(
    contestants: list[Contestant], measured: list[Measured], results: list[dict[str, object]]
) -> None:
    """Two tables: the medians of each, and how we compare."""
    print(f"{'medians':<18}{'32: req/s':>12}{'1: mean ms':>12}{'1: median':>12}{'MB/s':>10}")
    for to, each in zip(contestants, measured, strict=True):
        medians = [
            statistics.median(values)
            for values in (each.rps32, each.latency1, each.median1, each.download)
        ]
        print(f"{to.name:<18}{medians[0]:>12.0f}{medians[1]:>12.3f}", end="")
        print(f"{medians[2]:>12.3f}{medians[3]:>10.0f}")
    print()
    for goal, result in zip(GOALS, results, strict=True):
        ratio = float(str(result["ratio"]))
        met = ratio >= goal.ratio if goal.better == "higher" else ratio <= goal.ratio
        sign = "≥" if goal.better == "higher" else "≤"
        print(
            f"{result['name']:<18}ours {result['ours']:>10} {goal.unit:<11}"
            f"peer {result['peer']:>10}   ratio {ratio:<7} goal {sign} {goal.ratio} "
            f"{'met' if met else 'MISSED'}"
        )


@contextlib.asynccontextmanager
async def all_of_it(folder: Path) -> AsyncIterator[list[Contestant]]:
    """The contestants, ours last; everything is ended on the way out."""
    processes = Processes()
    try:
        async with RegistryPortal(heartbeat_s=3) as portal:
            await start_target(processes, folder)
            peers = await start_peer(processes, folder)
            ours = await start_ours(processes, folder, portal)
            yield [*peers, ours]
            await processes.end()
    finally:
        await processes.end()


async def bench(json_file: Path | None) -> None:
    """Measure, print, and write ``json_file``."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="dit4c-bench-") as name:
        async with all_of_it(Path(name)) as contestants:
            measured = [Measured() for _ in contestants]
            for turn in range(ROUNDS):
                print(f"round {turn + 1} of {ROUNDS} …", file=sys.stderr, flush=True)
                for to, into in zip(contestants, measured, strict=True):
                    await measure(to, into)
    results = compare(measured[-1], measured[:-1])
    show(contestants, measured, results)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench router", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--router", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.router:
        uvloop.run(serve_router(arguments.router))
        return
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    os.environ["PATH"] = path
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        raise SystemExit(f"missing programs; install them: apt-get install {' '.join(missing)}")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(bench(arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
