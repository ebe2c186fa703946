"""The router by HTTPS: streams, ends of streams, limits before and in the handshake, redirects."""

import asyncio

import pytest
from lib.waiting import until
from systems.router import a_house, hello

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net import https_redirect
from dit4c_p2p.router import Limits

MIB = 1024 * 1024
HOST = "abc.apps.example.test"
STRICT = b"Strict-Transport-Security: max-age=31536000"


@pytest.fixture
def limits():
    return Limits(handshake_s=0.5, head_s=0.5, stalled_s=5, visitors_per_address=10)


@pytest.fixture
async def house(tmp_path, authority, limits):
    changes = {
        "http": (),
        "https": (("127.0.0.1", 0),),
        "redirect": (("127.0.0.1", 0),),
        "tls": authority.files("router", "*.apps.example.test"),
        "user_url": "https://{id}.apps.example.test:4443/",
    }
    async with a_house(tmp_path, limits, **changes) as house:
        house.trusted = authority.client()
        yield house


async def visit(house, **more):
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        house.router.https_port,
        ssl=house.trusted,
        server_hostname=HOST,
        limit=MIB,
        **more,
    )
    # asyncio's TLS transport breaks when it is aborted after it was closed twice (Python 3.11).
    house.stack.callback(lambda: writer.transport.is_closing() or writer.transport.abort())
    return reader, writer


async def nothing_is_left(house):
    door, board = house.router.door, house.router.board
    await until(lambda: door.visitors == 0 and door.windows.leased_bytes == 0)
    await until(lambda: all(server.channels == 0 for server in board.live))


async def test_keep_alive_is_spliced(house):
    await house.tunnel("instance-abc", hello)
    reader, writer = await visit(house)
    for path in (b"/one", b"/two", b"/three"):
        writer.write(b"GET %b HTTP/1.1\r\nHost: %b:4443\r\n\r\n" % (path, HOST.encode()))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(len(path)) == path
    writer.close()
    await nothing_is_left(house)


