"""Reading ahead of a program that reads one file from front to back."""

import asyncio
from collections.abc import Awaitable, Callable

BLOCK_BYTES = 128 * 1024
MAX_AHEAD_BYTES = 8 * 1024 * 1024
_FIRST_AHEAD_BYTES = 256 * 1024
# The kernel sends several reads at once, and they arrive in any order.
_SLACK_BYTES = 1024 * 1024

Fetch = Callable[[int, int], Awaitable[bytes | memoryview]]


class ReadAhead:
    """Blocks of one file that were asked for before they are needed.

    :param fetch: reads (offset, size) from the server; fewer bytes come at the file's end only.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._blocks: dict[int, asyncio.Future[bytes | memoryview]] = {}
        self._next = 0
        self._ahead = 0

    def clear(self) -> None:
        """What was read ahead counts no more: the file has changed."""
        for task in self._blocks.values():
            if not task.done():
                task.cancel()
        self._blocks.clear()

    def seed(self, start: bytes) -> None:
        """The file begins with these bytes, and holds no others."""
        block: asyncio.Future[bytes | memoryview] = asyncio.get_running_loop().create_future()
        block.set_result(start)
        self._blocks[0] = block

    async def read(self, offset: int, size: int, file_size: int) -> bytes | memoryview:
        """``size`` bytes at ``offset``; fewer at the end of the file.

        :param file_size: nothing is read ahead from there on.
        """
        if not self._sequential(offset):
            self._ahead = 0
            self._next = offset + size
            if self._blocks:
                self.clear()
            return await self._fetch(offset, size)
        end = offset + size
        self._next = max(self._next, end)
        self._ahead = min(max(self._ahead * 2, _FIRST_AHEAD_BYTES), MAX_AHEAD_BYTES)
        self._ask(offset, min(end + self._ahead, max(file_size, end)))
        pieces = []
        position = offset
        while position < end:
            number, start = divmod(position, BLOCK_BYTES)
            task = self._blocks.get(number)
            if task is None:  # cleared while we waited
                piece = await self._fetch(position, end - position)
            else:
                block = await asyncio.shield(task)
                piece = block[start : start + end - position]
            position += len(piece)
            if piece:
                pieces.append(piece)
            if task is None and not piece:
                break
            if task is not None and start + len(piece) == len(block) < BLOCK_BYTES:
                if position >= file_size:
                    break
                self._blocks.pop(number, None)  # the file has grown since
        self._drop(self._next - _SLACK_BYTES)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _sequential(self, offset: int) -> bool:
        return self._next - _SLACK_BYTES <= offset <= self._next + _SLACK_BYTES and (
            offset == 0 or offset == self._next or self._ahead > 0
        )

    def _ask(self, start: int, end: int) -> None:
        for number in range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            if number not in self._blocks:
                task = asyncio.ensure_future(self._fetch(number * BLOCK_BYTES, BLOCK_BYTES))
                task.add_done_callback(_heard_for_read_ahead)
                self._blocks[number] = task

    def _drop(self, before: int) -> None:
        """Forget blocks that end before that offset."""
        limit = before // BLOCK_BYTES
        for number in [number for number in self._blocks if number < limit]:
            del self._blocks[number]


def _heard_for_read_ahead(task: "asyncio.Future[bytes | memoryview]") -> None:
    """An error is told to who reads the block; nobody may."""
    if not task.cancelled():
        task.exception()
