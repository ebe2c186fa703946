"""Strict validation of a connection's requests before an HTTP library parses them again.

An HTTP library is lenient, and two parsers that are lenient in different ways let a request be
smuggled past one of them (RFC 9112 section 11.2). All bytes therefore pass through here:

    requests = Requests()
    passed = requests.feed(data)      # whole heads, and bodies as they arrive
    if requests.refused: ...          # nothing after the refused request passes

Decides and does no I/O.
"""

from collections.abc import Callable

from dit4c_p2p.net.http1 import (
    NO_BODY,
    BadRequest,
    RequestHead,
    find_head_end,
    framer_of,
    parse_head,
    render_head,
)


class RequestValidator:
    """Validator of the bytes of one connection.

    :param check: called with each head before it passes; may raise :class:`BadRequest`.
    :ivar heads: how many heads have passed.
    :ivar refused: the error of the first request that was refused.
    :ivar begun: whether the head of the refused request passed before its body was found to be bad.
    """

    def __init__(self, check: Callable[[RequestHead], None] = lambda head: None) -> None:
        self._check = check
        self.heads = 0
        self.refused: BadRequest | None = None
        self.begun = False
        self._head = bytearray()
        self._seen = 0
        self._body = framer_of(NO_BODY)

    @property
    def in_head(self) -> bool:
        """Whether a part of a head has arrived and the rest is missing."""
        return bool(self._head)

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that pass now; none once a request is refused."""
        passed: list[bytes] = []
        begins: int | None = None
        try:
            while data and self.refused is None:
                if self._body.complete:
                    begins = len(passed)
                    data = self._feed_head(data, passed)
                else:
                    data = self._feed_body(data, passed)
        except BadRequest as error:
            self.refused = error
            self.begun = begins is None
            del passed[begins:]
            self._head.clear()
        return b"".join(passed)

    def _feed_body(self, data: bytes, passed: list[bytes]) -> bytes:
        """Pass on the bytes of the body; return the bytes after its end."""
        taken = self._body.feed(data)
        passed.append(data[:taken])
        return data[taken:]

    def _feed_head(self, data: bytes, passed: list[bytes]) -> bytes:
        """Take a head or a part of it; return the bytes after its end."""
        self._head += data
        end = find_head_end(self._head, self._seen)
        if end < 0:
            self._seen = len(self._head)
            return b""
        head, rest = bytes(self._head[:end]), bytes(self._head[end:])
        self._head.clear()
        self._seen = 0
        read = parse_head(head)
        self._check(read)
        self._body = framer_of(read.body)
        self.heads += 1
        passed.append(
            _without_upgrade_offers(head, read) if b"upgrade" in read.connection else head
        )
        return rest


def _without_upgrade_offers(data: bytes, head: RequestHead) -> bytes:
    """Return the head without its ``Upgrade`` (RFC 9110 section 7.8).

    No server here accepts one, and aiohttp loses bytes while it waits for the other protocol.
    """
    if head.upgrade is not None:
        return data
    first_line = data[: data.index(b"\r\n")]
    kept = [(name, value) for name, value in head.headers if name.lower() != b"upgrade"]
    return render_head(first_line, kept)
