"""Disk limit of apps, where the engine's storage driver has none.

Some storage drivers enforce a limit of their own (``builder``). With the others each app is
measured every minute, and stopped when it is over its limit; its files are kept. An app that is
started again over the limit may run, so that its user can remove files, but it may hardly grow.

Files count that are in the container and not in its image, and those in its volumes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from dit4c_p2p.node.errors import TransientError
from dit4c_p2p.node.pods.status import memory_text

_log = logging.getLogger(__name__)

# The engine walks through all files of an app for it.
MEASURE_EVERY_S = 60.0
# What one that is over the limit may grow by: a browser's tab alone writes a little.
_LEEWAY = 1 / 20


@dataclass(frozen=True)
class WrittenBytes:
    """The bytes that an app has written, and whether it runs."""

    size: int
    running: bool


@dataclass
class DiskAllowance:
    """How much each app may have written, from one measurement to the next. Pure.

    ``limit`` in bytes. ``begun_at``: what each had written before it ran, or when it was seen first
    by an agent that has just begun.
    """

    limit: int
    begun_at: dict[str, int] = field(default_factory=dict)
    _first: bool = True

    def over(self, measured: Mapping[str, WrittenBytes]) -> list[str]:
        """Return the running instances that are over their limit."""
        before, first = self.begun_at, self._first
        self.begun_at, self._first = {}, False
        over = []
        for instance, written in sorted(measured.items()):
            begun_at = before.get(instance, written.size if first else 0)
            if written.running and written.size > max(self.limit, begun_at * (1 + _LEEWAY)):
                over.append(instance)
            self.begun_at[instance] = begun_at if written.running else written.size
        return over


class DiskQuotaMonitor:
    """Measures apps while :meth:`run` runs.

    :param limit: bytes that each app may write.
    :param measure: what each has written, by instance.
    :param end: stop an instance for a reason.
    """

    def __init__(
        self,
        limit: int,
        measure: Callable[[], Awaitable[Mapping[str, WrittenBytes]]],
        end: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._allowance = DiskAllowance(limit)
        self._measure = measure
        self._end = end

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                measured = await self._measure()
            except TransientError as failure:
                _log.warning("the apps' disk use can't be measured: %s", failure.one_line())
            else:
                over = self._allowance.over(measured)
                await asyncio.gather(*(self._stop(one, measured[one].size) for one in over))
            await asyncio.sleep(MEASURE_EVERY_S)

    async def _stop(self, instance: str, size: int) -> None:
        """Stop one that is over; if that fails, it is over when it is measured next."""
        lent = memory_text(self._allowance.limit)
        reason = (
            f"the app was stopped: it has written more than the {lent} that the owner of this "
            "machine lends; its files are kept, and once it is started again some can be removed"
        )
        try:
            await self._end(instance, reason)
        except TransientError as failure:
            _log.warning("pod of %s: over its disk's limit: %s", instance, failure.one_line())
        else:
            self._allowance.begun_at[instance] = size
