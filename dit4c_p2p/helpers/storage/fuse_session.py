"""The kernel's side: requests from a FUSE descriptor, on asyncio's loop."""

import asyncio
import contextlib
import importlib
import logging
import select
from collections.abc import Callable, Iterable
from typing import Any

import pyfuse3

from dit4c_p2p.helpers.storage.filesystem import Folders
from dit4c_p2p.helpers.storage.lease_book import Kernel

try:
    pyfuse3_asyncio: Any = importlib.import_module("pyfuse3.asyncio")
except ImportError:  # before 3.4, as in Debian 12
    pyfuse3_asyncio = importlib.import_module("pyfuse3_asyncio")

_log = logging.getLogger(__name__)

# Requests that are worked on at once; more wait in the kernel.
_MAX_TASKS = 128
# Requests that are taken in a row before anything else has a turn.
_IN_A_ROW = 16


class PyfuseKernel(Kernel):
    """Tells the kernel through pyfuse3's one session, while that is served."""

    serving = False

    def forget_attributes(self, number: int) -> None:
        """Attributes of that node are to be asked for again; its data stays."""
        if not self.serving:
            return
        # ENOENT: the kernel has forgotten it already.
        with contextlib.suppress(OSError):
            pyfuse3.invalidate_inode(number, attr_only=True)

    def forget_name(self, parent: int, name: bytes) -> None:
        """A file's name is to be looked up again; a thread says so, as this may block."""
        if self.serving:
            pyfuse3.invalidate_entry_async(parent, name, ignore_enoent=True)


class _Readable:
    """Waits for a descriptor without adding and removing its reader each time, as pyfuse3 does."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._descriptor = -1
        self._armed = False
        self._waiter: asyncio.Future[None] | None = None
        self._row = 0

    async def wait(self, descriptor: int) -> None:
        """Return when ``descriptor`` can be read. One task at a time waits."""
        if descriptor != self._descriptor:
            self._poll.register(descriptor, select.POLLIN)
            self._descriptor = descriptor
        if self._row < _IN_A_ROW and self._poll.poll(0):
            self._row += 1
            return
        self._row = 0
        loop = asyncio.get_running_loop()
        if not self._armed:
            loop.add_reader(descriptor, self._wake)
            self._armed = True
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self, descriptor: int) -> None:
        """Nobody waits for it any more."""
        if self._armed:
            asyncio.get_running_loop().remove_reader(descriptor)
            self._armed = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(pyfuse3_asyncio.ClosedResourceError())

    def _wake(self) -> None:
        if self._waiter is None:
            # All tasks are busy: the descriptor stays readable, and nobody is there to read.
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._armed = False
        elif not self._waiter.done():
            self._waiter.set_result(None)


async def serve_fuse(
    filesystem: Folders,
    mountpoint: str,
    options: Iterable[str] = (),
    *,
    mounted: Callable[[], None] = lambda: None,
) -> None:
    """Answer the kernel until the mount is gone or the task is cancelled.

    :param mountpoint: a folder, or ``/dev/fd/N`` for a descriptor that is mounted already.
    :param mounted: called when the kernel's requests are answered from now on.
    :raises RuntimeError: it can't be mounted.
    """
    pyfuse3_asyncio.enable()
    readable = _Readable()
    for name, function in (("wait_readable", readable.wait), ("notify_closing", readable.close)):
        if not hasattr(pyfuse3_asyncio, name):
            raise RuntimeError(f"this pyfuse3 has no {name}")
        setattr(pyfuse3_asyncio, name, function)
    pyfuse3.init(filesystem, mountpoint, set(options))
    mounted()
    PyfuseKernel.serving = True
    try:
        await pyfuse3.main(min_tasks=4, max_tasks=_MAX_TASKS)
    finally:
        PyfuseKernel.serving = False
        pyfuse3.close(unmount=not mountpoint.startswith("/dev/fd/"))
