"""A TCP line that is cut once, after so many bytes have gone to its far end."""

import asyncio


class CutLine:
    """``async with CutLine(address, cut_after) as line``: ``line.address`` leads to ``address``.

    :ivar sent: bytes that have gone to the far end, of all connections.
    :ivar cuts: how often it was cut.
    """

    def __init__(self, address: str, cut_after: int) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._cut_after = cut_after
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = self.cuts = 0

    async def __aenter__(self) -> "CutLine":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        both = [
            asyncio.create_task(self._there(reader, far_writer)),
            asyncio.create_task(_back(far_reader, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for one in (far_writer, writer):
                one.close()

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.cuts and self.sent + len(data) > self._cut_after:
                data = data[: self._cut_after - self.sent]
                self.cuts = 1
            writer.write(data)
            await writer.drain()
            self.sent += len(data)
            if self.cuts and self.sent == self._cut_after:
                return


async def _back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
