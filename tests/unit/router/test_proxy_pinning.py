"""What passes on a proxy's connection: requests for the one instance that its first one names."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.net.http1 import BadRequest
from dit4c_p2p.router.proxy_pinning import HostPinnedStream

HOST = "abc.example.net"
GET = b"GET / HTTP/1.1\r\nHost: abc.example.net\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: ABC.example.net\r\nContent-Length: 3\r\n\r\nabc"
OTHERS = b"GET /private HTTP/1.1\r\nHost: xyz.example.net\r\nCookie: a=b\r\n\r\n"
SWITCH = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def asked(passing, data, positions):
    """What has passed of data that is cut there, and whether something was refused."""
    passed, edges = b"", sorted({0, len(data), *(at % (len(data) + 1) for at in positions)})
    try:
        for start, end in pairwise(edges):
            passed += passing.asked(data[start:end])
    except BadRequest:
        return passed, True
    return passed, False


@given(st.lists(st.integers(0, 2000), max_size=8))
def test_its_own_requests_pass_as_they_are(positions):
    assert asked(HostPinnedStream(HOST), GET + POST + GET, positions) == (GET + POST + GET, False)


@given(st.lists(st.integers(0, 2000), max_size=8), st.sampled_from([b"", GET, POST + GET]))
def test_requests_for_another_instance_are_stopped(positions, before):
    passed, refused = asked(HostPinnedStream(HOST), before + OTHERS, positions)
    assert refused and before.startswith(passed)


def test_a_websocket_passes_once_it_has_begun():
    passing = HostPinnedStream(HOST)
    assert passing.asked(GET + SWITCH) == GET + SWITCH
    for part in (b"HTTP/1.1 1", b"01 Switching Protocols\r\n\r\n", b"frames"):
        passing.answered(part)
    assert passing.asked(b"\x81\x85 frames, no heads") == b"\x81\x85 frames, no heads"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 1", b"HTTP/1.1 200 OK\r\n\r\n", b"101"])
def test_nothing_passes_after_a_websocket_that_was_only_asked_for(answer):
    passing = HostPinnedStream(HOST)
    passing.asked(SWITCH)
    passing.answered(answer)
    with pytest.raises(BadRequest):
        passing.asked(OTHERS)
