"""An app and a portal that say who visits them, and visitors that each have an address."""

import asyncio

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver
from systems.all_in_one import free_ports
from systems.portal import PortalAtWork


class ToLoopback(AbstractResolver):
    async def resolve(self, host, port=0, family=0):
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": 2,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self):
        return


def browser(authority, address="127.0.0.9"):
    """A visitor from an address of its own."""
    connector = aiohttp.TCPConnector(
        resolver=ToLoopback(), ssl=authority.client(), local_addr=(address, 0)
    )
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20))


async def app(house, callers, taken=None, given=None):
    """An app behind the tunnel of instance abc; ``callers`` gets from where each visit of it is.

    ``/`` ends the connection, ``/echo`` is a WebSocket. What is posted to ``/take`` goes piece by
    piece into the queue ``taken``; from ``/give`` come those of ``given``, up to an empty one.
    """

    async def root(request):
        return web.Response(text=str(dict(request.headers)), headers={"Connection": "close"})

    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def take(request):
        async for piece in request.content.iter_any():
            taken.put_nowait(piece)
        return web.Response()

    async def give(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while piece := await given.get():
            await response.write(piece)
        return response

    application = web.Application(client_max_size=0)
    application.router.add_get("/", root)
    application.router.add_get("/echo", echo)
    application.router.add_post("/take", take)
    application.router.add_get("/give", give)
    runner = web.AppRunner(application)
    await runner.setup()
    house.stack.push_async_callback(runner.cleanup)
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()

    async def pipe(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, asyncio.CancelledError):
            writer.close()

    def handler(host, caller_port):
        callers.append((host, caller_port))

        async def serve(reader, writer):
            its_reader, its_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(
                pipe(reader, its_writer), pipe(its_reader, writer), return_exceptions=True
            )
            its_writer.close()
            writer.close()

        return serve

    connection = await house.connect(house.peer("instance-abc"))
    await connection.start_server(handler, "instance-abc", 80, encoding=None)


class Portal(PortalAtWork):
    """With a page that says who calls."""

    async def start(self):
        from dit4c_p2p.portal import Portal

        self.portal = Portal(self.config, clock=self.clock)

        async def who(request):
            return web.Response(text=str(request.remote))

        self.portal._server._runner.app.router.add_get("/who", who)
        await self.portal.start()
