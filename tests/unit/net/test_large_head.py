"""Heads that are too large, read to their end and thrown away."""

import pytest

from dit4c_p2p.net.http1 import MAX_HEAD_BYTES, BadRequest
from dit4c_p2p.net.large_head import (
    MAX_LARGE_HEAD_BYTES,
    LargeHead,
    LargeHeadStream,
    large_head_without_cookies,
)

COOKIES = b"Cookie: " + b"; ".join(b"c%d=%b" % (n, b"x" * 4000) for n in range(40)) + b"\r\n"
REST = b"Host: ABC.example.net:8081\r\nAccept: text/html,*/*\r\n"
LARGE = b"POST /.dit4c/clear-cookies HTTP/1.1\r\n" + REST + COOKIES + b"X-Last: 1\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 4096, len(LARGE) + 4])
def test_a_large_head_is_read_in_any_pieces(step):
    head, data = LargeHead(), LARGE + b"body"
    taken = 0
    while taken < len(data) and not head.complete:
        part = data[taken : taken + step]
        taken += head.feed(part)
    assert head.complete and taken == len(LARGE)
    assert (head.method, head.path) == ("POST", b"/.dit4c/clear-cookies")
    assert head.host == b"abc.example.net:8081" and head.accepts_html
    assert head.cookie_bytes == len(COOKIES)


def test_its_memory_is_bounded():
    head = LargeHead()
    head.feed(b"GET / HTTP/1.1\r\n")
    for _ in range(MAX_LARGE_HEAD_BYTES // 65536 - 1):
        head.feed(b"x" * 65536)
    assert len(head._line) < 64 * 1024
    with pytest.raises(BadRequest) as caught:
        head.feed(b"x" * 2 * 65536)
    assert caught.value.status == 431


@pytest.mark.parametrize(
    "data", [b"GET /\r\n", b"a b c d\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n"]
)
def test_malformed_heads_are_refused(data):
    with pytest.raises(BadRequest):
        LargeHead().feed(data)


def test_host_and_path_of_a_large_head_are_read_before_its_end():
    head = large_head_without_cookies(LARGE[: MAX_HEAD_BYTES + 100])
    assert (head.method, head.host, head.path) == (
        "POST",
        "abc.example.net:8081",
        b"/.dit4c/clear-cookies",
    )
    assert head.get(b"cookie") is None
    late = b"GET / HTTP/1.1\r\n" + COOKIES + REST + b"\r\n"
    assert large_head_without_cookies(late[:MAX_HEAD_BYTES]) is None
    twice = b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n" + COOKIES
    assert large_head_without_cookies(twice) is None


def test_of_a_proxys_connection_that_head_alone_passes():
    stream = LargeHeadStream()
    half = len(LARGE) // 2
    assert stream.asked(LARGE[:half]) == LARGE[:half]
    assert stream.asked(LARGE[half:] + b"GET / HTTP/1.1\r\n") == LARGE[half:]
    assert stream.asked(b"Host: another.example.net\r\n\r\n") == b""
