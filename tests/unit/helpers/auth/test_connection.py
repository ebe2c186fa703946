"""Requests, responses and bodies through the whole auth helper."""

import asyncio
import hashlib

import pytest
from aiohttp import web
from systems.auth_helper import HOST, ORIGIN

MiB = 1024 * 1024


async def test_a_request_and_its_response(house):
    browser = await house.login()
    reply = await browser.ask("GET", "/a%20b?c=d")
    assert (reply.status, reply.body) == (200, b"GET /a%20b?c=d ")
    reply = await browser.ask("POST", "/x", f"Origin: {ORIGIN}", body=b"hello")
    assert (reply.status, reply.body) == (200, b"POST /x hello")
    reply = await browser.ask("HEAD", "/x")
    assert (reply.status, reply.body) == (200, b"")


async def test_pipelined_requests_are_answered_in_order(house):
    browser = await house.login()
    for number in range(20):
        browser.send("GET", f"/{number}")
    for number in range(20):
        assert (await browser.reply()).body == f"GET /{number} ".encode()


async def test_connections_to_the_app_are_kept(house):
    browser = await house.login()
    for _ in range(5):
        await browser.ask("GET", "/")
    transports = {id(request.transport) for request in house.app.requests}
    assert len(transports) == 1


async def test_chunked_bodies_both_ways(house):
    async def handler(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for data in request.content.iter_any():
            await response.write(data.upper())
        return response

    house.app.handler = handler
    browser = await house.login()
    browser.send("POST", "/", f"Origin: {ORIGIN}", "Transfer-Encoding: chunked")
    head = None
    for data in (b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"):
        browser.writer.write(data)
        if head is None:
            head = await browser.head()  # the response begins before the request has ended
    assert head.get(b"transfer-encoding") == b"chunked"
    async with asyncio.timeout(5):
        body = await browser.reader.readuntil(b"0\r\n\r\n")
    assert body.replace(b"\r\n", b"").translate(None, b"0123456789") == b"ABCDE"


async def test_expect_continue_is_passed_on(raw_house):
    async def script(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Expect: 100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)

    async with raw_house(script) as (house, _):
        browser = await house.login()
        browser.send("POST", "/", f"Origin: {ORIGIN}", "Expect: 100-continue", "Content-Length: 2")
        assert (await browser.head()).status == 100
        browser.writer.write(b"ok")
        assert (await browser.reply()).body == b"ok"
        assert (await browser.ask("GET", "/", "Expect: something")).status == 417


async def test_expect_continue_of_a_stranger_is_answered_at_once(house):
    browser = await house.browser()
    browser.send("POST", "/", "Expect: 100-continue", "Content-Length: 2")
    assert (await browser.reply()).status == 401
    assert await browser.at_end()


async def test_a_response_that_ends_with_its_connection(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async with raw_house(script) as (house, _):
        browser = await house.login()
        for _ in range(2):  # on one connection of the browser
            reply = await browser.ask("GET", "/")
            assert reply.head.get(b"transfer-encoding") == b"chunked" and reply.head.keep_alive
            assert reply.body == b"9\r\nall of it\r\n0\r\n\r\n"
            assert not browser.closing


async def test_100_mib_both_ways_with_bounded_memory(house):
    size = 100 * MiB
    taken = []

    async def handler(request):
        digest = hashlib.sha256()
        if request.method == "POST":
            async for data in request.content.iter_any():
                digest.update(data)
            return web.Response(text=digest.hexdigest())
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        for _ in range(size // MiB):
            await response.write(b"x" * MiB)
            taken.append(1)
        return response

    house.app.handler = handler
    browser = await house.login()
    browser.send("GET", "/")
    head = await browser.head()
    assert head.body.length == size
    # A browser that reads nothing stops the app after what the buffers and sockets hold.
    stalled = await stalls(taken)
    assert stalled < 20, f"{stalled} MiB were taken from the app for a browser that reads nothing"
    left = size
    async with asyncio.timeout(60):
        while left:
            left -= len(await browser.reader.read(MiB))

    browser.send("POST", "/", f"Origin: {ORIGIN}", f"Content-Length: {size}")
    block = b"y" * MiB
    async with asyncio.timeout(60):
        for _ in range(size // MiB):
            browser.writer.write(block)
            await browser.writer.drain()
    expected = hashlib.sha256()
    for _ in range(size // MiB):
        expected.update(block)
    assert (await browser.reply("POST")).body == expected.hexdigest().encode()


async def stalls(counter) -> int:
    """The length of ``counter`` once it has stopped growing."""
    seen = -1
    while seen != len(counter):
        seen = len(counter)
        await asyncio.sleep(0.2)
    return seen


async def test_a_browser_that_goes_away_mid_download_leaves_nothing(house):
    ended = asyncio.Event()

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * MiB)
        finally:
            ended.set()

    house.app.handler = handler
    browser = await house.login()
    browser.send("GET", "/")
    await browser.head()
    browser.close()
    async with asyncio.timeout(5):
        await ended.wait()
        await none_left(house)


async def test_a_browser_that_goes_away_while_the_app_is_silent_leaves_nothing(raw_house):
    asked, ended = asyncio.Event(), asyncio.Event()

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        assert await reader.read() == b""
        ended.set()

    async with raw_house(script) as (house, _):
        browser = await house.login()
        browser.send("GET", "/events")
        await asyncio.wait_for(asked.wait(), 5)
        browser.close()
        async with asyncio.timeout(5):
            await ended.wait()
            await none_left(house)


async def none_left(house) -> None:
    while house.server.connections:
        await asyncio.sleep(0.01)


async def test_an_app_that_breaks_off_is_seen_as_such(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with raw_house(script) as (house, _):
        browser = await house.login()
        browser.send("GET", "/")
        assert (await browser.head()).body.length == 10
        async with asyncio.timeout(5):
            assert await browser.reader.read() == b"half"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\n\r\n",
    ],
)
async def test_an_answer_that_is_none_gives_502(raw_house, answer):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with raw_house(script) as (house, _):
        browser = await house.login()
        reply = await browser.ask("GET", "/", "Accept: text/html")
        assert reply.status == 502
        assert b"could not be understood" in reply.body
        # The browser's connection is none the worse for it.
        assert (await browser.ask("GET", "/")).status == 502


async def test_a_kept_connection_that_the_app_closed_is_replaced(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")  # the next request is taken and never answered

    async with raw_house(script) as (house, app):
        browser = await house.login()
        for _ in range(4):
            assert (await browser.ask("GET", "/")).body == b"ok"
        before = app.connections
        for _ in range(2):  # nothing that changes something is ever sent twice
            reply = await browser.ask("POST", "/", f"Origin: {ORIGIN}", body=b"x")
            assert reply.body == b"ok"
        assert app.connections == before + 2


async def test_bytes_after_a_response_are_never_taken_for_the_next(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + evil)
        await reader.read()

    async with raw_house(script) as (house, _):
        browser = await house.login()
        for _ in range(3):
            assert (await browser.ask("GET", "/")).body == b"ok"


async def test_an_app_that_is_not_there_yet_gives_503_and_then_502(start_house, app):
    await app.stop()
    house = await start_house()
    browser = await house.login()
    reply = await browser.ask("GET", "/", "Accept: text/html")
    assert reply.status == 503 and b"still starting" in reply.body
    assert (await browser.ask("GET", "/.dit4c/alive")).status == 503
    assert "waiting_for_app" in house.output.getvalue()
    await app.start()
    async with asyncio.timeout(5):
        await house.server.app.ready.wait()
    assert (await browser.ask("GET", "/")).status == 200
    async with asyncio.timeout(5):
        while (await browser.ask("GET", "/.dit4c/alive")).status != 200:
            await asyncio.sleep(0.1)
        while "app_ready" not in house.output.getvalue():
            await asyncio.sleep(0.01)
    await app.stop()
    reply = await browser.ask("GET", "/", "Accept: application/json")
    assert reply.status == 502 and b"does not answer any more" in reply.body
    assert reply.head.get(b"content-type") == b"application/problem+json"


async def test_http_1_0_is_answered_and_closed(house):
    browser = await house.login()
    cookie = "; ".join(f"{k}={v}" for k, v in browser.jar.items())
    browser.writer.write(
        f"GET /old HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n"
        f"Cookie: {cookie}\r\n\r\n".encode()
    )
    reply = await browser.reply()
    assert reply.body == b"GET /old " and reply.head.get(b"connection") == b"close"
    assert await browser.at_end()


async def test_a_stream_without_proxy_header_is_closed(house):
    browser = await house.browser(client=None)
    browser.send("GET", "/")
    assert await browser.at_end()


async def test_the_socket_is_for_its_user_only_and_gone_afterwards(house):
    assert house.pod.auth_socket.stat().st_mode & 0o777 == 0o600
    await house.server.stop()
    assert not house.pod.auth_socket.exists()
