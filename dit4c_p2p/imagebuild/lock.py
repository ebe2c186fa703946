"""A lock for one builder at a time, which ends with the process that holds it."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dit4c_p2p.errors import ConfigError

# A build that takes longer than this hangs.
_PATIENCE_S = 3600.0
_POLL_S = 0.3


@asynccontextmanager
async def exclusive_lock_file(path: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock file ``path``; ``on_wait`` is called once if another process has it.

    :raises ConfigError: the file can't be created, or the other process holds it for over an hour.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be written: {error.strerror}",
            hint="Set XDG_CACHE_HOME to a folder that you may write to.",
        ) from error
    try:
        await _take_lock_file(descriptor, path, on_wait)
        yield
    finally:
        os.close(descriptor)


async def _take_lock_file(descriptor: int, path: Path, on_wait: Callable[[], None]) -> None:
    """Poll, because a blocking ``flock`` would stop the event loop."""
    told = False
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if not told:
                        told = True
                        on_wait()
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise ConfigError(
            f"another process has been building images for an hour ({path} is locked)",
            hint="End it, then try again.",
        ) from error
