"""Plain HTTP on a port of its own that only says where the same thing is by HTTPS.

One request a connection is read, strictly; a host that is not ours is told so, never sent anywhere.
"""

from collections.abc import Callable

from dit4c_p2p.net.first_request import FirstRequest
from dit4c_p2p.net.http1 import BadRequest, RequestHead, render_head
from dit4c_p2p.net.listener import ConnectionSlot

_HEAD_S = 10.0
_TEXTS = {
    308: b"Permanent Redirect",
    400: b"Bad Request",
    408: b"Request Timeout",
    421: b"Misdirected Request",
    503: b"Service Unavailable",
}

Canonical = Callable[[str], str | None]


def host_of_authority(authority: str) -> str:
    """The host of a ``Host`` field, in lower case and without the port."""
    host, colon, port = authority.rpartition(":")
    return (host if colon and (port.isdigit() or not port) else authority).lower()


def redirect_answer(status: int, location: str = "") -> bytes:
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


def https_location(canonical: Canonical, head: RequestHead) -> str | None:
    """Where a request belongs by HTTPS; None if its host is not ours.

    :param canonical: from a host in lower case to the origin to use, without a closing slash.
    """
    origin = canonical(host_of_authority(head.host))
    if origin is None:
        return None
    return origin + ("/" if head.path == b"*" else head.path.decode("ascii"))


class HttpsRedirect(FirstRequest):
    """One connection."""

    def __init__(self, canonical: Canonical, place: ConnectionSlot) -> None:
        super().__init__(place, _HEAD_S)
        self._canonical = canonical

    def _requested(self, head: RequestHead) -> None:
        target = https_location(self._canonical, head)
        self._answer(redirect_answer(421) if target is None else redirect_answer(308, target))

    def _refused(self, error: BadRequest) -> None:
        self._answer(redirect_answer(error.status))

    def _late(self) -> None:
        self._answer(redirect_answer(408))

    def _crowded(self) -> None:
        self._answer(redirect_answer(503))
