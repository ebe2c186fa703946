"""Requests that two readers could understand differently, each with the RFC that it offends.

``HOST`` stands for the host that the reader under test is right for, ``OTHER`` for one that it is
not. Where nothing else is said, the section is of RFC 9112 (HTTP/1.1). Every probe of
:data:`HEADS` and :data:`CHUNKS` must be rejected by whoever reads it: an answer of 4xx or 5xx (or
none), the end of the connection, and nothing that follows taken for a request. :data:`HARMLESS`
says which are not rejected by whom, and why that harms nobody.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LIMIT_S = 15


@dataclass(frozen=True)
class Probe:
    """A head that must be rejected.

    :ivar section: what it offends.
    :ivar data: all of it; a body may follow.
    :ivar status: what is answered.
    """

    section: str
    data: bytes
    status: int = 400

    def to(self, host: bytes, other: bytes = b"other.invalid") -> bytes:
        """The probe as it is sent to ``host``."""
        return filled(self.data, host, other)


def filled(data: bytes, host: bytes, other: bytes = b"other.invalid") -> bytes:
    """``data`` with its hosts."""
    return data.replace(b"HOST", host).replace(b"OTHER", other)


def head(
    *fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: HOST"
) -> bytes:
    """A whole head."""
    lines = (line, *([] if host is None else [host]), *fields, b"")
    return b"".join(part + b"\r\n" for part in lines)


def _line(section: str, line: bytes, status: int = 400) -> Probe:
    return Probe(section, head(line=line), status)


def _host(section: str, field: bytes | None) -> Probe:
    return Probe(section, head(host=field))


def _fields(section: str, *fields: bytes, status: int = 400, method: bytes = b"GET") -> Probe:
    return Probe(section, head(*fields, line=method + b" / HTTP/1.1"), status)


def _post(section: str, *fields: bytes, status: int = 400) -> Probe:
    return _fields(section, *fields, status=status, method=b"POST")


HEADS = {
    # ---- whose request it is
    "no host": _host("3.2", None),
    "two hosts": _fields("3.2", b"Host: HOST"),
    "two hosts, other case": _fields("3.2", b"hOST: OTHER"),
    "empty host": _host("3.2; RFC 9110 4.2.1", b"Host:"),
    "host with path": _host("3.2; RFC 9110 7.2", b"Host: HOST/b"),
    "host with user": _host("3.2; RFC 9110 4.2.4", b"Host: u@HOST"),
    "host list": _host("3.2; RFC 9110 7.2", b"Host: HOST, OTHER"),
    "host with blank": _host("3.2; RFC 9110 7.2", b"Host: HOST OTHER"),
    "host with bad port": _host("3.2; RFC 3986 3.2.3", b"Host: a:b"),
    "host with long port": _host("3.2; RFC 3986 3.2.3", b"Host: a:123456"),
    "host unclosed bracket": _host("3.2; RFC 3986 3.2.2", b"Host: [::1"),
    "host with NUL": _host("3.2; RFC 9110 5.5", b"Host: HOST\x00"),
    "absolute form of another host": _line("3.2.2", b"GET http://OTHER/ HTTP/1.1"),
    "absolute form with user": _line("3.2.2; RFC 9110 4.2.4", b"GET http://HOST@OTHER/ HTTP/1.1"),
    "absolute form, other scheme": _line("3.2.2", b"GET ftp://HOST/ HTTP/1.1"),
    "authority form": _line("3.2.3", b"CONNECT HOST HTTP/1.1", 501),
    "authority form of another host": _line("3.2.3", b"CONNECT OTHER:80 HTTP/1.1", 501),
    "star for GET": _line("3.2.4", b"GET * HTTP/1.1"),
    # ---- the request line
    "no slash": _line("3.2.1", b"GET x HTTP/1.1"),
    "fragment": _line("3.2; RFC 9110 7.1", b"GET /#x HTTP/1.1"),
    "non-ascii target": _line("3.2; RFC 3986 2", b"GET /\xff HTTP/1.1"),
    "NUL in target": _line("3.2; RFC 3986 2", b"GET /\x00 HTTP/1.1"),
    "two spaces": _line("3", b"GET  / HTTP/1.1"),
    "tab": _line("3", b"GET\t/ HTTP/1.1"),
    "space in target": _line("3.2", b"GET /a b HTTP/1.1"),
    "bare CR in target": _line("2.2", b"GET /\r HTTP/1.1"),
    "trailing space": _line("3", b"GET / HTTP/1.1 "),
    "leading space": _line("3", b" GET / HTTP/1.1"),
    "leading empty line": Probe("2.2", b"\r\n" + head()),
    "method no token": _line("3.1; RFC 9110 9.1", b"G(T / HTTP/1.1"),
    "http/0.9": _line("2.3", b"GET /"),
    "http/2.0": _line("2.3; RFC 9110 15.6.6", b"GET / HTTP/2.0", 505),
    "http/3.0": _line("2.3; RFC 9110 15.6.6", b"GET / HTTP/3.0", 505),
    "http/1.2": _line("2.3; RFC 9110 2.5", b"GET / HTTP/1.2", 505),
    "http/0.9, named": _line("2.3; RFC 9110 15.6.6", b"GET / HTTP/0.9", 505),
    "lower-case version": _line("2.3", b"GET / http/1.1"),
    "odd version": _line("2.3", b"GET / HTTP/1.1x"),
    "version of two digits": _line("2.3", b"GET / HTTP/1.01"),
    "version with a blank": _line("2.3", b"GET / HTTP/ 1.1"),
    "h2 preface": Probe("RFC 9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "SSH": Probe("3", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "TLS": Probe("3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"),
    # ---- fields
    "folded": _fields("5.2", b"X: a", b" b"),
    "folded by tab": _fields("5.2", b"X: a", b"\tb"),
    "folded to nothing": _fields("5.2", b"X: a", b" "),
    "fold first": Probe("2.2", head(b"X: 1", host=b" Host: HOST")),
    "TE folded": _post("5.2", b"Transfer-Encoding:", b" chunked"),
    "CL folded": _post("5.2", b"Content-Length: 1", b" 0"),
    "space before colon": _post("5.1", b"Transfer-Encoding : chunked"),
    "tab before colon": _post("5.1", b"Content-Length\t: 1"),
    "no colon": _fields("5", b"garbage"),
    "no name": _fields("5; RFC 9110 5.1", b": x"),
    "name no token": _fields("5; RFC 9110 5.1", b"X\x80: a"),
    "nul in value": _fields("RFC 9110 5.5", b"X: a\x00b"),
    "vertical tab": _fields("RFC 9110 5.5", b"X: a\x0bb"),
    "delete": _fields("RFC 9110 5.5", b"X: a\x7fb"),
    "bare CR": _fields("2.2", b"X: a\rY: b"),
    "bare LF": _fields("2.2", b"X: a\nTransfer-Encoding: chunked"),
    "bare LF everywhere": Probe("2.2", b"GET / HTTP/1.1\nHost: HOST\n\n"),
    "CR CR LF": _fields("2.2", b"X: a\r"),
    # ---- where the body ends
    "TE and CL": _post("6.1; 11.2", b"Content-Length: 1", b"Transfer-Encoding: chunked"),
    "CL and TE": _post("6.1; 11.2", b"Transfer-Encoding: chunked", b"Content-Length: 1"),
    "two CL": _post("6.3", b"Content-Length: 1", b"Content-Length: 2"),
    "two equal CL": _post("6.3; RFC 9110 8.6", b"Content-Length: 1", b"Content-Length: 1"),
    "CL list": _post("6.3; RFC 9110 8.6", b"Content-Length: 1, 1"),
    "CL plus": _post("RFC 9110 8.6", b"Content-Length: +1"),
    "CL minus": _post("RFC 9110 8.6", b"Content-Length: -1"),
    "CL hex": _post("RFC 9110 8.6", b"Content-Length: 0x1"),
    "CL underscore": _post("RFC 9110 8.6", b"Content-Length: 1_0"),
    "CL empty": _post("RFC 9110 8.6", b"Content-Length:"),
    "CL blank inside": _post("RFC 9110 8.6", b"Content-Length: 1 2"),
    "CL overflow": _post("RFC 9110 8.6", b"Content-Length: 1" + b"0" * 30, status=413),
    "TE identity": _post("6.1; 7", b"Transfer-Encoding: identity"),
    "TE chunked twice": _post("6.1", *[b"Transfer-Encoding: chunked"] * 2),
    "TE list": _post("6.1; 6.3", b"Transfer-Encoding: chunked, identity"),
    "TE gzip": _post("6.1", b"Transfer-Encoding: gzip, chunked", status=501),
    "TE xchunked": _post("6.1", b"Transfer-Encoding: xchunked"),
    "TE quoted": _post("6.1", b'Transfer-Encoding: "chunked"'),
    "TE vertical tab": _post("6.1; RFC 9110 5.5", b"Transfer-Encoding: \x0bchunked"),
    "TE empty": _post("6.1", b"Transfer-Encoding:"),
    "TE in 1.0": Probe("6.1", head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")),
    "WebSocket with CL": _fields(
        "RFC 6455 4.1", b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3"
    ),
    "WebSocket with TE": _fields(
        "RFC 6455 4.1", b"Connection: Upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"
    ),
    # ---- too much
    "long target": _line("3; RFC 9110 15.5.15", b"GET /" + b"a" * 40_000 + b" HTTP/1.1", 414),
    "many fields": _fields("RFC 9110 5.4; RFC 6585 5", *[b"X: y"] * 300, status=431),
    "large head": _fields("RFC 9110 5.4; RFC 6585 5", b"X: " + b"y" * 2**17, status=431),
}

CHUNKS = {
    "extension": ("7.1.1", b"3;a=b\r\nabc\r\n0\r\n\r\n"),
    "extension of the last chunk": ("7.1.1", b"3\r\nabc\r\n0;a\r\n\r\n"),
    "bare LF in an extension": ("7.1.1; 2.2", b"3;\nxx\r\nabc\r\n0\r\n\r\n"),
    "trailer": ("7.1.2", b"0\r\nTrailer: x\r\n\r\n"),
    "trailer that frames": ("7.1.2; RFC 9110 6.5.1", b"0\r\nContent-Length: 5\r\n\r\n"),
    "trailer folded": ("7.1.2; 5.2", b"0\r\n x\r\n\r\n"),
    "more than its size": ("7.1", b"3\r\nabcd\r\n0\r\n\r\n"),
    "less than its size": ("7.1", b"3\r\nab\r\n0\r\n\r\n"),
    "bare LF after the data": ("7.1; 2.2", b"3\r\nabc\n0\r\n\r\n"),
    "bare LF after the size": ("7.1; 2.2", b"3\nabc\r\n0\r\n\r\n"),
    "bare LF at the end": ("7.1; 2.2", b"3\r\nabc\r\n0\r\n\n"),
    "two CR": ("7.1", b"3\r\r\nabc\r\n0\r\n\r\n"),
    "blank after the size": ("7.1", b"3 \r\nabc\r\n0\r\n\r\n"),
    "blank before the size": ("7.1", b" 3\r\nabc\r\n0\r\n\r\n"),
    "0x": ("7.1", b"0x3\r\nabc\r\n0\r\n\r\n"),
    "plus": ("7.1", b"+3\r\nabc\r\n0\r\n\r\n"),
    "minus": ("7.1", b"-1\r\n"),
    "underscore": ("7.1", b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    "no size": ("7.1", b"\r\n"),
    "size of 17 digits": ("7.1", b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n"),
    "size that overflows": ("7.1", b"1" + b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n"),
}

_UNREAD_BODY = (
    "bodies are not read here: after the head of its one request the connection is answered and "
    "closed, and no byte that follows is looked at"
)
_PASSED_ON = (
    "the head of the first request is read here and nothing else; the auth helper at the other end "
    "reads every head and body, and is shown these same probes"
)
# What is not rejected, by whom, and why that harms nobody.
HARMLESS = {
    ("redirect", "chunks"): _UNREAD_BODY,
    ("router", "chunks"): _PASSED_ON,
    ("router", "later heads"): _PASSED_ON,
    ("portal", "X_Forwarded_For"): (
        "fields are looked up by their exact names, and nothing turns _ into -: it is a field that "
        "nobody reads"
    ),
    ("router", "X_Forwarded_For"): "the same; the auth helper takes it away before the app",
    ("router", "large head"): (
        "the one instance that its Host names answers it with 431, and tells a person how to get "
        "rid of cookies; nothing after it is read there"
    ),
    ("portal", "Upgrade: h2c"): "RFC 9110 7.8: who does not switch answers as if it were not there",
    ("router", "Upgrade: h2c"): "the same",
}


@dataclass(frozen=True)
class Said:
    """What came back on one connection until it ended.

    :ivar statuses: of each answer, in order.
    :ivar ended: the other end has closed in time.
    """

    statuses: tuple[int, ...]
    ended: bool

    @classmethod
    def of(cls, data: bytes, ended: bool) -> "Said":
        """From its bytes."""
        return cls(tuple(int(status) for status in _STATUS_LINE.findall(data)), ended)

    @property
    def rejected(self) -> bool:
        """At most one answer, which is no success, and the end."""
        return self.ended and len(self.statuses) <= 1 and all(s >= 400 for s in self.statuses)


async def say(
    data: bytes,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    name: str = "",
    pieces: int = 1,
    limit_s: float = _LIMIT_S,
) -> Said:
    """Say ``data`` on a connection of its own to this machine; all that is answered.

    :param tls: what to shake hands by first, with the server ``name``.
    :param pieces: how many writes it is said in.
    """
    more = {} if tls is None else {"ssl": tls, "server_hostname": name}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **more)
    size = -(-len(data) // pieces)
    try:
        for start in range(0, len(data), size):
            if writer.is_closing():
                break
            writer.write(data[start : start + size])
            await writer.drain()
            # Each piece is to be read by itself.
            await asyncio.sleep(0.01 if pieces > 1 else 0)
    except OSError:
        pass  # refused before its end; what was answered is read below
    said, ended = await read_all(reader, limit_s)
    writer.transport.abort()
    return Said.of(said, ended)


async def read_all(reader: asyncio.StreamReader, limit_s: float) -> tuple[bytes, bool]:
    """What comes until the connection ends, and whether it does in this time."""
    said = b""
    try:
        async with asyncio.timeout(limit_s):
            while data := await reader.read(65536):
                said += data
    except TimeoutError:
        return said, False
    except OSError:
        pass  # ended without a goodbye
    return said, True
