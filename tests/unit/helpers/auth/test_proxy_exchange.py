"""Silence, endless answers and naive apps: one exchange through the whole auth helper."""

import asyncio

import pytest
from systems.auth_helper import HOST, ORIGIN

from dit4c_p2p.helpers.auth import proxy_exchange

SILENCE_S = 0.6
STEP_S = 0.2
STEPS = 6


async def trickle(writer, pieces):
    """Write pieces, none of which comes later than the limit for silence allows."""
    for piece in pieces:
        await asyncio.sleep(STEP_S)
        writer.write(piece)


async def test_a_slow_upload_is_not_silent(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(STEPS)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with raw_house(script, silence_s=SILENCE_S) as (house, _):
        browser = await house.login()
        browser.send("PUT", "/f", f"Origin: {ORIGIN}", f"Content-Length: {STEPS}")
        await trickle(browser.writer, [b"x"] * STEPS)
        assert (await browser.reply()).status == 201


async def test_a_slow_download_beside_a_waiting_upload_is_not_silent(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await trickle(writer, [b"1\r\nx\r\n"] * STEPS)
        await reader.readexactly(2)
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with raw_house(script, silence_s=SILENCE_S) as (house, _):
        browser = await house.login()
        browser.send("PUT", "/f", f"Origin: {ORIGIN}", "Content-Length: 2")
        assert (await browser.head()).status == 200
        async with asyncio.timeout(10):
            for _ in range(STEPS):
                assert await browser.reader.readexactly(6) == b"1\r\nx\r\n"
            browser.writer.write(b"xx")
            assert await browser.reader.readexactly(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("length", [0, 5])
async def test_silence_in_both_directions_ends_a_request(raw_house, length):
    async def script(reader, writer):
        await reader.read()

    async with raw_house(script, silence_s=SILENCE_S) as (house, _):
        browser = await house.login()
        browser.send("PUT", "/f", f"Origin: {ORIGIN}", f"Content-Length: {length}")
        began = asyncio.get_running_loop().time()
        assert (await browser.reply()).status in (400, 504)
        assert asyncio.get_running_loop().time() - began >= SILENCE_S


async def test_interim_answers_without_end(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(100 * proxy_exchange.MAX_INTERIM):
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()

    async with raw_house(script) as (house, _):
        browser = await house.login()
        for version in ("1.1", "1.0"):
            again = await house.browser()
            fields = "; ".join(f"{k}={v}" for k, v in browser.jar.items())
            again.writer.write(
                f"GET / HTTP/{version}\r\nHost: {HOST}\r\nCookie: {fields}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            async with asyncio.timeout(10):
                data = await again.reader.read()
            interim, _, answer = data.rpartition(b"HTTP/1.1 102 Processing\r\n\r\n")
            assert bool(interim) == (version == "1.1")
            assert answer.startswith(b"HTTP/1.1 502 ") and b"interim" in answer


async def test_an_app_that_reads_forwarded_naively_takes_its_own_websocket(raw_house):
    """By splitting at ``;`` and ``=``, before it looks at X-Forwarded-Host, as code-server does."""

    async def script(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
        host = fields.get("X-Forwarded-Host", fields["Host"])
        for part in fields.get("Forwarded", "").split(";"):
            name, _, value = part.partition("=")
            host = value if name.strip().lower() == "host" else host
        good = fields["Origin"].split("//")[1] == host
        status = b"101 Switching Protocols" if good else b"403 Forbidden"
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
        writer.write(b"\r\n")
        await reader.read()

    async with raw_house(script) as (house, _):
        browser = await house.login()
        fields = (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Forwarded: host=evil",
        )
        browser.send("GET", "/ws", f"Origin: {ORIGIN}", *fields)
        assert (await browser.head()).status == 101
