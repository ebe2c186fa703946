"""The first bytes of a connection: HTTP/1 heads, chunked bodies, PROXY headers, cookies, and the
readers that are made of them: the portal's, and that of redirects.

scripts/fuzz head [--seconds N]

Whatever comes, only the declared errors are raised; the verdict is the same however the bytes are
cut; what is accepted is rendered again to something that reads equal.
"""

import asyncio
import re
import socket
import struct

import atheris

with atheris.instrument_imports(
    include=["dit4c_p2p.net.http1", "dit4c_p2p.net", "dit4c_p2p.helpers.auth.cookies"]
):
    from dit4c_p2p.helpers.auth import cookies
    from dit4c_p2p.net import http1, proxy_protocol, trusted_proxies
    from dit4c_p2p.net.https_redirect import HttpsRedirect
    from dit4c_p2p.net.listener import ConnectionLimiter, ConnectionSlot
    from dit4c_p2p.net.request_validator import RequestValidator

from lib.fuzzing import run

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: abc.localhost:8081\r\n\r\n",
    b"POST /a?b=c HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
    b"POST http://a.example/x HTTP/1.1\r\nHost: A.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nHost: [::1]:80\r\nConnection: keep-alive, x\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nX:\r\nY:  \t z \t\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.0 304\r\n\r\n",
    b"0000a\r\n0123456789\r\n0\r\n\r\nrest",
    b"ffffffffffffffff\r\nx",
    b"1\r\na\r\n1;x=y\r\nb\r\n0\r\nTrailer: x\r\n\r\n",
    proxy_protocol.encode_proxy_header("203.0.113.7", 40123),
    proxy_protocol.encode_proxy_header("2001:db8::1", 1),
    proxy_protocol.encode_proxy_header("", 0),
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 65535 80\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 +8_0 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 65535 80\r\n",
    b"PROXY UNKNOWN\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A:b\r\n" * 198 + b"\r\n",
    b"GET //evil.example/%0d%0a HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"a=1; __Host-dit4c-instance=secret;__host-DIT4C-x ; =__Host-dit4c-login=y; b",
    b"__Host-dit4c-instance=x; Path=/; Secure",
    b"a=b; Domain=example; DOMAIN =x; path=/",
]
# Sockets and timers want one.
LOOP = asyncio.new_event_loop()
CONTROLS = bytes({*range(9), *range(10, 32), 127})
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")


def facts(head):
    """All that a parsed head says, to be compared; not in which bytes it was said."""
    names = {name for base in type(head).__mro__ for name in getattr(base, "__slots__", ())}
    return {name: getattr(head, name) for name in names - {"_block"}}


def verdict_on_request(data, step):
    """What a reader that gets ``step`` bytes at a time makes of ``data``."""
    buffer, seen = bytearray(), 0
    try:
        for position in range(0, len(data), step):
            buffer += data[position : position + step]
            end = http1.find_head_end(buffer, seen)
            if end >= 0:
                return end, facts(http1.parse_head(bytes(buffer[:end])))
            seen = len(buffer)
    except http1.BadRequest as error:
        return "refused", error.status
    return "more"


def check_request(data, step):
    """The same however cut, and rendered again to what reads equal."""
    whole = verdict_on_request(data, max(len(data), 1))
    assert verdict_on_request(data, step) == whole, f"cut at {step} it reads otherwise"
    if isinstance(whole[0], int):
        said = whole[1]
        first = b" ".join(
            [said["method"].encode(), said["target"], b"HTTP/%d.%d" % said["version"]]
        )
        again = http1.render_head(first, said["headers"])
        assert http1.find_head_end(again) == len(again), "rendered, it ends elsewhere"
        assert facts(http1.parse_head(again)) == said, "rendered, it reads otherwise"
        assert said["path"] == b"*" or said["path"].startswith(b"/"), "no path"
        assert said["body"].kind is not http1.BodyKind.UNTIL_CLOSE, "a request until the close"


def check_known_block(data):
    """A first line is read the same where the fields below it are known from the head before."""
    line, end, block = data.partition(b"\r\n")
    try:
        before = http1.parse_head(b"GET / HTTP/1.1\r\n" + block)
    except http1.BadRequest:
        return
    verdicts = []
    for known in (None, before):
        try:
            verdicts.append(facts(http1.parse_head(line + end + block, known)))
        except http1.BadRequest:
            verdicts.append("refused")
    assert verdicts[0] == verdicts[1], "below another head it reads otherwise"


def check_response(data, method):
    """Rendered again to what reads equal."""
    try:
        said = facts(http1.parse_response_head(data, method))
    except http1.BadResponse:
        return
    first = b"HTTP/%d.%d %d %b" % (*said["version"], said["status"], said["reason"])
    again = http1.parse_response_head(http1.render_head(first, said["headers"]), method)
    assert facts(again) == said, "rendered, it reads otherwise"


def verdict_on_chunks(data, step):
    """How many bytes are the body's and whether it is complete, or that it is refused."""
    reader, taken = http1.ChunkedReader(), 0
    try:
        for position in range(0, len(data), step):
            part = data[position : position + step]
            count = reader.feed(part)
            taken += count
            if reader.complete:
                break
            assert count == len(part), "bytes were left of an incomplete body"
    except http1.BadRequest:
        return "refused"
    return taken, reader.complete


def plainly(data):
    """A chunked body read in the simplest way that there is."""
    position = 0
    while line := _CHUNK_LINE.match(data, position):
        size = int(line[1], 16)
        position = line.end() + size
        if data[position : position + 2] != b"\r\n":
            break
        position += 2
        if size == 0:
            return position, True
    return None


