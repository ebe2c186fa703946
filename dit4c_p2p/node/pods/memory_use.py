"""Memory that apps use, measured for their users and the portal's admins."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dit4c_p2p.messages.node import MEMORY_EVERY_S, PodMemory
from dit4c_p2p.node.errors import TransientError

_log = logging.getLogger(__name__)

# Less than a person would notice on "412 MiB of 2 GiB".
_STEP_BYTES = 8 * 1024**2
_STEP_OF_LIMIT = 1 / 50


def used_bytes(stats: Mapping[str, Any]) -> int | None:
    """The bytes that count against a container's limit and can't be taken back at once.

    As ``docker stats`` has them: usage without inactive file pages (``inactive_file`` with cgroup
    version 2, ``total_inactive_file`` with version 1).

    :param stats: the engine's answer to ``GET /containers/{id}/stats``.
    :returns: None for a container that does not run.
    """
    memory = stats.get("memory_stats") or {}
    usage, details = memory.get("usage"), memory.get("stats") or {}
    if not isinstance(usage, int) or not isinstance(details, Mapping):
        return None
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    return usage - inactive if isinstance(inactive, int) and inactive < usage else usage


def has_changed(before: Mapping[str, int], now: Mapping[str, int], limit: int) -> bool:
    """Whether an app came or went, or uses more or less by a step. Pure."""
    step = max(_STEP_BYTES, int(limit * _STEP_OF_LIMIT))
    return before.keys() != now.keys() or any(
        abs(used - before[instance]) >= step for instance, used in now.items()
    )


class MemoryMonitor:
    """Measures apps while :meth:`run` runs.

    :param limit: bytes that each app may use.
    :param measure: what each running app uses, by instance.
    :param tell: called with what has changed by a step.
    """

    def __init__(
        self,
        limit: int,
        measure: Callable[[], Awaitable[Mapping[str, int]]],
        tell: Callable[[PodMemory], None],
    ) -> None:
        self._limit = limit
        self._measure = measure
        self._tell = tell

    async def run(self) -> None:
        """Until cancelled."""
        told: Mapping[str, int] = {}
        while True:
            try:
                now = await self._measure()
            except TransientError as failure:
                _log.debug("the apps' memory can't be measured: %s", failure.one_line())
            else:
                if has_changed(told, now, self._limit):
                    told = now
                    self._tell(PodMemory(used=dict(now), limit=self._limit))
            await asyncio.sleep(MEMORY_EVERY_S)
