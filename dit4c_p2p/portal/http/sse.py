"""Server-sent events (HTML standard, section 9.2), with time limits for slow readers."""

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web

_WRITE_S = 10
# Longer than any heartbeat would be silent; a proxy's usual limit is 60 s.
KEEPALIVE_S = 10.0


class EventStream:
    """``async with EventStream(request) as stream: await stream.send(…)``."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )

    async def __aenter__(self) -> Self:
        await self.response.prepare(self._request)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """A reader that went away or is too slow is no error."""
        return isinstance(error, (ConnectionError, TimeoutError))

    async def send(self, data: str, event: str = "") -> None:
        """One event; ``data`` is one line."""
        name = f"event: {event}\n" if event else ""
        await self._write(f"{name}data: {data}\n\n")

    async def keep_alive(self) -> None:
        """Send a comment, which detects a reader that has gone."""
        await self._write(": \n\n")

    async def _write(self, text: str) -> None:
        async with asyncio.timeout(_WRITE_S):
            await self.response.write(text.encode())
