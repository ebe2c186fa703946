"""A whole auth helper on a real path socket, with a real app and a real portal beside it."""

import asyncio
import io
from dataclasses import dataclass, field

from aiohttp import web
from fakes.oauth_portal import OAuthPortal

from dit4c_p2p.helpers.auth.server import AuthServer
from dit4c_p2p.helpers.pod_config import HelperPod
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.http1 import (
    BadResponse,
    ChunkedReader,
    ResponseHead,
    framer_of,
    parse_response_head,
)

NAME = PeerName.parse("instance-abc")
HOST = "abc.localhost:8081"
ORIGIN = f"http://{HOST}"
CLIENT = ("203.0.113.7", 40123)


@dataclass
class Reply:
    head: ResponseHead
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    def cookies(self) -> dict[str, str]:
        """Set-Cookie by name, attributes left out."""
        values = [value.decode() for value in self.head.get_all(b"set-cookie")]
        return dict(value.partition(";")[0].split("=", 1) for value in values)


class Browser:
    """A raw HTTP/1 client behind a listener: says what it is told, reads strictly.

    :meth:`ask` connects again if the answer before announced the connection's end.
    """

    def __init__(self, path, client=CLIENT) -> None:
        self.path, self.client = path, client
        self.jar: dict[str, str] = {}
        self.closing = False

    @classmethod
    async def connect(cls, path, client=CLIENT) -> "Browser":
        browser = cls(path, client)
        await browser.open()
        return browser

    async def open(self) -> None:
        """A connection, in place of the one before."""
        self.reader, self.writer = await asyncio.open_unix_connection(str(self.path), limit=2**20)
        self.closing = False
        if self.client is not None:
            self.writer.write(proxy_protocol.encode_proxy_header(*self.client))

    async def renew(self) -> None:
        """Another connection if this one is ending."""
        if self.closing:
            self.close()
            await self.open()

    def send(self, method: str, path: str, *fields: str, body: bytes = b"", host=HOST) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields]
        if self.jar:
            lines.append("Cookie: " + "; ".join(f"{k}={v}" for k, v in self.jar.items()))
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self, method: str = "GET") -> ResponseHead:
        async with asyncio.timeout(10):
            return parse_response_head(await self.reader.readuntil(b"\r\n\r\n"), method)

    async def reply(self, method: str = "GET") -> Reply:
        head = await self.head(method)
        framer, body = framer_of(head.body, BadResponse), bytearray()
        async with asyncio.timeout(10):
            while not framer.complete:
                data = await self.reader.read(65536 if not isinstance(framer, ChunkedReader) else 1)
                if not data:
                    assert framer.ends_with_stream, "cut short"
                    break
                assert framer.feed(data) == len(data)
                body += data
        for name, value in Reply(head, b"").cookies().items():
            self.jar[name] = value
        self.closing = not head.keep_alive
        return Reply(head, bytes(body))

    async def ask(self, method: str, path: str, *fields: str, **more) -> Reply:
        await self.renew()
        self.send(method, path, *fields, **more)
        return await self.reply(method)

    async def at_end(self) -> bool:
        """Whether the other end has closed."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def close(self) -> None:
        self.writer.close()


@dataclass
class House:
    """The auth helper under test, and all around it."""

    pod: HelperPod
    portal: OAuthPortal
    server: AuthServer
    output: io.StringIO
    app: "App"
    browsers: list[Browser] = field(default_factory=list)

    async def browser(self, client=CLIENT) -> Browser:
        browser = await Browser.connect(self.pod.auth_socket, client)
        self.browsers.append(browser)
        return browser

    async def login(self, browser: Browser | None = None, path: str = "/") -> Browser:
        """A browser with a session."""
        browser = browser or await self.browser()
        reply = await browser.ask("GET", path, "Accept: text/html")
        assert reply.status == 303
        back = self.portal.visit(reply.head.get(b"location").decode())
        assert back.startswith(f"{ORIGIN}/.dit4c/callback?")
        reply = await browser.ask("GET", back.removeprefix(ORIGIN), "Accept: text/html")
        assert reply.status == 303, reply.body
        assert reply.head.get(b"location") == (ORIGIN + path).encode()
        await browser.renew()
        return browser


class App:
    """A real server on a port of its own; ``handler`` is called with each request."""

    def __init__(self) -> None:
        self.handler = self.echo
        self.requests: list[web.BaseRequest] = []
        self.port = 0
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        return await self.handler(request)

    async def echo(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        return web.Response(text=f"{request.method} {request.raw_path} {body.decode()}")


class RawApp:
    """An app that answers with bytes: ``script(reader, writer)`` is run for each connection."""

    def __init__(self, script) -> None:
        self.script, self.connections, self.errors = script, 0, []

    async def __aenter__(self) -> "RawApp":
        self._server = await asyncio.start_server(self._run, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()

    async def _run(self, reader, writer) -> None:
        self.connections += 1
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.errors.append(error)
        finally:
            writer.close()
