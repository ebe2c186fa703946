"""Counting what trees hold, in the background: at their first use, and once a day."""

import asyncio
import logging
import threading
from collections.abc import Callable

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.fileserver.quota import scan_usage
from dit4c_p2p.fileserver.trees import Tree

_log = logging.getLogger(__name__)

_AGAIN_S = 24 * 3600.0
# A tree that changed during its scan is scanned again after a pause that grows, so that a person
# who writes all day costs few scans.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 1800.0


class UsageScans:
    """One tree after the other, in a thread of its own, so that scans don't crowd requests out.

    A scan during which the tree changed is not exact: it is repeated until one is.

    :param count: counts what is below a directory, as :func:`quota.scan_usage` does.
    :param first_pause_s: the pause before a scan is repeated for the first time.
    """

    def __init__(
        self,
        count: Callable[[int, Callable[[], bool]], int | None] = scan_usage,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._count = count
        self._first_pause_s = first_pause_s
        self._waiting: asyncio.Queue[tuple[Tree, Backoff]] = asyncio.Queue()
        self._stopped = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="usage scans")

    def add(self, tree: Tree) -> None:
        """Count a tree as soon as possible, and again once a day."""
        self._waiting.put_nowait((tree, Backoff(self._first_pause_s, _LONGEST_PAUSE_S)))

    async def close(self) -> None:
        """Stop; the scan that goes on ends at its next folder."""
        self._stopped.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            tree, pauses = await self._waiting.get()
            start = tree.usage.begin_scan()
            counting = asyncio.create_task(
                asyncio.to_thread(self._count, tree.root_fd, self._stopped.is_set),
                name="usage scan",
            )
            try:
                counted = await asyncio.shield(counting)
            except asyncio.CancelledError:
                await counting  # the tree's descriptor is in use until then
                raise
            if counted is None:
                continue
            if tree.usage.correct(counted + tree.removed_bytes(), start):
                _log.info("%s holds %d bytes", tree.name, tree.usage.used_bytes)
                self._loop.call_later(_AGAIN_S, self.add, tree)
            else:
                again = (tree, pauses)
                self._loop.call_later(pauses.pause_s(), self._waiting.put_nowait, again)
