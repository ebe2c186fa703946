"""A line between a mount and its server that falls silent or ends, for tests that are not async."""

import asyncio
import threading
from concurrent.futures import Future

from lib.silent_wire import Wire
from systems.storage_mount import OwnServer, StockServer


class Line:
    """Stands in a server's place: ``Mount(Line(server), …)``; bytes take ``delay_s`` each way."""

    def __init__(self, server: OwnServer | StockServer, delay_s: float = 0.0) -> None:
        self.folder, self.user = server.folder, server.user
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._begun: Future[Wire] = Future()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._run(server.port, delay_s),)
        )
        self._thread.start()
        self._wire = self._begun.result(10)
        self.port = self._wire.port

    async def _run(self, port: int, delay_s: float) -> None:
        async with Wire(port, delay_s) as wire:
            self._begun.set_result(wire)
            await self._over.wait()

    def fall_silent(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._loop.call_soon_threadsafe(self._wire.flows.clear)

    def flow(self) -> None:
        """What is on its way passes."""
        self._loop.call_soon_threadsafe(self._wire.flows.set)

    def break_off(self) -> None:
        """All connections end, and what is on its way is lost."""
        self._loop.call_soon_threadsafe(self._wire.break_off)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()
