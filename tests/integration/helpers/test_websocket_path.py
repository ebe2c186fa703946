"""WebSockets through router, listener and auth helper: for every frame what the app alone answers.

The cases follow the categories of the Autobahn test suite (RFC 6455); they are sent as raw bytes,
to the app itself and through the path, and what comes back has to be the same, byte for byte.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from aiohttp import WSMsgType, web
from systems.web_path import WholePath, a_path

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = bytes((0x37, 0xFA, 0x21, 0x3D))
# The example of RFC 6455 section 1.3.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
LIMIT_S = 20


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """One frame as a client sends it."""
    first, mask = (0x80 if fin else 0) | rsv << 4 | opcode, 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, mask | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, mask | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, mask | 127, len(payload))
    if not masked:
        return head + payload
    pad = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    whole = int.from_bytes(payload) ^ int.from_bytes(pad)
    return head + MASK + whole.to_bytes(len(payload))


def closing(code: int = 1000, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


BYE = closing()
GREEK, CUT = "κόσμε 𝄞".encode(), b"\xf0\x9d\x84"


class Case(NamedTuple):
    """``sent`` after the handshake, ``chop`` bytes at a time, then perhaps the end of sending."""

    sent: bytes
    chop: int = 0
    half_close: bool = False


def text_in(*parts: bytes) -> bytes:
    """One text message in fragments."""
    last = len(parts) - 1
    return b"".join(
        frame(CONTINUATION if number else TEXT, part, fin=number == last)
        for number, part in enumerate(parts)
    )


FRAMING = {
    f"{kind} of {size} bytes": Case(frame(opcode, b"*" * size) + BYE)
    for kind, opcode in (("text", TEXT), ("binary", BINARY))
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 2**20)
} | {
    "binary with every byte": Case(frame(BINARY, bytes(range(256)) * 8) + BYE),
    "byte by byte": Case(frame(TEXT, GREEK * 9) + BYE, chop=1),
    "65536 in chops of 997": Case(frame(BINARY, b"\xfe" * 65536) + BYE, chop=997),
    "length in more bytes than needed": Case(
        b"\x81\xfe" + struct.pack("!H", 3) + frame(TEXT, b"abc")[2:] + BYE
    ),
    "not masked": Case(frame(TEXT, b"abc", masked=False) + BYE),
}
PINGS = {
    f"ping of {size} bytes": Case(frame(PING, bytes(size)) + BYE) for size in (0, 1, 125, 126)
} | {
    "ten pings": Case(b"".join(frame(PING, b"%d" % i) for i in range(10)) + BYE),
    "a ping byte by byte": Case(frame(PING, b"\xff" * 125) + BYE, chop=1),
    "a pong that nobody asked for": Case(frame(PONG) + frame(PONG, b"x") + frame(PING) + BYE),
    "a ping in fragments": Case(frame(PING, b"a", fin=False) + frame(CONTINUATION, b"b") + BYE),
}
RESERVED = {
    f"reserved bits {rsv} in {name}": Case(frame(opcode, b"abc", rsv=rsv) + BYE)
    for rsv in range(1, 8)
    for name, opcode in (("text", TEXT), ("ping", PING))
} | {
    f"opcode {opcode}": Case(frame(TEXT, b"first") + frame(opcode, b"abc") + BYE)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
}
FRAGMENTS = {
    "in two": Case(text_in(b"frag", b"ments") + BYE),
    "in many": Case(text_in(*(b"%d" % i for i in range(200))) + BYE),
    "empty ones": Case(text_in(b"", b"", b"") + BYE),
    "empty but for the middle": Case(text_in(b"", b"x", b"") + BYE),
    "a ping between": Case(
        frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"b") + BYE
    ),
    "a pong between, byte by byte": Case(
        frame(TEXT, b"a", fin=False) + frame(PONG, b"p") + frame(CONTINUATION, b"b") + BYE, chop=1
    ),
    "a close between": Case(frame(TEXT, b"a", fin=False) + BYE),
    "a continuation of nothing": Case(frame(CONTINUATION, b"a") + BYE),
    "an open continuation of nothing": Case(frame(CONTINUATION, b"a", fin=False) + BYE),
    "two messages mixed": Case(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b") + BYE),
    "1 MiB in 4 KiB": Case(text_in(*[b"y" * 4096] * 256) + BYE),
}
UTF8 = {
    "valid": Case(frame(TEXT, GREEK) + BYE),
    "cut at every byte": Case(text_in(*(bytes([byte]) for byte in GREEK)) + BYE),
    "edges of the planes": Case(
        frame(TEXT, "\x00\x7f\x80\u07ff\u0800\uffff\U0010ffff".encode()) + BYE
    ),
    "non-characters": Case(frame(TEXT, "\ufffe\uffff\U0001fffe".encode()) + BYE),
} | {
    f"invalid {bad.hex()} {how}": Case(sent + BYE)
    for bad in (
        *(b"\x80", b"\xbf", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xfe", b"\xff"),
        *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", CUT),
    )
    for how, sent in (
        ("whole", frame(TEXT, GREEK + bad)),
        ("in fragments", text_in(GREEK, bad, b"edited")),
    )
}
CLOSES = {
    f"code {code}": Case(closing(code, b"reason"))
    for code in (
        *(0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011),
        *(1012, 1013, 1014, 1015, 1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535),
    )
} | {
    "no code": Case(frame(CLOSE)),
    "half a code": Case(frame(CLOSE, b"\x03")),
    "a reason of 123 bytes": Case(closing(1000, b"r" * 123)),
    "a reason of 124 bytes": Case(closing(1000, b"r" * 124)),
    "a reason that is not UTF-8": Case(closing(1000, CUT)),
    "twice": Case(BYE + BYE),
    "a message after it": Case(BYE + frame(TEXT, b"late")),
    "a ping after it": Case(BYE + frame(PING, b"late")),
    "byte by byte": Case(closing(3000, b"bye"), chop=1),
    "masked reason in Greek": Case(closing(4999, GREEK)),
}
FLOODS = {
    "1,000 small messages": Case(b"".join(frame(TEXT, b"%d" % i) for i in range(1000)) + BYE),
    "1,000 in chops of 13": Case(
        b"".join(frame(BINARY, b"%d" % i) for i in range(1000)) + BYE, chop=13
    ),
    "200 of 16 KiB": Case(frame(BINARY, b"z" * 16384) * 200 + BYE),
}
HALF_CLOSES = {
    "at once": Case(b"", half_close=True),
    "within a head": Case(frame(TEXT, b"x" * 300)[:3], half_close=True),
    "within a payload": Case(frame(TEXT, b"x" * 300)[:100], half_close=True),
    "after the close": Case(BYE, half_close=True),
    "within fragments": Case(frame(TEXT, b"a", fin=False), half_close=True),
}
CATEGORIES = {
    "framing": FRAMING,
    "pings": PINGS,
    "reserved": RESERVED,
    "fragments": FRAGMENTS,
    "utf-8": UTF8,
    "closes": CLOSES,
    "floods": FLOODS,
    "half-closes": HALF_CLOSES,
}


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    """Says again what it hears."""
    if "Upgrade" not in request.headers:
        return web.Response()
    socket = web.WebSocketResponse(max_msg_size=0, compress=False, timeout=0.3)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@pytest.fixture
async def app_port() -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(echo, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def path(tmp_path, app_port) -> AsyncIterator[WholePath]:
    async with a_path(tmp_path, app_port) as path:
        yield path


async def send(writer: asyncio.StreamWriter, case: Case) -> None:
    """The case's bytes; that the far end no longer reads is no error here."""
    step = case.chop or max(len(case.sent), 1)
    try:
        for position in range(0, len(case.sent), step):
            writer.write(case.sent[position : position + step])
            await writer.drain()
            if case.chop:
                await asyncio.sleep(0)
        if case.half_close:
            writer.write_eof()
    except ConnectionError:
        return


