"""Listening: aiohttp's server with limits on heads and connections, and nothing secret in its log.

What can't be parsed is answered here with a fixed text; of it only its kind and its sender are
written down, for a request line holds login links, and fields hold cookies and tokens.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.portal.answers import refusal
from dit4c_p2p.portal.config import Limits
from dit4c_p2p.portal.services import SERVICES
from dit4c_p2p.shares import Shares

_log = logging.getLogger(__name__)

_KEEPALIVE_S = 75.0
# Cookies don't know ports: a browser brings those of everything that runs on this machine.
_MAX_FIELD_BYTES = 32 * 1024
_MAX_HEAD_BYTES = 64 * 1024
# For a body that nobody wants.
_LINGER_S = 2.0
# Request lines hold login links.
_NO_ACCESS_LOG = logging.Logger("portal access", logging.CRITICAL)
_BACKLOG = 256
# Streams are told to end before this; it is for what does not listen.
_SHUTDOWN_S = 2.0


class _Connection(web.RequestHandler):
    """aiohttp has no such limits: a head that trickles in would hold a connection for ever.

    :param crowd: whoever finds no place in it is told so and sent away.
    :param refuse: the bytes of an answer with a status, for what never becomes a request.
    """

    __slots__ = (
        "_address",
        "_crowd",
        "_head_bytes",
        "_head_s",
        "_head_timer",
        "_placed",
        "_refuse",
    )

    def __init__(
        self, server: web.Server, *, head_s: float, crowd: Shares, refuse: Callable[[int], bytes]
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_KEEPALIVE_S,
            access_log=_NO_ACCESS_LOG,
            max_line_size=_MAX_FIELD_BYTES,
            max_field_size=_MAX_FIELD_BYTES,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )
        self._head_s = head_s
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._crowd = crowd
        self._refuse = refuse
        self._address = ""
        self._placed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._placed = self._crowd.take(self._address)
        super().connection_made(transport)
        if self._placed:
            self._start_timer()
        else:
            _log.warning("turned away a visitor from %s: too many connections", self._address)
            self._answer(503)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count > before:
            self._stop_timer()
        elif self._current_request is None and not self._force_close:
            if self._head_timer is None:
                self._start_timer()
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._answer(431)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        if self._placed:
            self._placed = False
            self._crowd.give_back(self._address)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called by aiohttp for what is no request, and where the application failed.

        :raises ConnectionError: always: that ends the connection, and there is no more to say.
        """
        if isinstance(exc, ConnectionError):
            raise exc
        _log.warning("no answer for %s: %s", self._address, type(exc).__name__ if exc else status)
        if request.writer.output_size == 0:
            self._answer(431 if isinstance(exc, LineTooLong) else status)
        raise ConnectionResetError("answered")

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Called by aiohttp where it is at a loss; its texts may hold what was sent."""
        kind = type(kw.get("exc_info")).__name__
        _log.error("a connection from %s failed: %s", self._address, kind)

    def _answer(self, status: int) -> None:
        """The last words on this connection."""
        if self.transport is not None:
            self.transport.write(self._refuse(status))
        self.force_close()

    def _start_timer(self) -> None:
        self._head_bytes = 0
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self._head_s, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._current_request is None:
            self.force_close()


class HttpServer:
    """An application on several addresses."""

    def __init__(
        self, app: web.Application, addresses: Sequence[tuple[str, int]], *, limits: Limits
    ) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_S, handle_signals=False)
        self._addresses = addresses
        self._connection = partial(
            _Connection,
            head_s=limits.head_s,
            crowd=Shares(limits.connections, limits.connections_per_address),
            refuse=partial(refusal, https=app[SERVICES].config.url.startswith("https:")),
        )
        self._servers: list[asyncio.Server] = []
        self.ports: list[int] = []

    async def start(self) -> None:
        """Bind every address, or none.

        :raises ConfigError: one is taken, not ours to take, or not this machine's.
        """
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        factory = partial(self._connection, server)
        try:
            for host, port in self._addresses:
                self._servers.append(await _bind(factory, host, port))
        except ConfigError:
            await self.stop()
            raise
        self.ports = [listening.sockets[0].getsockname()[1] for listening in self._servers]

    async def stop(self) -> None:
        """Take no more connections, end those there are."""
        for listening in self._servers:
            listening.close()
        self._servers.clear()
        await self._runner.cleanup()


async def _bind(factory: partial[_Connection], host: str, port: int) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            factory, host, port, backlog=_BACKLOG, reuse_address=True
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is taken by another program",
                hint="stop that program, or choose another port with --portal-port",
            ) from error
        raise ConfigError(
            f"the portal can't listen on {host}:{port}: {error.strerror or error}",
            hint="choose another address or port",
        ) from error
