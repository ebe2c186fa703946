"""Work in a thread that runs one piece behind whoever brings the pieces."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class OneBehind:
    """Does one piece of work after another in threads, while the next piece is being brought.

    Used as a context manager, at whose end nothing runs any more.
    """

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    async def begin(self, work: Callable[[], None]) -> None:
        """Begin ``work`` once the piece before it is done.

        :raises Exception: what the piece before it raised.
        """
        await self.finish()
        self._running = asyncio.create_task(asyncio.to_thread(work), name="one behind")

    async def finish(self) -> None:
        """Wait for the last piece.

        :raises Exception: what it raised.
        """
        if self._running is not None:
            running, self._running = self._running, None
            await running