async def receive(reader: asyncio.StreamReader) -> bytes:
    """All until the far end closes."""
    received = bytearray()
    try:
        while data := await reader.read(2**16):
            received += data
    except ConnectionError:
        # Closed with bytes of ours unread: what else a close looks like.
        return bytes(received)
    return bytes(received)


async def play(port: int, path: WholePath, case: Case) -> bytes:
    """What comes back after the handshake, until the far end has closed."""
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            lines = [
                *("GET /echo HTTP/1.1", f"Host: {path.host}", f"Origin: {path.origin}"),
                *("Connection: Upgrade", "Upgrade: websocket", f"Cookie: {path.cookie}"),
                *(f"Sec-WebSocket-Key: {KEY.decode()}", "Sec-WebSocket-Version: 13"),
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ") and ACCEPT in head, head
            _, received = await asyncio.gather(send(writer, case), receive(reader))
            return received
        finally:
            writer.close()


def shown(received: bytes) -> str:
    """Short enough to be read."""
    return f"{len(received)} bytes {received[:60]!r}…{received[-40:]!r}"


@pytest.mark.parametrize("category", CATEGORIES)
async def test_what_the_app_alone_answers(category, app_port, path):
    differ = {}
    for name, case in CATEGORIES[category].items():
        alone, through = await play(app_port, path, case), await play(path.port, path, case)
        if alone != through:
            differ[name] = f"alone {shown(alone)}, through the path {shown(through)}"
    assert not differ


async def test_an_app_may_go_on_after_its_visitor_has_ended_sending(tmp_path):
    """aiohttp gives up at a half-close; another app may still have something to say."""

    async def last_words(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/echo" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
            writer.write(b"Upgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT)
            heard = await reader.read()
            writer.write(frame(TEXT, b"%d" % len(heard), masked=False))
        writer.close()

    async with await asyncio.start_server(last_words, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with a_path(tmp_path, port) as path:
            case = Case(frame(BINARY, b"x" * 300), half_close=True)
            assert await play(port, path, case) == b"\x81\x03308"
            assert await play(path.port, path, case) == b"\x81\x03308"


async def test_the_cases_are_no_silence(app_port, path):
    """The comparison above would hold for two ends that say nothing."""
    assert await play(path.port, path, FRAMING["text of 127 bytes"]) == (
        b"\x81\x7e\x00\x7f" + b"*" * 127 + b"\x88\x02\x03\xe8"
    )
    assert await play(path.port, path, RESERVED["opcode 3"]) != b""
    received = await play(path.port, path, FLOODS["1,000 small messages"])
    assert received.endswith(b"\x81\x03999\x88\x02\x03\xe8")
