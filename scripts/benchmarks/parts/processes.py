"""Processes that a benchmark starts, waits for, and ends by their own ids."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

SBIN = "/usr/sbin:/sbin"
END_LIMIT_S = 5


class Processes:
    """Every process that was started here, ended by its own id."""

    def __init__(self) -> None:
        self._running: list[asyncio.subprocess.Process] = []

    async def start(
        self,
        *command: str,
        log: Path,
        env: dict[str, str] | None = None,
        talks: bool = False,
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

    async def end_one(self, process: asyncio.subprocess.Process) -> None:
        """End this one now."""
        if process.returncode is None:
            process.terminate()
        await _ended(process)
        self._running.remove(process)

    async def end(self) -> None:
        """End them, the last one first."""
        for process in reversed(self._running):
            if process.returncode is None:
                process.terminate()
        for process in self._running:
            await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(END_LIMIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process, what: str, limit_s: float = 20) -> str:
    """The next line of a process that talks.

    :raises SystemExit: none in time.
    """
    assert process.stdout is not None
    try:
        async with asyncio.timeout(limit_s):
            line = await process.stdout.readline()
    except TimeoutError:
        raise SystemExit(f"{what} said nothing in {limit_s:.0f} s") from None
    if not line:
        raise SystemExit(f"{what} has ended")
    return line.decode().strip()


async def output_of(*command: str, limit_s: float = 60) -> str:
    """What a program prints.

    :raises SystemExit: it fails, or takes too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await process.communicate()
    except TimeoutError:
        raise SystemExit(f"{command[0]} did not end in {limit_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {output.decode(errors='replace').strip()}")
    return output.decode()


def resident_kib(pid: int) -> int:
    """What of a process's memory is in RAM.

    :raises SystemExit: it is gone.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit(f"process {pid} is gone")


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


def need(programs: dict[str, str]) -> None:
    """See that programs are there, given with their Debian packages.

    :raises SystemExit: one is missing.
    """
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{SBIN}"
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    if missing:
        raise SystemExit(f"missing programs; install them: apt-get install {' '.join(missing)}")
