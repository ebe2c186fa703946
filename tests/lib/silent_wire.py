"""A line between two peers that can fall silent without ending, as one whose far end is gone."""

import asyncio
import contextlib


class Wire:
    """Passes bytes on to a port of this machine while it ``flows``; else it is open, and silent.

    :param delay_s: how long bytes take, each way.
    """

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self._port = port
        self._delay_s = delay_s
        self.flows = asyncio.Event()
        self.flows.set()
        self.opened = 0
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *error):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def break_off(self):
        """End all connections; what is on its way is lost."""
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.opened += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        except asyncio.CancelledError:
            return  # the end of the test; asyncio's server would log it
        finally:
            back.close()
            writer.close()

    async def _pass(self, reader, writer):
        if not self._delay_s:
            await self._pass_on(reader.read, writer)
            return
        late = asyncio.Queue(1000)

        async def take():
            at, data = await late.get()
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            return data

        async def give():
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    await late.put((asyncio.get_running_loop().time() + self._delay_s, data))
            await late.put((0.0, b""))

        await asyncio.gather(give(), self._pass_on(lambda most: take(), writer))

    async def _pass_on(self, read, writer):
        with contextlib.suppress(ConnectionError):
            while data := await read(65536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
