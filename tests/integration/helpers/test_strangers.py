"""Strangers at an instance's address: whoever is logged in comes before them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from systems.web_path import WholePath, a_path

from dit4c_p2p.helpers.auth.server import MAX_STRANGERS

SOURCES = [f"127.0.0.{n}" for n in range(2, 9)]


async def app(request: web.BaseRequest) -> web.Response:
    return web.Response(text="hello")


@pytest.fixture
async def path(tmp_path) -> AsyncIterator[WholePath]:
    runner = web.ServerRunner(web.Server(app, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with a_path(tmp_path, runner.addresses[0][1]) as path:
        yield path
    await runner.cleanup()


async def ask(path: WholePath, source: str, *lines: str, method: str = "GET"):
    reader, writer = await asyncio.open_connection("127.0.0.1", path.port, local_addr=(source, 0))
    fields = [f"Host: {path.host}", "Accept: text/html", *lines, "", ""]
    writer.write("\r\n".join([f"{method} / HTTP/1.1", *fields]).encode())
    reader.writer = writer
    return reader


async def page(path: WholePath) -> int:
    """The status of the user's own request."""
    reader = await ask(path, "127.0.0.1", f"Cookie: {path.cookie}", "Connection: close")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    reader.writer.close()
    return int(head.split(b" ")[1])


@pytest.mark.parametrize("unread", [False, True], ids=["idle", "uploading"])
async def test_its_user_gets_every_page(path, unread):
    """Three of 16 got 503 while strangers from a few addresses had all 256 channels."""
    crowd, going = [], True
    lines = ("Content-Length: 1000000",) if unread else ()

    async def keep_coming(source):
        while going:
            with contextlib.suppress(OSError):
                crowd.append(await ask(path, source, *lines, method="POST" if unread else "GET"))
            await asyncio.sleep(0.02)

    comers = [asyncio.create_task(keep_coming(source)) for source in SOURCES for _ in range(2)]
    try:
        async with asyncio.timeout(30):
            while len(crowd) < 400:
                await asyncio.sleep(0.02)
        statuses = await asyncio.gather(*(page(path) for _ in range(16)))
        assert statuses == [200] * 16
        assert len(path.server._strangers) <= MAX_STRANGERS
    finally:
        going = False
        await asyncio.gather(*comers)
        for reader in crowd:
            reader.writer.transport.abort()
