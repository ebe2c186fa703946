"""Run a program to its end, and report its output line by line."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from dit4c_p2p.errors import DitError

# Enough of the output's end to hold the reason a program gives for failing.
TAIL_LINES = 20

# One line of a program's output; longer ones are cut into several.
_LINE_BYTES = 16 * 1024

# What apt-get needs to unlock its database after SIGTERM.
_GRACE_S = 5.0


class CommandFailed(DitError):
    """A program did not start, failed, or took too long; ``tail`` is the end of its output."""

    code = "command_failed"

    def __init__(self, message: str, tail: Sequence[str]) -> None:
        super().__init__(message)
        self.tail = tuple(tail)


async def run_command(
    argv: Sequence[str],
    *,
    on_line: Callable[[str], None],
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run ``argv`` (no shell) and give each line of its output, errors included, to ``on_line``.

    ``environment`` is added to this process's own. The program and what it started are ended when
    the caller is cancelled or the time is up.

    :raises CommandFailed: not found, an exit status other than 0, or the time is up.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            limit=_LINE_BYTES,
        )
    except OSError as error:
        raise CommandFailed(f"{argv[0]} could not be started: {error.strerror}", ()) from error
    try:
        async with asyncio.timeout(timeout_s):
            assert process.stdout is not None
            async for line in _command_output_lines(process.stdout):
                tail.append(line)
                on_line(line)
            status = await process.wait()
    except TimeoutError as error:
        raise CommandFailed(f"{argv[0]} was not done after {timeout_s:g} s", tail) from error
    finally:
        await _end_command(process)
    if status != 0:
        raise CommandFailed(f"{argv[0]} failed with status {status}", tail)


async def _command_output_lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the stream's non-empty lines, without text that a terminal would overwrite."""
    while True:
        try:
            raw = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raw = error.partial
            if not raw:
                return
        except asyncio.LimitOverrunError as error:
            raw = await stream.readexactly(error.consumed)
        line = raw.decode("utf-8", "replace").rstrip().rpartition("\r")[2].strip()
        if line:
            yield line


async def _end_command(process: asyncio.subprocess.Process) -> None:
    """End the program's process group, if it still runs, and wait for it."""
    if process.returncode is not None:
        return
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
        except ProcessLookupError:
            break
        try:
            async with asyncio.timeout(_GRACE_S):
                await process.wait()
                return
        except TimeoutError:
            continue
    await process.wait()
