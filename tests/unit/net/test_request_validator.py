"""What a connection's strict reader lets pass, however its bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lib.http_probes import CHUNKS, HEADS, SMUGGLED, filled, head

from dit4c_p2p.net.request_validator import RequestValidator

GET = filled(head(), b"a")
POST = filled(head(b"Content-Length: 3", line=b"POST / HTTP/1.1"), b"a") + b"abc"
CHUNKED = filled(head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1"), b"a")
GOOD = GET + POST + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + POST
BAD = {name: probe.to(b"a") for name, probe in HEADS.items()}
AFTER = filled(SMUGGLED, b"a")


def fed(data, positions=()):
    """The reader, and what has passed of data that is cut there."""
    requests, passed = RequestValidator(), b""
    edges = sorted({0, len(data), *(position % (len(data) + 1) for position in positions)})
    for start, end in pairwise(edges):
        passed += requests.feed(data[start:end])
    return requests, passed


cuts = st.lists(st.integers(0, 2000), max_size=8)


@given(cuts)
def test_what_is_good_passes_as_it_is(positions):
    requests, passed = fed(GOOD + GET[:-1], positions)
    assert (passed, requests.refused, requests.heads) == (GOOD, None, 4)
    assert requests.in_head
    assert requests.feed(GET[-1:]) == GET and not requests.in_head


@given(st.sampled_from([name for name in BAD if len(BAD[name]) < 2000]), cuts)
def test_nothing_passes_of_a_bad_head_or_after_it(name, positions):
    requests, passed = fed(GOOD + BAD[name] + AFTER, positions)
    assert passed == GOOD
    assert requests.refused.status == HEADS[name].status
    assert not requests.begun and not requests.in_head
    assert requests.feed(GET) == b""


@given(st.sampled_from(sorted(CHUNKS)), cuts)
def test_of_a_bad_body_nothing_passes_from_what_is_bad_on(name, positions):
    data = CHUNKED + CHUNKS[name][1] + AFTER
    requests, passed = fed(GOOD + data, positions)
    assert passed.startswith(GOOD)
    assert data.startswith(passed[len(GOOD) :])
    assert requests.refused.status == 400
    assert requests.begun == (len(passed) > len(GOOD))
    assert AFTER[:20] not in passed


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ((b"Connection: Upgrade", b"Upgrade: websocket"), True),
        ((b"Connection: keep-alive, upgrade", b"Upgrade: WebSocket"), True),
        ((b"Connection: Upgrade", b"Upgrade: h2c"), False),
        ((b"Connection: Upgrade", b"Upgrade: h2c", b"uPGRADE: websocket"), False),
        ((b"Connection: Upgrade", b"Upgrade: websocket, h2c"), False),
        ((b"Upgrade: h2c",), True),
    ],
)
def test_offers_of_other_protocols_are_left_out(fields, kept):
    data = filled(head(*fields), b"a")
    _, passed = fed(data + POST)
    others = [field for field in fields if not field.lower().startswith(b"upgrade:")]
    assert passed == (data if kept else filled(head(*others), b"a")) + POST