def check_chunks(data, step):
    """The same however cut, and complete just when a plain reader says so."""
    whole = verdict_on_chunks(data, max(len(data), 1))
    assert verdict_on_chunks(data, step) == whole, f"cut at {step} it reads otherwise"
    if (whole != "refused" and whole[1]) or plainly(data):
        assert whole == plainly(data), "a plain reader disagrees"


def check_proxy(data):
    """A client that is read is written again to what reads equal."""
    for decode in (proxy_protocol.decode_proxy_header, proxy_protocol.decode_proxy_header_v1):
        try:
            client = decode(data)
        except proxy_protocol.BadProxyHeader:
            continue
        if client is None:
            continue
        again = proxy_protocol.decode_proxy_header(proxy_protocol.encode_proxy_header(*client))
        mapped = client.host.startswith("::ffff:")
        assert again == client or mapped, f"{client} is written as {again}"
        if decode is proxy_protocol.decode_proxy_header_v1:
            assert data.split(b" ")[4] == str(client.port).encode(), "a port by another spelling"
    if len(data) >= proxy_protocol.FIXED_BYTES:
        fixed = proxy_protocol.SIGNATURE + data[:4]
        try:
            whole = proxy_protocol.proxy_header_length(fixed)
        except proxy_protocol.BadProxyHeader:
            return
        (rest,) = struct.unpack_from("!H", fixed, 14)
        assert whole == proxy_protocol.FIXED_BYTES + rest, "a wrong length"


def pieces(data, step):
    """What arrives in reads of ``step`` bytes."""
    return [data[start : start + step] for start in range(0, len(data), step)]


def check_requests(data, step):
    """However cut, the same is refused; what passes does so again, and to the same requests."""

    def fed(parts):
        requests = RequestValidator()
        return requests, b"".join(map(requests.feed, parts))

    whole, passed = fed([data])
    cut, cut_passed = fed(pieces(data, step))
    assert (whole.refused is None) == (cut.refused is None), f"cut at {step} it reads otherwise"
    # Of a body that goes wrong later its beginning has passed.
    assert cut_passed.startswith(passed), f"cut at {step} something else passes"
    assert cut.refused is not None or cut_passed == passed, f"cut at {step} more passes"
    again, passed_again = fed([passed])
    assert again.refused is None and passed_again == passed, "it would not pass again"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.said = b""

    def write(self, data):
        self.said += data

    def write_eof(self):
        pass

    def is_closing(self):
        return False


async def redirected(parts):
    """What is answered to these bytes."""
    wire, place = Wire(), ConnectionSlot(ConnectionLimiter(1, 1), ("192.0.2.1", 1))
    redirect = HttpsRedirect({"a.example": "https://a.example"}.get, place)
    redirect.connection_made(wire)
    for part in parts:
        redirect.data_received(part)
    redirect.connection_lost(None)
    return wire.said


def check_redirect(data, step):
    """One answer at the most, the same however cut; it leads to where it should or nowhere."""
    said = LOOP.run_until_complete(redirected([data]))
    cut = LOOP.run_until_complete(redirected(pieces(data, step)))
    assert cut == said, f"cut at {step} it is answered otherwise"
    if said:
        answer = http1.parse_response_head(said[: said.index(b"\r\n\r\n") + 4], "GET")
        assert answer.status == 308 or 400 <= answer.status <= 505, "an odd status"
        to = answer.get(b"location")
        assert (to is not None) == (answer.status == 308), "a redirect without a place"
        assert to is None or to.startswith(b"https://a.example/"), f"it leads to {to}"


async def taken_off(data):
    """What a header at the beginning of a connection says, and what is left after it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        ours.setblocking(False)
        try:
            client = await trusted_proxies.read_proxy_header(ours)
        except (proxy_protocol.BadProxyHeader, ConnectionResetError):
            return None
        left = b""
        while part := await LOOP.sock_recv(ours, 65536):
            left += part
        return client, left


def check_header(data):
    """A header is taken off to its last byte and no further."""
    read = LOOP.run_until_complete(taken_off(data))
    if read is not None:
        client, left = read
        header = data[: len(data) - len(left)]
        v2 = header.startswith(proxy_protocol.SIGNATURE)
        decode = proxy_protocol.decode_proxy_header if v2 else proxy_protocol.decode_proxy_header_v1
        assert data.endswith(left) and decode(header) == client, "not by itself the same"


def check_cookies(data):
    """None of ours gets through to the app, and none from it to anybody else."""
    data = data.translate(None, CONTROLS)  # no head has them
    kept = cookies.without_our_cookies(data)
    assert cookies.without_our_cookies(kept) == kept, "some are left"
    for name in (cookies.SESSION_COOKIE, cookies.LOGIN_COOKIE):
        assert cookies.find_cookie([kept], name) is None, "one of ours is left"
    given = cookies.set_cookie_by_app(data)
    if given is not None:
        assert cookies.set_cookie_by_app(given) == given, "something is left"
        name, *attributes = given.lower().split(b";")
        assert not name.strip(b" \t=").startswith(b"__host-dit4c-"), "one of ours is set"
        names = [attribute.partition(b"=")[0].strip(b" \t") for attribute in attributes]
        assert b"domain" not in names, "a domain is left"


def target(data):
    """All of the readers, on the same bytes."""
    step = 1 + (sum(data[-3:]) % 7 if len(data) < 2000 else 509)
    check_request(data, step)
    check_known_block(data)
    for method in ("GET", "HEAD"):
        check_response(data, method)
    check_chunks(data, step)
    check_proxy(data)
    check_requests(data, step)
    check_redirect(data, step)
    check_header(data)
    check_cookies(data)


if __name__ == "__main__":
    run(target, SEEDS, "scripts/fuzz head")
