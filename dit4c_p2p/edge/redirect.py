"""Plain HTTP on a port of its own that only says where the same thing is by HTTPS.

One request a connection is read, strictly; a host that is not ours is told so, never sent anywhere.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from dit4c_p2p.edge.accept import Place
from dit4c_p2p.http1 import BadRequest, RequestHead, find_head_end, parse_head, render_head

_HEAD_S = 10.0
_LINGER_S = 1.0
_TEXTS = {
    308: b"Permanent Redirect",
    400: b"Bad Request",
    408: b"Request Timeout",
    421: b"Misdirected Request",
    503: b"Service Unavailable",
}

Canonical = Callable[[str], str | None]


def host_of(authority: str) -> str:
    """The host of a ``Host`` field, in lower case and without the port."""
    host, colon, port = authority.rpartition(":")
    return (host if colon and (port.isdigit() or not port) else authority).lower()


def answer(status: int, location: str = "") -> bytes:
    """A whole answer, the last of its connection."""
    reason = _TEXTS.get(status, b"Error")
    body = reason + b"\n"
    headers = [(b"Location", location.encode("ascii"))] if location else []
    headers += [
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
        (b"Connection", b"close"),
    ]
    return render_head(b"HTTP/1.1 %d %b" % (status, reason), headers) + body


def location(canonical: Canonical, head: RequestHead) -> str | None:
    """Where a request belongs by HTTPS; None if its host is not ours.

    :param canonical: from a host in lower case to the origin to use, without a closing slash.
    """
    origin = canonical(host_of(head.host))
    if origin is None:
        return None
    return origin + ("/" if head.path == b"*" else head.path.decode("ascii"))


class Redirect(asyncio.Protocol):
    """One connection."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, canonical: Canonical, place: Place) -> None:
        self._canonical = canonical
        self._place = place
        self._buffer = bytearray()
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop when a connection was accepted."""
        self._transport = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_HEAD_S, self._answer, 408)
        if not self._place.within:
            self._answer(503)

    def data_received(self, data: bytes) -> None:
        """Called by the loop with the next bytes."""
        if self._answered:
            return
        seen = len(self._buffer)
        self._buffer += data
        try:
            end = find_head_end(self._buffer, seen)
            if end < 0:
                return
            head = parse_head(bytes(self._buffer[:end]))
        except BadRequest as error:
            self._answer(error.status)
            return
        target = location(self._canonical, head)
        self._answer(421 if target is None else 308, target or "")

    def eof_received(self) -> bool:
        """The visitor has nothing more to say."""
        return self._answered

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop when the connection has gone."""
        self._timer.cancel()
        self._place.leave()

    def _answer(self, status: int, location: str = "") -> None:
        self._timer.cancel()
        self._answered = True
        self._buffer.clear()
        if self._transport.is_closing():
            return
        self._transport.write(answer(status, location))
        self._transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(_LINGER_S, self._transport.abort)
