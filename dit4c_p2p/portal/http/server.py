"""Listening: aiohttp's server behind a strict reader, and nothing secret in its log.

What is refused is answered here with a fixed text; of it only its kind and its sender are written
down, for a request line holds login links, and fields hold cookies and tokens.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.https_redirect import Redirect
from dit4c_p2p.net.listener import (
    ConnectionLimiter,
    ConnectionSlot,
    Factory,
    Listener,
    ListenerOptions,
    close_all,
)
from dit4c_p2p.net.request_validator import Requests
from dit4c_p2p.net.tls import Certificate
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.http.responses import refusal

_log = logging.getLogger(__name__)

_KEEPALIVE_S = 75.0
# Cookies don't know ports: a browser brings those of everything that runs on this machine.
_MAX_FIELD_BYTES = 32 * 1024
# No request begins so, and aiohttp says so in its turn: after the answers to what came before.
_NO_REQUEST = b"\0"
# For a body that nobody wants.
_LINGER_S = 2.0
# Request lines hold login links.
_NO_ACCESS_LOG = logging.Logger("portal access", logging.CRITICAL)
# Streams are told to end before this; it is for what does not listen.
_SHUTDOWN_S = 2.0
_ANOTHER_PORT = "choose another port ('dit4c up': --portal-port)"


class _Connection(web.RequestHandler):
    """aiohttp gets to read only what :class:`Requests` lets pass, and in time.

    It lets through what others read otherwise, and a head that trickles in would hold a connection
    for ever.

    :ivar place: its place among the counted; where there is none for it, that is said.
    :param refuse: the bytes of an answer with a status, for what never becomes a request.
    """

    __slots__ = (
        "_head_s",
        "_head_timer",
        "_refuse",
        "_requests",
        "place",
    )

    def __init__(
        self,
        server: web.Server,
        place: ConnectionSlot,
        *,
        head_s: float,
        refuse: Callable[[int], bytes],
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
        self._requests = Requests()
        self._head_timer: asyncio.TimerHandle | None = None
        self._refuse = refuse
        self.place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.place.within:
            self._start_timer()
        else:
            _log.warning(
                "turned away a visitor from %s: too many connections", self.place.address[0]
            )
            self._answer(503)

    def data_received(self, data: bytes) -> None:
        if self._payload_parser is not None:
            super().data_received(data)  # a WebSocket's frames
            return
        requests = self._requests
        heads, refused = requests.heads, requests.refused
        super().data_received(requests.feed(data))
        if requests.refused is not None and refused is None:
            if requests.begun:
                self._break_off(requests.refused.status)
            else:
                super().data_received(_NO_REQUEST)
        if requests.heads > heads or requests.refused is not None:
            self._stop_timer()
        if requests.in_head and self._head_timer is None:
            self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        self.place.leave()
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
        refused = self._requests.refused
        if isinstance(exc, HttpProcessingError):
            status = 431 if isinstance(exc, LineTooLong) else status
            status = refused.status if refused else status
        reason = refused or (type(exc).__name__ if exc else status)
        _log.warning("no answer for %s: %s", self.place.address[0], reason)
        if request.writer.output_size == 0:
            self._answer(status)
        raise ConnectionResetError("answered")

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Called by aiohttp where it is at a loss; its texts may hold what was sent."""
        kind = type(kw.get("exc_info")).__name__
        _log.error("a connection from %s failed: %s", self.place.address[0], kind)

    def _break_off(self, status: int) -> None:
        """End the last request, whose body can't be read on; answered if it is its turn."""
        now = self._current_request
        if now is None or self._messages or now.writer.output_size:
            self.force_close()
        else:
            self._answer(status)

    def _answer(self, status: int) -> None:
        """The last words on this connection."""
        if self.transport is not None:
            self.transport.write(self._refuse(status))
        self.force_close()

    def _start_timer(self) -> None:
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
    """An application on all addresses of a portal.

    :ivar ports: the port of each plain address, once started.
    :ivar secure_ports: of each with TLS.
    :ivar redirect_ports: of each that leads to those.
    """

    def __init__(self, app: web.Application, config: PortalConfig) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_S, handle_signals=False)
        self._config = config
        limits = config.limits
        self._manner = ListenerOptions(
            ConnectionLimiter(limits.connections, limits.connections_per_address, config.proxies),
            handshake_s=limits.handshake_s,
            stalled_s=limits.stalled_s,
        )
        self._listeners: list[Listener] = []
        self._certificate: Certificate | None = None
        self.ports: list[int] = []
        self.secure_ports: list[int] = []
        self.redirect_ports: list[int] = []

    async def start(self) -> None:
        """Bind every address, or none.

        :raises ConfigError: one is taken, not ours to take, or not this machine's; or the
            certificate is no good.
        """
        config = self._config
        if not config.addresses and not config.secure_addresses:
            raise ConfigError("the portal has no address to listen on", hint="give it one")
        if config.tls is not None:
            self._certificate = Certificate(config.tls, [URL(config.url).host or ""])
            self._certificate.load()
        await self._runner.setup()
        try:
            self._listen()
        except ConfigError:
            await self.stop()
            raise

    @property
    def connections(self) -> int:
        """How many visitors are connected."""
        return self._manner.room.taken

    async def follow(self) -> None:
        """Follow the certificate's files, for ever; without one there is nothing to do."""
        if self._certificate is None:
            await asyncio.Event().wait()
        else:
            await self._certificate.run()

    async def stop(self) -> None:
        """Take no more connections, end those there are."""
        listeners, self._listeners = self._listeners, []
        await close_all(listeners)
        await self._runner.cleanup()

    def _listen(self) -> None:
        config, server = self._config, self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        refuse = partial(refusal, https=config.url.startswith("https:"))
        head_s = config.limits.head_s

        def visitor(place: ConnectionSlot) -> asyncio.BaseProtocol:
            return _Connection(server, place, head_s=head_s, refuse=refuse)

        def astray(place: ConnectionSlot) -> asyncio.BaseProtocol:
            return Redirect(self._canonical, place)

        context = None if self._certificate is None else self._certificate.context
        self.ports = [self._bind(*pair, visitor) for pair in config.addresses]
        self.secure_ports = [
            self._bind(*pair, visitor, context) for pair in config.secure_addresses
        ]
        self.redirect_ports = [self._bind(*pair, astray) for pair in config.redirect_addresses]

    def _bind(
        self, host: str, port: int, factory: Factory, tls: ssl.SSLContext | None = None
    ) -> int:
        listener = Listener(factory, self._manner, tls=tls)
        self._listeners.append(listener)
        return listener.listen(host, port, another=_ANOTHER_PORT)

    def _canonical(self, host: str) -> str | None:
        """The portal's origin, for its own host."""
        return self._config.url if host == URL(self._config.url).host else None
