"""What no browser sends; the rows of security.md on what strangers can do to the portal."""

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack

import pytest
from systems.portal import Limits, PortalAtWork

SECRETS = {"cookie": "c00kie-value", "link": "l0gin-link", "token": "ap1-token"}


class Raw:
    """A connection that says what it is told."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def say(self, data):
        self.writer.write(data if isinstance(data, bytes) else data.encode())
        await self.writer.drain()

    async def head(self):
        """The next answer's status and fields, by lower-case name."""
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = [line.split(": ", 1) for line in lines[1:] if line]
        return int(lines[0].split()[1]), {name.lower(): value for name, value in fields}

    async def answer(self):
        """The next answer: status, fields, body."""
        status, fields = await self.head()
        async with asyncio.timeout(10):
            body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return status, fields, body

    async def ended(self):
        """Whether the other end closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@pytest.fixture
async def connect():
    async with AsyncExitStack() as stack:

        async def connect(to):
            reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
            stack.callback(writer.close)
            return Raw(reader, writer)

        yield connect


@pytest.fixture
async def strict(tmp_path, engine):
    """A portal that waits for nothing long."""
    limits = Limits(body_s=0.6, body_silence_s=0.3, connections=12, connections_per_address=8)
    async with PortalAtWork(tmp_path, limits) as work:
        yield work


def post(work, path="/oauth/token", *fields, kind="application/x-www-form-urlencoded"):
    """The head of a POST."""
    lines = (f"POST {path} HTTP/1.1", f"Host: localhost:{work.port}", f"Content-Type: {kind}")
    return "\r\n".join([*lines, *fields, "", ""])


def failures(caplog):
    """What was logged with a trace, or as an error."""
    return [one for one in caplog.records if one.exc_info or one.levelno >= logging.ERROR]


async def test_section_4_a_body_that_does_not_come_is_answered_and_closed(strict, connect):
    started = time.monotonic()
    for fields in (("Content-Length: 10",), ("Transfer-Encoding: chunked",)):
        silent = await connect(strict)
        await silent.say(post(strict, "/oauth/token", *fields))
        status, head, body = await silent.answer()
        assert (status, head["connection"]) == (408, "close"), body
        assert await silent.ended()
    assert time.monotonic() - started < 8


async def test_section_4_a_body_that_trickles_in_is_answered_and_closed(strict, connect):
    slow = await connect(strict)
    await slow.say(post(strict, "/oauth/token", "Content-Length: 1000"))
    answer = asyncio.create_task(slow.head())
    while not answer.done():
        await slow.say("x")
        await asyncio.sleep(0.05)
    assert (await answer)[0] == 408


async def test_section_4_a_body_over_the_limit_ends_the_connection(work, connect):
    big = await connect(work)
    await big.say(post(work, "/oauth/token", "Content-Length: 70000") + "x" * 70_000)
    status, head, _ = await big.answer()
    assert (status, head["connection"]) == (413, "close")


async def test_section_4_one_address_has_its_share_of_connections(strict, connect):
    held = [await connect(strict) for _ in range(8)]
    for one in held:
        await one.say(f"GET /config.json HTTP/1.1\r\nHost: localhost:{strict.port}\r\n\r\n")
        assert (await one.head())[0] == 200
    status, head, _ = await (await connect(strict)).answer()
    assert (status, head["connection"]) == (503, "close")
    held[0].writer.close()
    await held[0].writer.wait_closed()
    async with asyncio.timeout(5):
        while True:  # until the portal has seen it go
            again = await connect(strict)
            await again.say(f"GET /config.json HTTP/1.1\r\nHost: localhost:{strict.port}\r\n\r\n")
            if (await again.head())[0] == 200:
                break


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /login/l0gin-link HTTP/1.1\nbad header here\r\nCookie: a=c00kie-value\r\n\r\n",
        "GET /login/l0gin-link HTTP/9.7\r\nCookie: a=c00kie-value\r\n\r\n",
        "GET /login/l0gin-link\r\nAuthorization: Bearer ap1-token\r\n\r\n",
        "G\x00T /login/l0gin-link HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nCookie: a=c00kie-value\x00\r\n\r\n",
        "GET / HTTP/1.1\r\nAuthorization : Bearer ap1-token\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ap1-token" + "x" * 40_000 + "\r\n\r\n",
        "POST / HTTP/1.1\r\nCookie: a=c00kie-value\r\nContent-Length: 1\r\n"
        "Transfer-Encoding: chunked\r\n\r\n",
        "\x16\x03\x01 l0gin-link c00kie-value ap1-token\r\n\r\n",
    ],
)
async def test_row_12_what_is_no_request_leaves_no_secret_in_the_log(
    work, connect, caplog, request_text
):
    caplog.set_level(logging.DEBUG)
    stranger = await connect(work)
    await stranger.say(request_text)
    status, head, body = await stranger.answer()
    assert status in (400, 431, 505)
    assert head["content-type"].startswith("application/problem+json")
    assert json.loads(body)["status"] == status
    assert "server" not in head
    assert head["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in head["content-security-policy"]
    assert await stranger.ended()
    for record in caplog.records:
        said = record.getMessage() + str(record.exc_info) + record.pathname
        assert not any(secret in said for secret in SECRETS.values()), said
        assert record.exc_info is None
    assert not any(secret in body.decode() for secret in SECRETS.values())


async def test_no_answer_says_what_serves_it(work, connect):
    for path in ("/", "/nothing", "/config.json", "/static/portal.css"):
        stranger = await connect(work)
        await stranger.say(f"GET {path} HTTP/1.1\r\nHost: localhost:{work.port}\r\n\r\n")
        assert "server" not in (await stranger.head())[1]


async def test_large_cookies_of_other_ports_are_no_error(work, connect):
    stranger = await connect(work)
    cookies = "; ".join(f"other-{number}={'x' * 3000}" for number in range(9))
    await stranger.say(
        f"GET / HTTP/1.1\r\nHost: localhost:{work.port}\r\nCookie: {cookies}\r\n\r\n"
    )
    assert (await stranger.head())[0] == 401
    huge = await connect(work)
    await huge.say(f"GET / HTTP/1.1\r\nHost: localhost:{work.port}\r\n")
    fields = "".join(f"X-{number}: {'x' * 8000}\r\n" for number in range(20))
    await huge.say(fields)
    assert (await huge.head())[0] == 431


@pytest.mark.both_databases
async def test_odd_bytes_and_encodings_are_the_callers_mistake(work, connect, caplog):
    cookie = f"__Host-dit4c-{work.port}".encode()
    for request, status in (
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nCookie: " + cookie + b"=\xff\xfe\r\n\r\n", 401),
        (
            b"GET /api/v1/instances HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer \xff\r\n\r\n",
            401,
        ),
        (
            b"GET /instances/x/page-state HTTP/1.1\r\nHost: HOST\r\n"
            b"Authorization: Bearer \xff.\r\n\r\n",
            401,
        ),
        (b"GET /login/%FF HTTP/1.1\r\nHost: HOST\r\n\r\n", 410),
        (b"GET /login/x%00 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /ssh-keys/%ED%A0%80 HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (b"GET /ssh-keys/x%00 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (
            b"POST /login/x HTTP/1.1\r\nHost: HOST\r\nOrigin: null\r\nContent-Length: 0\r\n"
            b"Cookie: " + cookie.replace(b"dit4c", b"dit4c-login") + b"=\xff\r\n\r\n",
            403,
        ),
        (b"GET /login/x HTTP/1.1\r\nHost: HOST\r\nUser-Agent: \xff\r\n\r\n", 410),
    ):
        stranger = await connect(work)
        await stranger.say(request.replace(b"HOST", b"localhost:%d" % work.port))
        assert (await stranger.head())[0] == status, request
    for coding in ("gzip", "deflate", "br", "x"):
        stranger = await connect(work)
        await stranger.say(
            post(work, "/oauth/token", f"Content-Encoding: {coding}", "Content-Length: 4")
            + "\x1f8bx"
        )
        assert (await stranger.head())[0] == 415
    stranger = await connect(work)
    await stranger.say(post(work, "/oauth/token", "Transfer-Encoding: chunked") + "1\r\nxyz")
    assert (await stranger.head())[0] == 400
    assert failures(caplog) == []


async def test_a_client_that_leaves_inside_a_body_is_no_error(work, connect, caplog):
    caplog.set_level(logging.DEBUG)
    for fields in (("Content-Length: 10",), ("Transfer-Encoding: chunked",)):
        for end in ("close", "abort"):
            stranger = await connect(work)
            await stranger.say(post(work, "/oauth/token", *fields) + "1\r\n")
            # Another connection's answer means that this one's beginning has been seen.
            other = await connect(work)
            await other.say(f"GET /config.json HTTP/1.1\r\nHost: localhost:{work.port}\r\n\r\n")
            await other.head()
            getattr(stranger.writer.transport, end)()
            await other.say(f"GET /config.json HTTP/1.1\r\nHost: localhost:{work.port}\r\n\r\n")
    async with asyncio.timeout(10):
        while work.portal._server._runner.server.connections:
            for one in list(work.portal._server._runner.server.connections):
                if one._current_request is None:
                    one.force_close()
            await asyncio.sleep(0.02)
    assert failures(caplog) == []
