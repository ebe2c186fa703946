"""Access that ends at the portal ends at the instance: the news goes over the tunnel."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from systems.web_path import WholePath, a_path

from dit4c_p2p.identity.names import PeerName

# security.md: refused at once, cut within 5 s.
CUT_S = 5.0
NAME = PeerName.parse("instance-abc")


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return web.Response(text="hello")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest.fixture
async def path(tmp_path) -> AsyncIterator[WholePath]:
    runner = web.ServerRunner(web.Server(echo, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with a_path(tmp_path, runner.addresses[0][1]) as path:
        yield path
    await runner.cleanup()


async def request(path: WholePath, *lines: str) -> tuple[asyncio.StreamReader, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", path.port)
    reader.writer = writer  # kept open for as long as the reader is
    fields = [f"Host: {path.host}", f"Cookie: {path.cookie}", *lines]
    writer.write("\r\n".join(["GET / HTTP/1.1", *fields, "", ""]).encode())
    async with asyncio.timeout(10):
        return reader, await reader.readuntil(b"\r\n\r\n")


async def status(path: WholePath) -> int:
    _, head = await request(path, "Connection: close", "Accept: text/html")
    return int(head.split(b" ")[1])


async def a_terminal(path: WholePath) -> asyncio.StreamReader:
    """A WebSocket that is open."""
    reader, head = await request(
        path,
        f"Origin: {path.origin}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    assert b" 101 " in head
    return reader


async def seconds_until_cut(reader: asyncio.StreamReader) -> float:
    since = time.monotonic()
    async with asyncio.timeout(2 * CUT_S):
        with pytest.raises(ConnectionResetError):
            await reader.read()
    return time.monotonic() - since


@pytest.mark.parametrize("portal_answers", [True, False])
async def test_an_open_terminal_is_cut(path, portal_answers):
    """Also where the portal can't be asked, as when an app floods it."""
    terminal = await a_terminal(path)
    assert await status(path) == 200
    path.portal.active.clear()
    if not portal_answers:
        path.portal.fail_with = 503
    path.portal.end_access("abc", "admin")
    assert await seconds_until_cut(terminal) < CUT_S
    assert await status(path) == (303 if portal_answers else 503)
    path.portal.fail_with = None
    async with asyncio.timeout(5):
        while await status(path) != 303:
            await asyncio.sleep(0.1)


async def test_what_the_portal_confirms_goes_on(path):
    terminal = await a_terminal(path)
    before = path.portal.introspections
    path.portal.end_access("abc", "admin")  # of another browser's session
    path.portal.end_access("xyz", "admin")
    path.portal.end_access("abc", "grace")
    async with asyncio.timeout(5):
        while path.portal.introspections == before:
            await asyncio.sleep(0.01)
    assert await status(path) == 200
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await terminal.read()


async def test_news_from_while_the_tunnel_was_away_is_told_when_it_is_back(path):
    path.portal.active.clear()
    server = path.router.board.table.find(NAME, 80)
    server.conn.abort()
    path.portal.end_access("abc", "admin")
    async with asyncio.timeout(15):
        while path.router.board.table.find(NAME, 80) in (None, server):
            await asyncio.sleep(0.01)
        while len(path.server.sessions):
            await asyncio.sleep(0.01)
    assert await status(path) == 303


async def test_news_from_while_the_router_did_not_hear_is_told_when_it_does(path):
    path.portal.active.clear()
    path.portal.fail_with = None
    await path.portal.stop()
    path.portal.end_access("abc", "admin")
    assert await status(path) == 200, "the portal's silence ends nothing"
    await path.portal.start()
    async with asyncio.timeout(15):
        while len(path.server.sessions):
            await asyncio.sleep(0.01)


async def test_a_listener_that_does_not_take_the_news_loses_its_tunnel(path, monkeypatch):
    """Who holds up the news holds up the traffic."""
    terminal = await a_terminal(path)
    path.server._news.close()
    path.server._pod.news_socket.unlink()
    path.portal.end_access("abc", "admin")
    assert await seconds_until_cut(terminal) < CUT_S
