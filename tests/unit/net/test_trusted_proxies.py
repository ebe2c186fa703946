"""Whose word about a visitor's address counts."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.proxy_protocol import BadProxyHeader, ProxiedClient, decode_proxy_header_v1
from dit4c_p2p.net.trusted_proxies import (
    NOBODY,
    RequestOrigin,
    TrustedProxies,
    parse_proxy_networks,
    read_proxy_header,
)

PROXIES = TrustedProxies(parse_proxy_networks(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]))


def test_trust():
    for address in ("127.0.0.1", "10.200.0.1", "2001:db8::1", "::ffff:10.0.0.1"):
        assert PROXIES.trusts(address)
    for address in ("127.0.0.2", "11.0.0.1", "2001:db9::1", "", "localhost", "unix"):
        assert not PROXIES.trusts(address)
    assert not NOBODY.trusts("127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "said", "visitor"),
    [
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        # a stranger's own header is hearsay, behind a proxy too
        ("192.0.2.9", ["192.0.2.1"], "192.0.2.9"),
        ("127.0.0.1", ["203.0.113.7, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["203.0.113.7", "192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["10.0.0.1, 192.0.2.1"], "192.0.2.1"),
        # two proxies of ours, one behind the other
        ("127.0.0.1", ["203.0.113.7, 192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        ("127.0.0.1", ["10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1, nonsense, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["[2001:DB9::1]"], "2001:db9::1"),
        ("127.0.0.1", ["192.0.2.1:1234"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [", ".join(["10.0.0.1"] * 10_000)], "10.0.0.1"),
    ],
)
def test_forwarded_headers_are_believed_from_named_addresses_only(peer, said, visitor):
    """security.md 2.9: forwarded headers passed through."""
    origin = PROXIES.origin(peer, peer, {"X-Forwarded-For": said, "X-Forwarded-Proto": []}.get)
    assert origin == RequestOrigin(visitor, by_proxy=PROXIES.trusts(peer))


@pytest.mark.parametrize(
    ("peer", "said", "plain_http"),
    [
        ("127.0.0.1", ["http"], True),
        ("127.0.0.1", ["https"], False),
        ("127.0.0.1", ["http", "http"], False),
        ("127.0.0.1", [], False),
        ("192.0.2.9", ["http"], False),
    ],
)
def test_plain_http_is_what_a_trusted_proxy_says(peer, said, plain_http):
    origin = PROXIES.origin(peer, peer, {"X-Forwarded-For": [], "X-Forwarded-Proto": said}.get)
    assert origin.plain_http is plain_http


def test_no_field_counts_from_a_proxy_that_speaks_the_proxy_protocol():
    """It passes on what visitors say as it is."""
    speaking = TrustedProxies(PROXIES.networks, proxy_protocol=True)
    said = {"X-Forwarded-For": ["203.0.113.7"], "X-Forwarded-Proto": ["http"]}
    assert speaking.origin("127.0.0.1", "192.0.2.1", said.get) == RequestOrigin("192.0.2.1")


def test_the_text_form():
    assert decode_proxy_header_v1(b"PROXY TCP4 192.0.2.1 10.0.0.1 4567 443\r\n") == ProxiedClient(
        "192.0.2.1", 4567
    )
    assert decode_proxy_header_v1(b"PROXY TCP6 2001:db8::1 ::1 4567 443\r\n") == ProxiedClient(
        "2001:db8::1", 4567
    )
    assert decode_proxy_header_v1(b"PROXY UNKNOWN\r\n") is None
    assert decode_proxy_header_v1(b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n") is None
    for line in (
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4567\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 4567 443\r\n",
        b"PROXY TCP6 192.0.2.1 10.0.0.1 4567 443\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 70000 443\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4567 443\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 +45_67 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 4567 443\r\n",
        b"PROXY TCP4  192.0.2.1 10.0.0.1 4567 443\r\n",
        b"PROXY TCP4 \xff 10.0.0.1 4567 443\r\n",
        b"GET / HTTP/1.1\r\n",
    ):
        with pytest.raises(BadProxyHeader):
            decode_proxy_header_v1(line)


async def _header(data: bytes) -> tuple[ProxiedClient | None, bytes]:
    """The client, and what of ``data`` is still there to be read."""
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(5):
            client = await read_proxy_header(ours)
            rest = b""
            while more := await asyncio.get_running_loop().sock_recv(ours, 4096):
                rest += more
        return client, rest
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (proxy_protocol.encode_proxy_header("192.0.2.1", 99), ProxiedClient("192.0.2.1", 99)),
        (proxy_protocol.encode_proxy_header("2001:db8::1", 99), ProxiedClient("2001:db8::1", 99)),
        (proxy_protocol.encode_proxy_header("", 0), None),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 99 443\r\n", ProxiedClient("192.0.2.1", 99)),
        (b"PROXY UNKNOWN\r\n", None),
    ],
)
async def test_not_a_byte_more_is_taken(header, client):
    assert await _header(header + b"\x16\x03\x01 hello") == (client, b"\x16\x03\x01 hello")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PROXY " + b"x" * 200,
        proxy_protocol.SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        proxy_protocol.SIGNATURE + b"\x21\x11\xff\xff" + bytes(100),
        proxy_protocol.SIGNATURE[:8],
        b"",
    ],
)
async def test_what_is_no_header(data):
    with pytest.raises((BadProxyHeader, ConnectionError)):
        await _header(data)


@given(st.binary(max_size=120))
def test_any_line(line):
    try:
        decode_proxy_header_v1(b"PROXY " + line)
    except BadProxyHeader:
        return
