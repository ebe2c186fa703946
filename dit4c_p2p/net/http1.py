"""Strict parser of HTTP/1 heads and body framing; imports no component and does no I/O.

Each part that reads a request before another part (the router, the auth helper) must see in it
exactly what the next part will see. Whatever RFC 9110 and RFC 9112 leave to the recipient is
therefore refused: bare line feeds, folded fields, blanks before a colon, two lengths, chunk
extensions, trailers.

    end = find_head_end(buffer, seen)          # -1: more bytes are needed
    head = parse_head(bytes(buffer[:end]))
    framer = framer_of(head.body)              # then framer.feed(data) until framer.complete

Errors: :class:`BadRequest` carries the status to answer with, :class:`BadResponse` means 502.
"""

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from dit4c_p2p.errors import DitError

Headers = list[tuple[bytes, bytes]]

# What nginx (32 KiB) and Node (16 KiB) take, with room for large cookies.
MAX_HEAD_BYTES = 64 * 1024
MAX_TARGET_BYTES = 32 * 1024
# No browser sends more than about 40; a quadratic application is spared.
MAX_FIELDS = 200
# 10^18 bytes are an exabyte; more digits are an attempt at overflow.
_MAX_LENGTH_DIGITS = 18
# 16 digits are 64 bits, what any other implementation can hold (RFC 9112 section 7.1 warns).
_MAX_CHUNK_DIGITS = 16

_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEX = b"0123456789abcdefABCDEF"
_DIGITS = b"0123456789"
# All of a head but its line ends: HTAB, SP, VCHAR and obs-text (RFC 9110 section 5.5), and CR LF,
# which are counted apart.
_HEAD_BYTES = bytes({9, 10, 13, *range(0x20, 0x7F), *range(0x80, 0x100)})
# VCHAR without "#": a fragment is never sent (RFC 9112 section 3.2).
_TARGET_BYTES = bytes(set(range(0x21, 0x7F)) - {ord("#")})
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HOST = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(.*)", re.DOTALL)
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (.*))?", re.DOTALL)


class BadMessage(DitError):
    """A message that is not passed on."""

    code = "bad_message"


class BadRequest(BadMessage):
    """The request is refused; ``status`` is 400, 413, 414, 431, 501 or 505. Close afterwards."""

    code = "bad_request"

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class BadResponse(BadMessage):
    """The server's response is malformed and is not passed on (502)."""

    code = "bad_response"


class BodyKind(Enum):
    """How the end of a body is marked."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until_close"  # responses only


class Body(NamedTuple):
    """A body's framing; ``length`` is in bytes and counts for ``LENGTH`` only."""

    kind: BodyKind
    length: int = 0


NO_BODY = Body(BodyKind.NONE)
CHUNKED_BODY = Body(BodyKind.CHUNKED)
UNTIL_CLOSE_BODY = Body(BodyKind.UNTIL_CLOSE)