@pytest.mark.parametrize("cut", [False, True])
async def test_a_stream_that_was_cut_has_no_orderly_end(house, cut):
    """HTTP/1.0 tells a whole answer by its end alone."""

    async def app(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n1,2\n")
        await writer.drain()
        if cut:
            await asyncio.sleep(0.2)
            writer.channel.abort()  # a channel closed without an end of file
        else:
            writer.write_eof()
            await reader.read()

    await house.tunnel("instance-abc", app)
    reader, writer = await visit(house)
    writer.write(b"GET / HTTP/1.0\r\nHost: %b:4443\r\n\r\n" % HOST.encode())
    await reader.readuntil(b"1,2\n")
    async with asyncio.timeout(5):
        if cut:
            with pytest.raises(OSError):
                await reader.read()
        else:
            assert await reader.read() == b""


async def test_large_both_ways_with_a_slow_reader(house):
    """Back-pressure goes through TLS, and the end of the stream takes nothing away."""
    size = 12 * MIB

    async def echo(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            data = await reader.read(256 * 1024)
            left -= len(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    await house.tunnel("instance-abc", echo)
    reader, writer = await visit(house)
    writer.write(
        b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (HOST.encode(), size)
    )

    async def send():
        for _ in range(size // MIB):
            writer.write(b"x" * MIB)
            await writer.drain()

    sending = asyncio.create_task(send())
    received = 0
    await asyncio.sleep(0.5)
    while data := await reader.read(MIB):
        received += len(data)
        await asyncio.sleep(0)
    await sending
    assert received == size
    writer.close()
    await nothing_is_left(house)


async def test_an_app_that_ends_its_stream_ends_the_visit_only(house):
    """security.md 3: an error in a channel's handler would cut the whole tunnel."""

    async def once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbye")
        writer.write_eof()
        await reader.read()

    connection = await house.tunnel("instance-abc", once)
    for _ in range(3):
        reader, writer = await visit(house)
        writer.write(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
        assert (await reader.read()).endswith(b"bye")
        writer.close()
    assert not connection.is_closed()
    await nothing_is_left(house)


async def test_a_visitor_that_goes_takes_its_channel_along(house):
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def waits(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        try:
            await reader.read()
        finally:
            ended.set()
            writer.close()

    await house.tunnel("instance-abc", waits)
    for cut in (lambda w: w.close(), lambda w: w.transport.abort()):
        arrived.clear()
        ended.clear()
        _, writer = await visit(house)
        writer.write(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
        async with asyncio.timeout(5):
            await arrived.wait()
            cut(writer)
            await ended.wait()
        await nothing_is_left(house)


async def test_pages_say_to_stay_with_https(house):
    for request, status in (
        (b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode(), b"404"),
        (b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n", b"421"),
        (b"nonsense\r\n\r\n", b"400"),
    ):
        reader, writer = await visit(house)
        writer.write(request)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 " + status) and STRICT in answer
        writer.close()
    await nothing_is_left(house)


async def test_handshakes_that_do_not_end_count_and_are_cut(house):
    """security.md section 5: 500 slow senders; also those that say nothing before TLS."""
    port = house.router.https_port
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    await until(lambda: house.router.door.visitors == 10)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b"", "one more has no place, and is told by being closed"
    writer.close()
    for _, one in silent[:5]:
        one.write(b"\x16\x03\x01")
    async with asyncio.timeout(3):
        await asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True)
    for _, one in silent:
        one.transport.abort()
    await nothing_is_left(house)
    await house.tunnel("instance-abc", hello)
    reader, writer = await visit(house)
    writer.write(b"GET /again HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
    assert b"200" in await reader.readuntil(b"\r\n\r\n")


async def test_plain_http_and_old_tls_on_the_tls_port_are_cut(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.router.https_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
    async with asyncio.timeout(3):
        assert b"HTTP" not in await reader.read()
    writer.close()
    await nothing_is_left(house)


@pytest.mark.parametrize(
    ("host", "path", "status", "location"),
    [
        (HOST, "/a?b=%2F", 308, "https://abc.apps.example.test:4443/a?b=%2F"),
        ("ABC.apps.EXAMPLE.test:80", "/", 308, "https://abc.apps.example.test:4443/"),
        (HOST, "//evil.test/", 308, "https://abc.apps.example.test:4443//evil.test/"),
        ("apps.example.test", "/", 421, ""),
        ("evil.test", "/", 421, ""),
        ("a.b.apps.example.test", "/", 421, ""),
        ("-.apps.example.test", "/", 400, ""),
        ("abc.apps.example.test.evil.test", "/", 421, ""),
    ],
)
async def test_plain_http_leads_to_the_canonical_url_only(house, host, path, status, location):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.router.redirect_port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert (f"\r\nLocation: {location}\r\n" in answer) == bool(location)
    assert "Strict-Transport" not in answer, "RFC 6797 section 7.2: never by plain HTTP"
    await nothing_is_left(house)


async def test_redirects_are_read_as_strictly_as_anything(house):
    for request in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\nHost: evil.test\r\n\r\n" % HOST.encode(),
        b"GET http://evil.test/ HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode(),
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET /\x00 HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode(),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.router.redirect_port)
        writer.write(request)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 4") and b"Location" not in answer, request
        writer.close()


@pytest.mark.parametrize(("begun", "said"), [(b"GET / HT", b"HTTP/1.1 408 "), (b"", b"")])
async def test_redirects_wait_for_no_head(house, monkeypatch, begun, said):
    monkeypatch.setattr(https_redirect, "_HEAD_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.router.redirect_port)
    writer.write(begun)
    answer = await reader.read()
    writer.close()
    assert answer[:13] == said
    await nothing_is_left(house)


async def test_unusable_addresses_and_certificates_are_refused(tmp_path, authority, limits):
    good = {"https": (("127.0.0.1", 0),), "user_url": "https://{id}.apps.example.test/"}
    for changes, words in (
        ({"http": ()}, "no address"),
        (good, "needs a certificate"),
        (good | {"tls": authority.files("a", "abc.apps.example.test")}, "is not for *.apps"),
    ):
        with pytest.raises(ConfigError) as caught:
            async with a_house(tmp_path, limits, **changes):
                pass
        assert words in caught.value.one_line()


async def test_many_visitors_at_once(tmp_path, authority):
    changes = {
        "https": (("127.0.0.1", 0),),
        "tls": authority.files("router", "*.apps.example.test"),
        "user_url": "https://{id}.apps.example.test/",
    }
    limits = Limits(channels_per_visitor=200)
    async with a_house(tmp_path, limits, **changes) as house:
        house.trusted = authority.client()
        await house.tunnel("instance-abc", hello)

        async def one(number):
            reader, writer = await visit(house)
            path = b"/%d" % number
            writer.write(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, HOST.encode()))
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(path)) == path
            writer.close()

        await asyncio.gather(*(one(number) for number in range(150)))
        await nothing_is_left(house)
