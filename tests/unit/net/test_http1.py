"""Heads and framing, with the smuggling probes that every listener is shown."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lib.http_probes import CHUNKS, HEADS

from dit4c_p2p.net.http1 import (
    CHUNKED_BODY,
    MAX_HEAD_BYTES,
    NO_BODY,
    UNTIL_CLOSE_BODY,
    BadMessage,
    BadRequest,
    BadResponse,
    Body,
    BodyKind,
    ChunkedReader,
    CloseFramer,
    LengthFramer,
    RequestHead,
    find_head_end,
    framer_of,
    parse_head,
    parse_response_head,
    render_head,
)

TYPICAL = (
    b"GET /lab/tree/a%20b.ipynb?reset HTTP/1.1\r\n"
    b"Host: Abc.localhost:8081\r\n"
    b"Connection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="141"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: none\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en-GB,en;q=0.9\r\n"
    b"Cookie: __Host-dit4c-instance=abcdef; _xsrf=2|1234|5678\r\n"
    b"\r\n"
)


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"".join(part + b"\r\n" for part in (line, host, *fields, b""))


def test_a_typical_head():
    head = parse_head(TYPICAL)
    assert (head.method, head.version) == ("GET", (1, 1))
    assert head.target == head.path == b"/lab/tree/a%20b.ipynb?reset"
    assert head.host == "abc.localhost:8081"
    assert head.body == NO_BODY and head.keep_alive and head.upgrade is None
    assert head.get(b"sec-fetch-mode") == b"navigate"
    assert head.get(b"missing") is None and head.get_all(b"missing") == []
    assert head.headers[2] == (b"sec-ch-ua", b'"Chromium";v="141"')
    assert render_head(b"GET /lab/tree/a%20b.ipynb?reset HTTP/1.1", head.headers) == TYPICAL


def test_fields_keep_order_case_and_repetition():
    head = parse_head(request(b"X-A:1", b"x_a:\t2 ", b"X-a: 3\t4", b"Empty:"))
    assert head.headers[1:] == [
        (b"X-A", b"1"),
        (b"x_a", b"2"),
        (b"X-a", b"3\t4"),
        (b"Empty", b""),
    ]
    assert head.get_all(b"x-a") == [b"1", b"3\t4"]


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (request(), NO_BODY),
        (request(b"Content-Length: 0"), Body(BodyKind.LENGTH, 0)),
        (request(b"content-length: 0012"), Body(BodyKind.LENGTH, 12)),
        (request(b"Transfer-Encoding: Chunked"), CHUNKED_BODY),
    ],
)
def test_request_framing(data, body):
    assert parse_head(data).body == body


@pytest.mark.parametrize(
    ("fields", "version", "kept"),
    [
        ((), b"1.1", True),
        ((b"Connection: close",), b"1.1", False),
        ((b"Connection: foo, Close",), b"1.1", False),
        ((b"Connection: keep-alive", b"Connection: close"), b"1.1", False),
        ((), b"1.0", False),
        ((b"Connection: Keep-Alive",), b"1.0", True),
    ],
)
def test_keep_alive(fields, version, kept):
    assert parse_head(request(*fields, line=b"GET / HTTP/" + version)).keep_alive is kept


def test_only_websocket_upgrades():
    websocket = (b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket")
    assert parse_head(request(*websocket)).upgrade == "websocket"
    assert parse_head(request(b"Connection: Upgrade", b"Upgrade: h2c")).upgrade is None
    assert parse_head(request(b"Upgrade: websocket")).upgrade is None


@pytest.mark.parametrize(
    ("line", "more", "cause"),
    [
        (b"GET / HTTP/1.0", (), "needs HTTP/1.1"),
        (b"POST / HTTP/1.0", (b"Content-Length: 3",), "needs HTTP/1.1"),
        (b"POST / HTTP/1.1", (), "the method GET"),
        (b"GET / HTTP/1.1", (b"Content-Length: 3",), "no body"),
        (b"GET / HTTP/1.1", (b"Transfer-Encoding: chunked",), "no body"),
    ],
)
def test_reasons_why_a_websocket_can_not_begin(line, more, cause):
    """One sentence a condition: stock nginx speaks HTTP/1.0, and heard of the method."""
    with pytest.raises(BadRequest, match=cause):
        parse_head(request(b"Connection: Upgrade", b"Upgrade: websocket", *more, line=line))


def test_absolute_form_only_for_its_own_host():
    assert parse_head(request(line=b"GET http://A/x?y HTTP/1.1")).path == b"/x?y"
    assert parse_head(request(line=b"GET http://a HTTP/1.1")).path == b"/"
    assert parse_head(request(line=b"GET http://a?q HTTP/1.1")).path == b"/?q"
    assert parse_head(request(line=b"OPTIONS * HTTP/1.1")).path == b"*"


SMUGGLING = {name: (probe.to(b"a"), probe.status) for name, probe in HEADS.items()}
# Not for whoever waits for the end of a head.
CUT = {
    "no end": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "something after the end": request() + b"x",
    "nothing": b"",
}


def read(data: bytes) -> RequestHead:
    return parse_head(data[: find_head_end(data)])


@pytest.mark.parametrize("probe", SMUGGLING)
def test_section_4_smuggling_probes_are_rejected(probe):
    data, status = SMUGGLING[probe]
    with pytest.raises(BadRequest) as caught:
        read(data)
    assert caught.value.status == status


@pytest.mark.parametrize("probe", CUT)
def test_incomplete_or_extra_heads_are_rejected(probe):
    with pytest.raises(BadRequest):
        parse_head(CUT[probe])


def test_head_end_is_found_and_bounded():
    assert find_head_end(TYPICAL + b"body") == len(TYPICAL)
    assert find_head_end(TYPICAL[:-1]) == -1
    with pytest.raises(BadRequest) as caught:
        find_head_end(b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES)
    assert caught.value.status == 431
    with pytest.raises(BadRequest) as caught:
        find_head_end(b"GET / HTTP/1.1\nHost: a\n\n")
    assert caught.value.status == 400


def outcome_of_head(pieces: list[bytes]) -> object:
    buffer = bytearray()
    for piece in pieces:
        seen = len(buffer)
        buffer += piece
        try:
            end = find_head_end(buffer, seen)
            if end >= 0:
                head = parse_head(bytes(buffer[:end]))
                return head.method, head.path, head.headers, head.body
        except BadRequest as error:
            return error.status
    return None


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(
    st.one_of(
        st.sampled_from([TYPICAL + b"x", *(data for data, _ in SMUGGLING.values())]),
        st.binary(max_size=100),
        st.text("GET /HTTP1.\r\n:ab ", max_size=60).map(str.encode),
    ),
    st.lists(st.integers(0, 70_000), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_splitting_a_head_changes_nothing(data, positions):
    assert outcome_of_head(cut(data, positions)) == outcome_of_head([data])


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_nothing_but_bad_request_is_raised(data):
    for text in (data, b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n"):
        try:
            head = parse_head(text)
        except BadRequest:
            continue
        assert parse_head(render_head(b"GET / HTTP/1.1", head.headers)).headers == head.headers


# ---- bodies


def outcome_of_body(pieces: list[bytes]) -> object:
    reader = ChunkedReader()
    taken = 0
    for piece in pieces:
        try:
            count = reader.feed(piece)
        except BadMessage:
            return "bad"
        taken += count
        if count < len(piece):
            break
    return taken, reader.complete


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"0\r\n\r\nGET", (5, True)),
        (b"3\r\nabc\r\n0\r\n\r\n", (13, True)),
        (b"0003\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\nrest", (32, True)),
        (b"3\r\nab", (5, False)),
        (b"3", (1, False)),
        (b"3\r", (2, False)),
        (b"f" * 16 + b"\r\n", (18, False)),
        *((data, "bad") for _, data in CHUNKS.values()),
    ],
)
def test_section_4_chunked_probes(data, result):
    assert outcome_of_body([data]) == result
    assert outcome_of_body([bytes([byte]) for byte in data]) == result


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.binary(max_size=10),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_splitting_a_chunked_body_changes_nothing(chunks, rest, positions):
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert outcome_of_body(cut(body + rest, positions)) == (len(body), True)


@given(st.text("0123af;\r\n x", max_size=30).map(str.encode), st.lists(st.integers(0, 30)))
def test_splitting_rubbish_changes_nothing(data, positions):
    assert outcome_of_body(cut(data, positions)) == outcome_of_body([data])


def test_framers_by_length_and_by_close():
    framer = framer_of(Body(BodyKind.LENGTH, 5))
    assert isinstance(framer, LengthFramer) and not framer.complete
    assert framer.feed(b"abc") == 3 and framer.feed(b"defg") == 2 and framer.complete
    assert framer.feed(b"x") == 0
    assert framer_of(NO_BODY).complete
    assert framer_of(UNTIL_CLOSE_BODY).feed(b"abc") == 3
    assert isinstance(framer_of(UNTIL_CLOSE_BODY), CloseFramer)


# ---- responses


@pytest.mark.parametrize(
    ("data", "method", "body", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "GET", Body(BodyKind.LENGTH, 3), True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HEAD", NO_BODY, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", CHUNKED_BODY, True),
        (b"HTTP/1.1 200 OK\r\n\r\n", "GET", UNTIL_CLOSE_BODY, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", "GET", Body(BodyKind.LENGTH, 3), False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", NO_BODY, True),
        (b"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n", "GET", NO_BODY, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "POST", NO_BODY, True),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", "GET", UNTIL_CLOSE_BODY, False),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "GET", Body(BodyKind.LENGTH, 0), True),
    ],
)
def test_response_framing(data, method, body, keep_alive):
    head = parse_response_head(data, method)
    assert head.body == body and head.keep_alive is keep_alive
    assert head.interim is (head.status == 100)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 600 X\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: a\r\n\r\n",
    ],
)
def test_bad_responses(data):
    with pytest.raises(BadResponse):
        parse_response_head(data, "GET")


def test_rendering_refuses_line_ends():
    for bad in (b"a\r\nSet-Cookie: x", b"a\n", b"\r"):
        with pytest.raises(ValueError):
            render_head(b"HTTP/1.1 200 OK", [(b"X", bad)])


def test_parsing_is_quick():
    best = 1.0
    for _ in range(20):
        begin = time.perf_counter()
        for _ in range(200):
            parse_head(TYPICAL)
        best = min(best, (time.perf_counter() - begin) / 200)
    # 20 µs on a quiet machine; the room is for a busy one.
    assert best < 60e-6, f"{best * 1e6:.1f} µs a head"


BEFORE = b"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\n"


def told(head):
    """All that a head says."""
    names = {name for kind in type(head).__mro__ for name in getattr(kind, "__slots__", ())}
    return {name: getattr(head, name) for name in names}


@pytest.mark.parametrize(
    "line",
    [
        b"POST /x HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET http://a.example/x HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ],
)
@pytest.mark.parametrize(
    "fields", [b"Content-Length: 3", b"Content-Length: 4", b"Connection: close"]
)
def test_a_head_is_read_the_same_whatever_came_before_it(line, fields):
    data = line + b"\r\nHost: a.example\r\n" + fields + b"\r\n\r\n"
    assert told(parse_head(data, parse_head(BEFORE))) == told(parse_head(data))


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1 ",
        b"GET  / HTTP/1.1",
        b"GE\tT / HTTP/1.1",
        b"GET /\r HTTP/1.1",
        b"GET /\n HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET / HTTP/1.1\n",
        b"\rGET / HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET http://b.example/ HTTP/1.1",
        b"CONNECT a.example:1 HTTP/1.1",
        b"",
    ],
)
def test_a_known_block_lets_no_first_line_through(line):
    data = line + BEFORE[BEFORE.index(b"\r\n") :]
    with pytest.raises(BadRequest):
        parse_head(data)
    with pytest.raises(BadRequest):
        parse_head(data, parse_head(BEFORE))
