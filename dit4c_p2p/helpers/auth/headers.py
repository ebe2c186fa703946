"""Header fields that pass from browser to app and back (RFC 9110 section 7.6.1)."""

from dataclasses import dataclass

from yarl import URL

from dit4c_p2p.helpers.auth import cookies
from dit4c_p2p.net.http1 import (
    BodyKind,
    Headers,
    RequestHead,
    ResponseHead,
    parse_response_head,
    render_head,
)
from dit4c_p2p.net.proxy_protocol import ProxiedClient

# Meant for one connection only, ours or the app's.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What tells an app who is calling and how, or which path is meant; set by us alone, or by nobody.
# "Proxy" would become HTTP_PROXY in a CGI's environment.
_ABOUT_THE_CALLER = frozenset(
    {
        b"cf-connecting-ip",
        b"front-end-https",
        b"proxy",
        b"remote-user",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-url",
        b"x-originating-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-remote-user",
        b"x-rewrite-url",
        b"x-scheme",
        b"x-script-name",
        b"x-url-scheme",
    }
)
_ABOUT_THE_CALLER_PREFIXES = (b"forwarded", b"x-forwarded", b"x-dit4c-")
# A CGI or WSGI app can't tell these from their form with "_", some not from one with ".".
_PLAIN_ONLY = frozenset({b"host", b"content-length", b"content-type", b"cookie", b"authorization"})
_NOT_FROM_CLIENT = _HOP_BY_HOP | _ABOUT_THE_CALLER | {b"host", b"cookie"}
_SEPARATORS = bytes.maketrans(b"_.", b"--")
# Clear-Site-Data would take the cookies of every host below the same domain: siblings', and ours.
_NOT_FROM_APP = _HOP_BY_HOP | {b"set-cookie", b"strict-transport-security", b"clear-site-data"}

# RFC 6797: from now on this host by HTTPS only. What else is below it is not ours to speak for.
STRICT_TRANSPORT = (b"Strict-Transport-Security", b"max-age=31536000")


@dataclass(frozen=True)
class Origin:
    """The instance's canonical origin, as bytes of fields: ``http`` and ``abc.localhost:8081``."""

    scheme: bytes
    host: bytes

    @classmethod
    def of(cls, url: URL) -> "Origin":
        """Of an instance's URL, as browsers write it: no port where it is the scheme's own."""
        return cls(url.scheme.encode(), (url.host_port_subcomponent or "").encode("ascii"))

    @property
    def secure(self) -> bool:
        """Whether browsers come by HTTPS."""
        return self.scheme == b"https"

    @property
    def text(self) -> bytes:
        """As in an ``Origin`` field."""
        return b"%b://%b" % (self.scheme, self.host)


class ToApp:
    """Builds the request heads for the app, for the requests of one connection.

    :param client: who calls, as the router saw it.
    """

    def __init__(self, origin: Origin, client: ProxiedClient | None) -> None:
        self._origin = origin
        self._client = client
        self._last: tuple[Headers, tuple[int, int], str] | None = None
        self._fields = b""

    def head(self, head: RequestHead, person: str) -> bytes:
        """Return the head for a request of ``person``."""
        last = self._last
        # What repeats itself has the same headers object (parse_head), and becomes the same.
        if (
            last is None
            or last[0] is not head.headers
            or last[1] != head.version
            or last[2] != person
        ):
            self._fields = render_head(b"", self._headers(head, person))
            self._last = (head.headers, head.version, person)
        version = b"HTTP/1.1" if head.version == (1, 1) else b"HTTP/1.0"
        return b"%b %b %b%b" % (head.method.encode(), head.path, version, self._fields)

    def _headers(self, head: RequestHead, person: str) -> Headers:
        """All of them; what they depend on is what :meth:`head` compares."""
        headers: Headers = [(b"Host", self._origin.host)]
        dropped = head.connection
        for pair in head.headers:
            name = pair[0].lower()
            plain = name.translate(_SEPARATORS)
            if plain in _NOT_FROM_CLIENT or plain.startswith(_ABOUT_THE_CALLER_PREFIXES):
                continue
            if name in dropped:
                continue
            if plain != name and (plain in _PLAIN_ONLY or head.get(plain) is not None):
                continue
            headers.append(pair)
        for value in head.get_all(b"cookie"):
            if rest := cookies.without_our_cookies(value):
                headers.append((b"Cookie", rest))
        if head.body.kind is BodyKind.CHUNKED:
            headers.append((b"Transfer-Encoding", b"chunked"))
        if head.upgrade is not None:
            headers.append((b"Connection", b"Upgrade"))
            headers.append((b"Upgrade", head.upgrade.encode()))
        elif head.version == (1, 0):
            headers.append((b"Connection", b"close"))
        headers += _forwarding_fields(self._origin, self._client)
        headers.append((b"X-DIT4C-User", person.encode("ascii")))
        return headers


class FromApp:
    """Reads the heads that the app answers with, and makes those that the browser gets, for one
    connection. What is the same to the last byte as the answer before is read and made once.

    :param secure: whether browsers know this instance by HTTPS.
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._read: tuple[bytes, str, ResponseHead] | None = None
        self._made: tuple[ResponseHead, bool, bool, bytes] | None = None

    def read(self, data: bytes, method: str) -> ResponseHead:
        """Parse and check the head of a response to a request of ``method``.

        :raises BadResponse: see :func:`parse_response_head`.
        """
        last = self._read
        if last is not None and last[0] == data and last[1] == method:
            return last[2]
        head = parse_response_head(data, method)
        self._read = (data, method, head)
        return head

    def head(self, head: ResponseHead, *, close: bool, chunking: bool = False) -> bytes:
        """Return the head for the browser.

        :param close: announces the end of its connection.
        :param chunking: the body is sent in chunks, other than the app does.
        """
        last = self._made
        if last is not None and last[0] is head and last[1] == close and last[2] == chunking:
            return last[3]
        first = b"HTTP/1.1 %d %b" % (head.status, head.reason)
        made = render_head(first, self._headers(head, close, chunking))
        self._made = (head, close, chunking, made)
        return made

    def _headers(self, head: ResponseHead, close: bool, chunking: bool) -> Headers:
        headers: Headers = []
        for pair in head.headers:
            name = pair[0].lower()
            if name == b"set-cookie":
                value = cookies.set_cookie_by_app(pair[1])
                if value is not None:
                    headers.append((pair[0], value))
            elif name == b"content-length" or not (
                name in _NOT_FROM_APP or name in head.connection
            ):
                headers.append(pair)
        if chunking or head.body.kind is BodyKind.CHUNKED:
            headers.append((b"Transfer-Encoding", b"chunked"))
        if head.status == 101:
            headers.append((b"Connection", b"Upgrade"))
            headers.append((b"Upgrade", b"websocket"))
        elif close and not head.interim:
            headers.append((b"Connection", b"close"))
        if self._secure and not head.interim:
            headers.append(STRICT_TRANSPORT)
        return headers


def _forwarding_fields(origin: Origin, client: ProxiedClient | None) -> Headers:
    """Return who called, as the router saw it.

    ``Forwarded`` (RFC 7239) is not sent: several apps prefer it to ``X-Forwarded-Host`` and read
    the quotes that RFC 7239 demands around a host with a port as a part of the host.
    """
    headers: Headers = [
        (b"X-Forwarded-Proto", origin.scheme),
        (b"X-Forwarded-Host", origin.host),
    ]
    if client is not None:
        address = client.host.encode("ascii")
        headers.append((b"X-Forwarded-For", address))
        headers.append((b"X-Real-IP", address))
    return headers
