"""The first bytes of a connection: HTTP/1 heads, chunked bodies, PROXY headers.

scripts/fuzz head [--seconds N]

Whatever comes, only the declared errors are raised; the verdict is the same however the bytes are
cut; what is accepted is rendered again to something that reads equal.
"""

import re
import struct

import atheris

with atheris.instrument_imports(include=["dit4c_p2p.http1", "dit4c_p2p.edge.proxy_protocol"]):
    from dit4c_p2p import http1
    from dit4c_p2p.edge import proxy_protocol

from support.fuzzing import run

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
    proxy_protocol.encode("203.0.113.7", 40123),
    proxy_protocol.encode("2001:db8::1", 1),
    proxy_protocol.encode("", 0),
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 65535 80\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 +8_0 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 65535 80\r\n",
    b"PROXY UNKNOWN\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A:b\r\n" * 198 + b"\r\n",
]
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
    for decode in (proxy_protocol.decode, proxy_protocol.decode_v1):
        try:
            client = decode(data)
        except proxy_protocol.BadProxyHeader:
            continue
        if client is None:
            continue
        again = proxy_protocol.decode(proxy_protocol.encode(*client))
        mapped = client.host.startswith("::ffff:")
        assert again == client or mapped, f"{client} is written as {again}"
        if decode is proxy_protocol.decode_v1:
            assert data.split(b" ")[4] == str(client.port).encode(), "a port by another spelling"
    if len(data) >= proxy_protocol.FIXED_BYTES:
        fixed = proxy_protocol.SIGNATURE + data[:4]
        try:
            whole = proxy_protocol.length(fixed)
        except proxy_protocol.BadProxyHeader:
            return
        (rest,) = struct.unpack_from("!H", fixed, 14)
        assert whole == proxy_protocol.FIXED_BYTES + rest, "a wrong length"


def target(data):
    """All of the readers, on the same bytes."""
    step = 1 + (sum(data[-3:]) % 7 if len(data) < 2000 else 509)
    check_request(data, step)
    check_known_block(data)
    for method in ("GET", "HEAD"):
        check_response(data, method)
    check_chunks(data, step)
    check_proxy(data)


if __name__ == "__main__":
    run(target, SEEDS, "scripts/fuzz head")
