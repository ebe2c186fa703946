"""Request heads that are too large to be passed on: read only to say so, and to find a way out.

A site can set cookies for its parent domain, which browsers then send to all hosts below that. With
enough of them (180 of 4 KiB in Chromium) a head is larger than what servers take, and stays so.
Decides and does no I/O.
"""

from dit4c_p2p.net.http1 import MAX_HEAD_BYTES, BadRequest, RequestHead, parse_head

# What a browser can be made to send, with room for the rest.
MAX_LARGE_HEAD_BYTES = 1024 * 1024
# Of a line, only so much is kept: a target may be 32 KiB.
_MAX_KEPT_BYTES = 33 * 1024
_COOKIE = b"cookie:"


class LargeHead:
    """A head of up to :data:`MAX_LARGE_HEAD_BYTES`, read to its end and thrown away.

    :ivar method: of the request line; ``path`` its target, ``host`` the one Host, in lower case.
    :ivar accepts_html: whether a person asks.
    :ivar cookie_bytes: how much of it are cookies.
    :ivar complete: whether its end has been read.
    """

    def __init__(self) -> None:
        self.method = ""
        self.path = b""
        self.host = b""
        self.accepts_html = False
        self.cookie_bytes = 0
        self.complete = False
        self._size = 0
        self._line = bytearray()  # the beginning of the one that is being read
        self._line_bytes = 0
        self._lines = 0

    def feed(self, data: bytes | bytearray) -> int:
        """Take what belongs to the head, and return how much that is.

        :raises BadRequest: it is larger yet, or no head.
        """
        position = 0
        while position < len(data) and not self.complete:
            end = data.find(b"\n", position)
            stop = len(data) if end < 0 else end + 1
            room = max(0, _MAX_KEPT_BYTES - len(self._line))
            self._line += data[position : min(stop, position + room)]
            self._line_bytes += stop - position
            self._size += stop - position
            position = stop
            if self._size > MAX_LARGE_HEAD_BYTES:
                raise BadRequest(f"the head is over {MAX_LARGE_HEAD_BYTES} bytes", status=431)
            if end >= 0:
                self._end_line()
        return position

    def _end_line(self) -> None:
        line, size = bytes(self._line).rstrip(b"\r\n"), self._line_bytes
        self._line.clear()
        self._line_bytes = 0
        self._lines += 1
        lower = line[:64].lower()
        if self._lines == 1:
            words = line.split(b" ")
            if len(words) != 3:
                raise BadRequest("the request line isn't METHOD SP TARGET SP VERSION")
            self.method, self.path = words[0].decode("latin-1"), words[1]
        elif not line:
            self.complete = True
        elif lower.startswith(b"host:"):
            if self.host:
                raise BadRequest("there must be exactly one Host")
            self.host = line[5:].strip().lower()
        elif lower.startswith(b"accept:"):
            self.accepts_html = b"text/html" in line.lower()
        elif lower.startswith(_COOKIE):
            self.cookie_bytes += size


def large_head_without_cookies(buffer: bytes | bytearray) -> RequestHead | None:
    """Return what the beginning of a large head says, but for its cookies.

    It is enough to know for whom the request is; None if it does not say so.

    :param buffer: the first :data:`MAX_HEAD_BYTES` or more.
    """
    lines = bytes(buffer[:MAX_HEAD_BYTES]).split(b"\r\n")[:-1]
    kept = [line for line in lines if not line[:64].lower().startswith(_COOKIE)]
    try:
        return parse_head(b"\r\n".join([*kept, b"", b""]))
    except BadRequest:
        return None


class LargeHeadStream:
    """What may pass of a proxy's connection that begins with a large head: that head alone.

    It has the form of ``router.proxy_pinning.HostPinnedStream``.
    """

    def __init__(self) -> None:
        self._head = LargeHead()

    def asked(self, data: bytes) -> bytes:
        """What the instance may be given, of what has come from the proxy.

        :raises BadRequest: it is no such head.
        """
        return data[: self._head.feed(data)]

    def answered(self, data: bytes) -> None:
        """The instance has sent ``data``."""
