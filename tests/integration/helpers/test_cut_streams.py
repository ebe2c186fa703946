"""A stream that was cut is seen to be cut at its other end, through every hop of the path."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from systems.web_path import a_path

pytestmark = pytest.mark.asyncio(loop_scope="module")
LONG = b"x" * 3_000_000
ENDS = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 3000010\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def reset(writer: asyncio.StreamWriter) -> None:
    """Cut a TCP stream."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def rest(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """All that still comes, and whether its end was an orderly one."""
    data = bytearray()
    async with asyncio.timeout(15):
        try:
            while some := await reader.read(65536):
                data += some
        except ConnectionResetError:
            return bytes(data), False
    return bytes(data), True


class Path:
    """The whole path to an app whose next answer is a script."""

    def __init__(self) -> None:
        self.scripts: asyncio.Queue = asyncio.Queue()
        self.seen: asyncio.Queue = asyncio.Queue()

    async def serve(self, reader, writer) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # only whether it listens
            writer.close()
            return
        script = await self.scripts.get()
        try:
            await script(head, reader, writer)
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def ask(self, script, *lines: str, version: str = "1.1", method: str = "GET"):
        """Send a request that ``script`` is to answer."""
        self.scripts.put_nowait(script)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.path.port, limit=2**22)
        fields = [f"Host: {self.path.host}", f"Cookie: {self.path.cookie}", *lines]
        writer.write("\r\n".join([f"{method} /f HTTP/{version}", *fields, "", ""]).encode())
        return reader, writer

    async def upgrade(self, script):
        """A WebSocket that has begun."""
        reader, writer = await self.ask(
            script,
            f"Origin: {self.path.origin}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        async with asyncio.timeout(10):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        return reader, writer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def path(tmp_path_factory) -> AsyncIterator[Path]:
    path = Path()
    server = await asyncio.start_server(path.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with a_path(tmp_path_factory.mktemp("path"), port) as path.path:
        yield path
    server.close()


def answers(head: bytes, body: bytes, *, cut: bool):
    """An app that sends so much, and then ends or cuts its connection."""

    async def script(_, reader, writer):
        writer.write(head + body)
        await writer.drain()
        if cut:
            # A reset overtakes what was sent before: the auth helper has to have it.
            while writer.transport.get_write_buffer_size():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            reset(writer)

    return script


@pytest.mark.parametrize("body", [b"1,2\n", LONG])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("cut", [False, True])
async def test_a_response_without_a_length(path, version, body, cut):
    """Its end is the app's end of file; a reset is not."""
    reader, _ = await path.ask(answers(ENDS, body, cut=cut), "Connection: close", version=version)
    data, orderly = await rest(reader)
    head, _, content = data.partition(b"\r\n\r\n")
    assert (b"chunked" in head) == (version == "1.1")
    if version == "1.1":
        assert content.endswith(b"\r\n0\r\n\r\n") != cut
    else:
        assert orderly != cut
        assert cut or content == body


@pytest.mark.parametrize(
    ("head", "end"), [(CHUNKED, b"0\r\n\r\n"), (COUNTED, b"y" * 10)], ids=["chunks", "length"]
)
@pytest.mark.parametrize("cut", [False, True])
async def test_a_response_that_tells_its_end(path, head, end, cut):
    """An end of file before it is a cut as well."""
    body = b"%x\r\n%b\r\n" % (len(LONG), LONG) if head is CHUNKED else LONG
    if not cut:
        body += end
    reader, _ = await path.ask(answers(head, body, cut=False), "Connection: close")
    data, orderly = await rest(reader)
    assert data.endswith(end) != cut
    assert orderly != cut


async def test_a_response_to_head_has_no_body_that_could_be_cut(path):
    reader, writer = await path.ask(answers(ENDS, b"", cut=False), method="HEAD")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head and b"200 OK" in head
    writer.write(f"GET /.dit4c/alive HTTP/1.1\r\nHost: {path.path.host}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("cut", ["reset", "end"])
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_request_whose_body_is_cut(path, framing, cut):
    """The app sees that the upload was cut, and never a shorter one."""

    async def script(head, reader, writer):
        path.seen.put_nowait(await rest(reader))

    lines = (framing, f"Origin: {path.path.origin}")
    _, writer = await path.ask(script, *lines, method="PUT")
    writer.write(b"5\r\nhello\r\n")
    await asyncio.sleep(0.2)
    if cut == "reset":
        reset(writer)
    else:
        writer.write_eof()
    async with asyncio.timeout(10):
        data, orderly = await path.seen.get()
    assert (data.replace(b"\r\n", b""), orderly) == (b"5hello", False)


@pytest.mark.parametrize("who", ["app", "browser"])
@pytest.mark.parametrize("cut", [False, True])
async def test_a_websocket(path, who, cut):
    """Whoever ends it: the other end sees whether the stream ended or was cut."""
    go = asyncio.Event()

    async def end(writer):
        writer.write(b"last words")
        await writer.drain()
        await asyncio.sleep(0.2)
        if cut:
            reset(writer)
        else:
            writer.write_eof()

    async def script(head, reader, writer):
        writer.write(SWITCHED)
        if who == "app":
            await end(writer)
            await reader.read()
        else:
            path.seen.put_nowait(await rest(reader))

    reader, writer = await path.upgrade(script)
    if who == "app":
        assert await rest(reader) == (b"last words", not cut)
    else:
        await end(writer)
        async with asyncio.timeout(10):
            assert await path.seen.get() == (b"last words", not cut)
    go.set()
    writer.close()
