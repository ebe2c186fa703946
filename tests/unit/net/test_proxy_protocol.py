"""PROXY v2, against the bytes of its specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.net.proxy_protocol import (
    FIXED_BYTES,
    SIGNATURE,
    BadProxyHeader,
    ProxiedClient,
    decode_proxy_header,
    encode_proxy_header,
    proxy_header_length,
)


def test_the_bytes_of_ipv4_and_ipv6():
    assert encode_proxy_header("192.0.2.1", 0x1234) == (
        SIGNATURE + b"\x21\x11\x00\x0c" + b"\xc0\x00\x02\x01" + b"\0\0\0\0" + b"\x12\x34" + b"\0\0"
    )
    header = encode_proxy_header("2001:db8::1", 80)
    assert header[12:16] == b"\x21\x21\x00\x24" and len(header) == 16 + 36


@pytest.mark.parametrize(
    ("host", "port", "client"),
    [
        ("192.0.2.1", 1, ProxiedClient("192.0.2.1", 1)),
        ("2001:DB8:0::1", 65535, ProxiedClient("2001:db8::1", 65535)),
        ("::ffff:192.0.2.1", 5, ProxiedClient("192.0.2.1", 5)),
        ("192.0.2.1", 70_000, ProxiedClient("192.0.2.1", 0)),
        ("", 0, None),
        ("localhost", 80, None),
        ("192.0.2.1\r\n", 80, None),
    ],
)
def test_there_and_back(host, port, client):
    header = encode_proxy_header(host, port)
    assert proxy_header_length(header[:FIXED_BYTES]) == len(header)
    assert decode_proxy_header(header) == client


def test_extensions_and_other_families_are_skipped():
    tlv = SIGNATURE + b"\x21\x11\x00\x10" + b"\xc0\x00\x02\x01" + b"\0" * 8 + b"\x04\x00\x01x"
    assert decode_proxy_header(tlv) == ProxiedClient("192.0.2.1", 0)
    assert decode_proxy_header(SIGNATURE + b"\x21\x31\x00\x02ab") is None


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        SIGNATURE + b"\x11\x11\x00\x00",
        SIGNATURE + b"\x22\x11\x00\x00",
        SIGNATURE + b"\x21\x11\x00\x04abcd",
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_others_are_refused(header):
    with pytest.raises(BadProxyHeader):
        decode_proxy_header(header)


@given(st.binary(max_size=64))
def test_rubbish_is_refused_or_read(data):
    for header in (data, SIGNATURE + data):
        try:
            decode_proxy_header(header)
        except BadProxyHeader:
            continue