class _MessageHead:
    """Fields of a request or a response, in their order, with the case as sent."""

    __slots__ = ("_index", "body", "connection", "headers", "keep_alive", "version")

    headers: Headers
    version: tuple[int, int]
    body: Body
    keep_alive: bool
    connection: frozenset[bytes]  # the lower-case options of Connection
    _index: dict[bytes, list[bytes]]

    def get(self, name: bytes) -> bytes | None:
        """The first value of the field of this lower-case name, or None."""
        values = self._index.get(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value of the field of this lower-case name, in their order."""
        return self._index.get(name, [])


class RequestHead(_MessageHead):
    """A checked request head.

    ``method`` and ``target`` are as sent; ``path`` is the origin-form (``/a?b``), or ``*``.
    ``host`` is the one Host value in lower case, with its port if one was sent. ``upgrade`` is
    ``"websocket"`` or None: no other protocol is ever switched to, and asking for one is to be
    ignored (RFC 9110 section 7.8). ``body`` is never UNTIL_CLOSE.
    """

    __slots__ = ("_block", "host", "method", "path", "target", "upgrade")

    _block: bytes  # all after the first line, as received
    method: str
    target: bytes
    path: bytes
    host: str
    upgrade: str | None

    @property
    def expects_continue(self) -> bool:
        """The client waits for ``100 Continue`` before it sends its body (RFC 9110 10.1.1)."""
        value = self.get(b"expect")
        return value is not None and value.lower() == b"100-continue" and self.version == (1, 1)


class ResponseHead(_MessageHead):
    """A checked response head; ``interim`` heads (1xx but 101) are followed by another head."""

    __slots__ = ("reason", "status")

    status: int
    reason: bytes

    @property
    def interim(self) -> bool:
        """Another head follows."""
        return self.status < 200 and self.status != 101


def find_head_end(buffer: bytes | bytearray, start: int = 0) -> int:
    """Return where the head at the beginning of ``buffer`` ends, or -1 if it is incomplete.

    ``start`` is how many bytes an earlier call on the same buffer has seen. Raises as soon as more
    bytes can't help.

    :raises BadRequest: 431 over :data:`MAX_HEAD_BYTES`, 400 for a line feed without its CR.
    """
    end = buffer.find(b"\r\n\r\n", max(0, start - 3), MAX_HEAD_BYTES)
    if end >= 0:
        return end + 4
    if _BARE_LF.search(buffer, max(0, start - 1), MAX_HEAD_BYTES):
        raise BadRequest("a line ends without CR LF")
    if len(buffer) >= MAX_HEAD_BYTES:
        raise BadRequest(f"the request head is over {MAX_HEAD_BYTES} bytes", status=431)
    return -1


def parse_head(data: bytes, before: RequestHead | None = None) -> RequestHead:
    """Read a whole request head, the empty line at its end included.

    :param before: the last head of the same connection. Browsers repeat themselves: where all after
        the first line is the very same bytes, its ``headers`` are taken over, the same object.

    :raises BadRequest: anything that RFC 9112 forbids or leaves to goodwill; see the module.
    """
    end = data.find(b"\r\n")
    block = data[end + 2 :]
    if before is not None and before._block != block:
        before = None
    # Of a known block only the first line is new, and each byte of it is looked at below.
    lines = _head_lines(data, BadRequest) if before is None else []
    first = data[:end].split(b" ")
    if len(first) != 3:
        raise BadRequest("the request line isn't METHOD SP TARGET SP VERSION")
    method, target, version = first
    if not method or method.translate(None, _TOKEN):
        raise BadRequest("the method is no token")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        if _VERSION.fullmatch(version):
            raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here", status=505)
        raise BadRequest("the request line names no HTTP version")
    head = RequestHead()
    head.method = method.decode("ascii")
    head.target = target
    head.version = (1, 1) if version == b"HTTP/1.1" else (1, 0)
    head._block = block
    if before is None:
        _read_header_fields(head, lines, BadRequest)
        head.host = _host_of_request(head)
    else:
        head.headers, head._index = before.headers, before._index
        head.connection, head.host = before.connection, before.host
    head.keep_alive = _head_keeps_alive(head)
    head.path = _check_origin_form(head)
    head.body = _body_of_request(head)
    head.upgrade = None
    if b"upgrade" in head.connection:
        protocols = head._index.get(b"upgrade", ())
        if len(protocols) == 1 and protocols[0].lower() == b"websocket":
            _check_websocket_upgrade(head)
            head.upgrade = "websocket"
    return head


def _check_websocket_upgrade(head: RequestHead) -> None:
    """A WebSocket begins with this request (RFC 6455 section 4.1): one sentence a condition."""
    if head.version != (1, 1):
        raise BadRequest(
            "a WebSocket needs HTTP/1.1, and its request came by HTTP/1.0; a proxy in front has to "
            "speak HTTP/1.1 (in nginx: proxy_http_version 1.1)"
        )
    if head.method != "GET":
        raise BadRequest("a WebSocket begins with the method GET")
    if head.body.length or head.body.kind is BodyKind.CHUNKED:
        raise BadRequest("a WebSocket begins with a request that has no body")


def parse_response_head(data: bytes, method: str) -> ResponseHead:
    """Read a whole response head, the answer to a request of ``method``.

    ``body`` follows RFC 9112 section 6.3: none for HEAD, 1xx, 204 and 304; UNTIL_CLOSE after 101
    and where nothing else tells the end.

    :raises BadResponse: malformed, or its end can't be told for certain.
    """
    lines = _head_lines(data, BadResponse)
    match = _STATUS.fullmatch(lines[0])
    if match is None:
        raise BadResponse("the status line is malformed")
    head = ResponseHead()
    head.version = (1, int(match[1]))
    head.status = int(match[2])
    head.reason = match[3] or b""
    _read_header_fields(head, lines, BadResponse)
    head.keep_alive = _head_keeps_alive(head)
    framed = _framing_of_head(head, BadResponse)
    if head.status == 101:
        head.body = UNTIL_CLOSE_BODY
    elif method == "HEAD" or head.status < 200 or head.status in (204, 304):
        head.body = NO_BODY
    else:
        head.body = UNTIL_CLOSE_BODY if framed is None else framed
    if head.body.kind is BodyKind.UNTIL_CLOSE:
        head.keep_alive = False
    return head


def render_head(first_line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head as sent, the empty line included.

    :raises ValueError: a line end is hidden in one of the parts.
    """
    lines = [first_line]
    lines.extend([b"%b: %b" % pair for pair in headers])
    head = b"\r\n".join(lines)
    ends = len(lines) - 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        raise ValueError("a field contains a line end")
    return head + b"\r\n\r\n"


class Framer:
    """Tells where a body ends, while its bytes are passed on as they are."""

    complete: bool
    ends_with_stream = False  # the end of the connection is the end of the body

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """How many of the next bytes, ``data``, belong to the body. Once complete, none do.

        :raises BadMessage: malformed; nothing after this can be trusted.
        """
        raise NotImplementedError


class LengthFramer(Framer):
    """A body of a known length; of none with 0."""

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.complete = length == 0

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """See :class:`Framer`."""
        taken = min(self.remaining, len(data))
        self.remaining -= taken
        self.complete = self.remaining == 0
        return taken


class CloseFramer(Framer):
    """A body that ends with its connection; never complete by itself."""

    complete = False
    ends_with_stream = True

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """See :class:`Framer`."""
        return len(data)


class ChunkedReader(Framer):
    """A chunked body (RFC 9112 section 7.1), without extensions and trailers."""

    def __init__(self, error: type[BadMessage] = BadRequest) -> None:
        self.complete = False
        self._error = error
        self._line = b""  # the part of a size line that has arrived
        self._remaining = 0  # bytes of this chunk's data still to come
        self._ending = b""  # what has to come next, literally
        self._last = False

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """See :class:`Framer`."""
        data = bytes(data)
        position, size = 0, len(data)
        while position < size and not self.complete:
            if self._remaining:
                taken = min(self._remaining, size - position)
                self._remaining -= taken
                position += taken
            elif self._ending:
                if data[position] != self._ending[0]:
                    raise self._error("a chunk doesn't end where it said")
                position += 1
                self._ending = self._ending[1:]
                self.complete = self._last and not self._ending
            else:
                position = self._read_size(data, position)
        return position

    def _read_size(self, data: bytes, position: int) -> int:
        """Take in (a part of) a size line; where in ``data`` the next part begins."""
        end = data.find(b"\n", position, position + _MAX_CHUNK_DIGITS + 2)
        self._line += data[position : end + 1 if end >= 0 else position + _MAX_CHUNK_DIGITS + 2]
        digits = self._line.removesuffix(b"\n").removesuffix(b"\r")
        if len(digits) > _MAX_CHUNK_DIGITS or digits.translate(None, _HEX):
            raise self._error("a chunk's size is malformed")
        if end < 0:
            return len(data)
        if not digits or not self._line.endswith(b"\r\n"):
            raise self._error("a chunk's size is malformed")
        self._line = b""
        self._remaining = int(digits, 16)
        self._last = self._remaining == 0
        self._ending = b"\r\n"
        return end + 1


def framer_of(body: Body, error: type[BadMessage] = BadRequest) -> Framer:
    """The framer of a parsed head's ``body``."""
    if body.kind is BodyKind.CHUNKED:
        return ChunkedReader(error)
    if body.kind is BodyKind.UNTIL_CLOSE:
        return CloseFramer()
    return LengthFramer(body.length)


def _head_lines(data: bytes, error: type[BadMessage]) -> list[bytes]:
    """The lines of a head, with every byte of it allowed and every line end a CR LF."""
    lines = data.split(b"\r\n")
    ends = len(lines) - 1
    if data.count(b"\n") != ends or data.count(b"\r") != ends:
        raise error("a line ends without CR LF")
    if data.translate(None, _HEAD_BYTES):
        raise error("the head contains control characters")
    if ends < 2 or lines[-1] or lines[-2]:
        raise error("the head has no end")
    return lines


def _read_header_fields(head: _MessageHead, lines: list[bytes], error: type[BadMessage]) -> None:
    """Fill in ``headers`` and ``connection``."""
    if len(lines) > MAX_FIELDS + 3:
        if error is BadRequest:
            raise BadRequest(f"more than {MAX_FIELDS} fields", status=431)
        raise error(f"more than {MAX_FIELDS} fields")
    headers: Headers = []
    index: dict[bytes, list[bytes]] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            raise error("a field is malformed, folded, or has a blank before its colon")
        value = value.strip(b" \t")
        headers.append((name, value))
        key = name.lower()
        if key in index:
            index[key].append(value)
        else:
            index[key] = [value]
    head.headers = headers
    head._index = index
    options = index.get(b"connection")
    head.connection = (
        frozenset(option.strip(b" \t").lower() for option in b",".join(options).split(b","))
        if options
        else frozenset()
    )


def _head_keeps_alive(head: _MessageHead) -> bool:
    """Whether its sender is ready for another exchange (RFC 9112 section 9.3)."""
    return b"close" not in head.connection and (
        head.version == (1, 1) or b"keep-alive" in head.connection
    )


def _host_of_request(head: RequestHead) -> str:
    """The one Host, in lower case."""
    hosts = head._index.get(b"host", ())
    if len(hosts) != 1:
        raise BadRequest("there must be exactly one Host")
    if not _HOST.fullmatch(hosts[0]):
        raise BadRequest("Host is no host and port")
    return hosts[0].decode("ascii").lower()


def _framing_of_head(head: _MessageHead, error: type[BadMessage]) -> Body | None:
    """What Content-Length and Transfer-Encoding say, or None if there is neither."""
    lengths = head._index.get(b"content-length")
    codings = head._index.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise error("both Content-Length and Transfer-Encoding")
        if head.version != (1, 1):
            raise error("Transfer-Encoding in HTTP/1.0")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            if error is BadRequest and codings[-1].lower().endswith(b", chunked"):
                raise BadRequest("no transfer coding but chunked is understood", status=501)
            raise error("Transfer-Encoding isn't chunked")
        return CHUNKED_BODY
    if lengths is None:
        return None
    if len(lengths) != 1:
        raise error("more than one Content-Length")
    digits = lengths[0]
    if not digits or digits.translate(None, _DIGITS):
        raise error("Content-Length is no number")
    if len(digits) > _MAX_LENGTH_DIGITS:
        if error is BadRequest:
            raise BadRequest("the body is too large", status=413)
        raise error("Content-Length is too large")
    return Body(BodyKind.LENGTH, int(digits))


def _body_of_request(head: RequestHead) -> Body:
    """A request's framing: without either field there is no body."""
    framed = _framing_of_head(head, BadRequest)
    return NO_BODY if framed is None else framed


def _check_origin_form(head: RequestHead) -> bytes:
    """The target's path and query, checked (RFC 9112 section 3.2)."""
    target = head.target
    if len(target) > MAX_TARGET_BYTES:
        raise BadRequest(f"the target is over {MAX_TARGET_BYTES} bytes", status=414)
    if head.method == "CONNECT":
        raise BadRequest("CONNECT is not served here", status=501)
    if target.translate(None, _TARGET_BYTES):
        raise BadRequest("the target contains characters that it may not")
    if target.startswith(b"/"):
        return target
    if target == b"*" and head.method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadRequest("the target is no path")
    if absolute[1].lower() != head.host.encode():
        raise BadRequest("the target's host differs from Host")
    rest: bytes = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest
