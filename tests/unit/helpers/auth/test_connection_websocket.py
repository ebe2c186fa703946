"""WebSockets through the whole auth helper, by aiohttp's client and server."""

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web
from systems.auth_helper import CLIENT, HOST, ORIGIN

from dit4c_p2p.net import proxy_protocol

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def echo(request):
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


@contextlib.asynccontextmanager
async def listener(path):
    """A port whose connections go to the auth helper, as the listener passes them on."""

    async def pipe(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader, writer):
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(path))
        inner_writer.write(proxy_protocol.encode_proxy_header(*CLIENT))
        await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@contextlib.asynccontextmanager
async def connect(house, jar, origin=ORIGIN):
    async with listener(house.pod.auth_socket) as port, aiohttp.ClientSession() as session:
        headers = {"Host": HOST, "Cookie": "; ".join(f"{k}={v}" for k, v in jar.items())}
        if origin is not None:
            headers["Origin"] = origin
        url = f"ws://127.0.0.1:{port}/api/kernels/x/channels?session_id=1"
        async with session.ws_connect(url, headers=headers, max_msg_size=0) as socket:
            yield socket


async def test_messages_both_ways(house):
    house.app.handler = echo
    browser = await house.login()
    async with connect(house, browser.jar) as socket:
        for number in range(200):
            await socket.send_str(f"message {number}")
        for number in range(200):
            assert (await socket.receive(5)).data == f"message {number}"
        large = bytes(5_000_000)
        await socket.send_bytes(large)
        assert (await socket.receive(10)).data == large
    headers = house.app.requests[-1].headers
    assert headers["Connection"] == "Upgrade" and headers["X-DIT4C-User"] == "admin"
    assert "__Host-dit4c" not in headers.get("Cookie", "")
    async with asyncio.timeout(5):
        while house.server.connections > 1:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://other.localhost:8081", "https://abc.localhost:8081", f"{ORIGIN}/"],
)
async def test_row_11_login_first_then_exact_origin(house, origin):
    house.app.handler = echo
    browser = await house.login()
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connect(house, browser.jar, origin):
            pass
    assert caught.value.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connect(house, {}, origin):
            pass
    assert caught.value.status == 401
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connect(house, {}, ORIGIN):
            pass
    assert caught.value.status == 401
    assert house.app.requests == []


async def test_row_11_sec_fetch_fields_open_nothing(house):
    browser = await house.login()
    reply = await browser.ask("GET", "/", *UPGRADE, "Sec-Fetch-Site: same-origin")
    assert reply.status == 403
    stranger = await house.browser()
    fields = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Accept: text/html")
    assert (await stranger.ask("GET", "/", *UPGRADE, *fields)).status == 401


async def test_row_10_a_websocket_ends_with_its_session(house):
    house.app.handler = echo
    browser = await house.login()
    async with connect(house, browser.jar) as socket:
        await socket.send_str("still here")
        assert (await socket.receive(5)).data == "still here"
        other = await house.browser()
        other.jar = dict(browser.jar)
        await other.ask("POST", "/.dit4c/logout", f"Origin: {ORIGIN}")
        message = await socket.receive(5)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


async def test_an_app_that_declines_answers_as_usual(house):
    browser = await house.login()
    reply = await browser.ask("GET", "/x", *UPGRADE, f"Origin: {ORIGIN}")
    assert (reply.status, reply.body) == (200, b"GET /x ")
    assert (await browser.ask("GET", "/y")).body == b"GET /y "


async def test_other_protocols_are_never_switched_to(house):
    browser = await house.login()
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    reply = await browser.ask("GET", "/", *fields)
    assert reply.status == 200
    headers = house.app.requests[-1].headers
    assert not {"Upgrade", "HTTP2-Settings", "Connection"} & set(headers)


async def test_what_follows_the_handshake_reaches_the_app_and_back(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\nfirst"
        )
        data = await reader.read()  # until the browser's half-close
        writer.write(b"got " + data)

    async with raw_house(script) as (house, _):
        browser = await house.login()
        browser.send("GET", "/", *UPGRADE, f"Origin: {ORIGIN}")
        browser.writer.write(b"early")
        assert (await browser.head()).status == 101
        browser.writer.write(b" late")
        browser.writer.write_eof()
        async with asyncio.timeout(5):
            assert await browser.reader.read() == b"firstgot early late"


@pytest.mark.parametrize(
    ("version", "fields", "cause"),
    [
        ("1.0", ("Connection: close",), "sent on by HTTP/1.0"),
        ("1.1", (), "lost its field Connection: Upgrade"),
        ("1.1", ("Upgrade: websocket",), "lost its field Connection: Upgrade"),
        ("1.1", ("Connection: Upgrade", "Upgrade: h2c"), "another protocol"),
    ],
)
async def test_what_a_proxy_in_front_has_lost_is_named(house, version, fields, cause):
    browser = await house.login()
    jar = "; ".join(f"{k}={v}" for k, v in browser.jar.items())
    lines = [f"GET /ws HTTP/{version}", f"Host: {HOST}", f"Origin: {ORIGIN}", f"Cookie: {jar}"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *fields]
    browser.writer.write("\r\n".join([*lines, "", ""]).encode())
    reply = await browser.reply()
    assert reply.status == 400 and cause in reply.body.decode()
    assert "docs/proxy.md" in reply.body.decode()
    assert house.app.requests == []
