"""Counting what trees hold, in the background: at their first use, and once a day."""

import asyncio
import logging
import threading

from dit4c_p2p.fileserver.quota import scan
from dit4c_p2p.fileserver.trees import Tree

_log = logging.getLogger(__name__)

_AGAIN_S = 24 * 3600.0


class UsageScans:
    """One tree after the other, in a thread of its own, so that scans don't crowd requests out."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Tree] = asyncio.Queue()
        self._stopped = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="usage scans")

    def add(self, tree: Tree) -> None:
        """Count a tree as soon as possible, and again once a day."""
        self._waiting.put_nowait(tree)

    async def close(self) -> None:
        """Stop; the scan that goes on ends at its next folder."""
        self._stopped.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            tree = await self._waiting.get()
            before = tree.usage.used_bytes
            counting = asyncio.create_task(
                asyncio.to_thread(scan, tree.root_fd, self._stopped.is_set), name="usage scan"
            )
            try:
                counted = await asyncio.shield(counting)
            except asyncio.CancelledError:
                await counting  # the tree's descriptor is in use until then
                raise
            if counted is not None:
                tree.usage.correct(counted, before)
                _log.info("%s holds %d bytes", tree.name, tree.usage.used_bytes)
            self._loop.call_later(_AGAIN_S, self.add, tree)
