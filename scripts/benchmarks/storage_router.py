"""The router in ``dit4c up`` while its file server is busy, beside itself while nobody uses files.

    visitor ──▶ router ──▶ instance (terminal), 50 requests a second
    sftp, 8 processes ──▶ file server, each putting a file and getting it back, again and again

- ``storage.router_p99_ms``   the 99th percentile from when a request was due to its answer's end

Idle and busy rounds in turn; medians are compared. The clients would run on other machines: here
they take only what is left of the processors.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncssh
from yarl import URL

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from parts.processes import need
from parts.rows import Row, beside, show, write
from systems.all_in_one import System, browser_session, log_in

from dit4c_p2p.identity.keys import generate, public_line, write_private

ROUNDS = 3
ROUND_S = 12
EVERY_S = 0.02
CLIENTS = 8
FILE_BYTES = 8 * 1024 * 1024
TIMES = 500
NEEDED = {"docker": "docker.io", "sftp": "openssh-client"}


async def p99_ms(browser: aiohttp.ClientSession, url: URL) -> float:
    """The 99th percentile of a round's requests, each sent when it is due.

    :raises SystemExit: one was answered by another status than 200.
    """
    took: list[float] = []
    refused: list[str] = []

    async def ask(due: float) -> None:
        async with browser.get(url, allow_redirects=False) as response:
            text = await response.text()
            if response.status != 200:
                refused.append(f"{url}: status {response.status}\n{text[:500]}")
        took.append(time.monotonic() - due)

    began = time.monotonic()
    async with asyncio.TaskGroup() as requests:
        for number in range(int(ROUND_S / EVERY_S)):
            due = began + number * EVERY_S
            await asyncio.sleep(max(0, due - time.monotonic()))
            requests.create_task(ask(due))
    if refused:
        raise SystemExit(f"{len(refused)} of {len(took)} requests failed: {refused[0]}")
    return statistics.quantiles(took, n=100)[98] * 1000


@contextlib.asynccontextmanager
async def busy(system: System, folder: Path, person: str) -> AsyncIterator[None]:
    """Stock clients at work at the file server.

    :raises SystemExit: a client ended by itself.
    """
    host, _, port = system.access["files"].rpartition("://")[2].rpartition(":")
    hosts = folder / "hosts"
    host_key = await asyncssh.get_server_host_key(host, int(port))
    assert host_key is not None
    hosts.write_text(f"[{host}]:{port} {public_line(host_key)}\n")
    source = folder / "source"
    source.write_bytes(os.urandom(FILE_BYTES))
    options = {
        "UserKnownHostsFile": hosts,
        "StrictHostKeyChecking": "yes",
        "IdentityFile": folder / "key",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
    }
    words = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    clients: list[asyncio.subprocess.Process] = []
    try:
        for number in range(CLIENTS):
            there, back = f"/private/{number}", folder / f"back-{number}"
            back.unlink(missing_ok=True)
            batch = folder / f"batch-{number}"
            batch.write_text(f"put {source} {there}\nget {there} {back}\n" * TIMES)
            clients.append(
                await asyncio.create_subprocess_exec(
                    *("sftp", "-q", *words, "-P", port, "-b", str(batch)),
                    f"{person}@{host}",
                    stdout=asyncio.subprocess.DEVNULL,
                    preexec_fn=_take_what_is_left,
                )
            )
            async with asyncio.timeout(30):
                while not back.exists() and clients[-1].returncode is None:
                    await asyncio.sleep(0.05)
        yield
        if any(client.returncode is not None for client in clients):
            raise SystemExit("a client of the file server ended too early")
    finally:
        for client in clients:
            if client.returncode is None:
                client.kill()
            await client.wait()


def _take_what_is_left() -> None:
    """Called in a client's process: its session gets what others leave of the processors."""
    os.setsid()
    os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


async def measure(system: System, folder: Path) -> Row:
    """All rounds, in turn."""
    idle: list[float] = []
    loaded: list[float] = []
    key = generate()
    write_private(folder / "key", key)
    async with system.api() as api:
        person = (await api.call("GET", "whoami"))["id"]
        await api.call("POST", f"people/{person}/ssh-keys", {"line": public_line(key)}, expect=201)
        instance = await api.start("terminal")
        running = await api.wait_for(instance, "running", url=True)
        url = URL(running["url"])
        async with browser_session(system.access["portal"], str(url)) as browser:
            await log_in(browser, system.access["login_url"])
            async with browser.get(url) as page:
                url = page.url
            for turn in range(ROUNDS):
                print(f"round {turn + 1} of {ROUNDS} …", file=sys.stderr, flush=True)
                idle.append(await p99_ms(browser, url))
                async with busy(system, folder, f"user-{person}"):
                    loaded.append(await p99_ms(browser, url))
        await api.discard(instance)
    return beside("storage.router_p99_ms", "ms", "lower", 2.0, ours=loaded, peers=[idle])


async def bench(json_file: Path | None) -> None:
    """Measure, show, and write the row."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="dit4c-bench-") as name:
        system = System(Path(name) / "system", "--tools", "terminal")
        system.folder.mkdir()
        try:
            await asyncio.to_thread(system.start)
            rows = [await measure(system, Path(name))]
        finally:
            await asyncio.to_thread(system.end)
    show(rows)
    write(rows, json_file)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="scripts/bench storage_router", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    arguments = parser.parse_args()
    need(NEEDED)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(bench(arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
