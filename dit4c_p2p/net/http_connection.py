"""aiohttp's server connection behind a strict reader, and nothing secret in its log.

What is refused is answered with a fixed text; of it only its kind and its sender are written down,
for a request line may hold login links, and fields hold cookies and tokens.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from dit4c_p2p.net.listener import ConnectionSlot
from dit4c_p2p.net.request_validator import RequestValidator
from dit4c_p2p.net.stranger_log import summed

_log = summed(logging.getLogger(__name__))

_KEEPALIVE_S = 75.0
# Cookies don't know ports: a browser brings those of everything that runs on this machine.
_MAX_FIELD_BYTES = 32 * 1024
# aiohttp's own.
_READ_BYTES = 64 * 1024
# No request begins so, and aiohttp says so in its turn: after the answers to what came before.
_NO_REQUEST = b"\0"
# For a body that nobody wants.
_LINGER_S = 2.0
# Request lines hold login links.
_NO_ACCESS_LOG = logging.Logger("no access log", logging.CRITICAL)


class StrictConnection(web.RequestHandler):
    """aiohttp gets to read only what :class:`Requests` lets pass, and in time.

    It lets through what others read otherwise, and a head that trickles in would hold a connection
    for ever.

    :ivar place: its place among the counted; where there is none for it, that is said.
    :param head_s: for a request's head to arrive.
    :param refuse: the bytes of an answer with a status, for what never becomes a request.
    :param read_bytes: of a body that wait to be read, before the sender is held up.
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
        read_bytes: int = _READ_BYTES,
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
            read_bufsize=read_bytes,
        )
        self._head_s = head_s
        self._requests = RequestValidator()
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
