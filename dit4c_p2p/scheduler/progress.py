"""Progress of long work, stored at a limited frequency."""

import asyncio
from collections.abc import Awaitable, Callable

# At most four reports a second about one instance.
_EVERY_S = 0.25

Say = Callable[[str, float | None], None]


class ProgressReporter:
    """Stores the newest progress while :meth:`run` runs.

    :param record: stores one: a sentence, and the part of 1 that is done, None if it is not known.
    """

    def __init__(self, record: Callable[[str, float | None], Awaitable[object]]) -> None:
        self._record = record
        self._news = asyncio.Event()
        self._newest: tuple[str, float | None] = ("", None)

    def say(self, info: str, fraction: float | None) -> None:
        """Take a progress; one that is overtaken before it is stored is dropped."""
        self._newest = (info, fraction)
        self._news.set()

    async def run(self) -> None:
        """Store until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._record(*self._newest)
            await asyncio.sleep(_EVERY_S)
