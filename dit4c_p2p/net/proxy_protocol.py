"""The PROXY protocol: the client's address in front of a byte stream.

https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. Version 2 (section 2.2) is written by
the listener and required by the auth helper; it, and the text form of version 1 (section 2.1), come
from proxies in front of portal and router.
"""

import ipaddress
import struct
from typing import NamedTuple

from dit4c_p2p.errors import DitError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FIXED_BYTES = 16
V1_PREFIX = b"PROXY "
V1_MAX_BYTES = 107
# Addresses and extensions (TLVs) that we don't read; 216 is what the largest address takes.
MAX_REST_BYTES = 536

_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class ProxiedClient(NamedTuple):
    """The client's address and port, as the router saw them; ``host`` is an IP address."""

    host: str
    port: int


class BadProxyHeader(DitError):
    """The stream does not begin with a PROXY header."""

    code = "bad_proxy_header"


def encode_proxy_header(host: str, port: int) -> bytes:
    """Return the header for a client's address; LOCAL if ``host`` is not an IP address.

    The destination is zero, because the reader knows its own address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return SIGNATURE + struct.pack("!BBH", _LOCAL, 0, 0)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    port = port if 0 < port < 65536 else 0
    family = _TCP4 if address.version == 4 else _TCP6
    packed = address.packed
    rest = packed + bytes(len(packed)) + struct.pack("!HH", port, 0)
    return SIGNATURE + struct.pack("!BBH", _PROXY, family, len(rest)) + rest


def proxy_header_length(fixed: bytes) -> int:
    """Return the length of the whole header, from its first :data:`FIXED_BYTES`.

    :raises BadProxyHeader: not a header of version 2, or one that is too long.
    """
    if len(fixed) < FIXED_BYTES or not fixed.startswith(SIGNATURE):
        raise BadProxyHeader("the stream does not begin with a PROXY v2 header")
    command, _, rest = struct.unpack_from("!BBH", fixed, len(SIGNATURE))
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader("an unknown PROXY version or command")
    if rest > MAX_REST_BYTES:
        raise BadProxyHeader(f"a PROXY header of {rest} bytes is too long")
    return FIXED_BYTES + int(rest)


def decode_proxy_header(header: bytes) -> ProxiedClient | None:
    """Return the client of a whole header, or None if it is LOCAL or of an unknown family.

    :raises BadProxyHeader: see :func:`proxy_header_length`; or its addresses are cut short.
    """
    if proxy_header_length(header) != len(header):
        raise BadProxyHeader("the PROXY header is not whole")
    command, family = header[12], header[13]
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return None
    size = 4 if family == _TCP4 else 16
    rest = header[FIXED_BYTES:]
    if len(rest) < 2 * size + 4:
        raise BadProxyHeader("the PROXY header's addresses are cut short")
    (port,) = struct.unpack_from("!H", rest, 2 * size)
    return ProxiedClient(str(ipaddress.ip_address(rest[:size])), port)


def decode_proxy_header_v1(line: bytes) -> ProxiedClient | None:
    """Return the client of a version 1 line with its line end; None if it says UNKNOWN.

    :raises BadProxyHeader: the line is not a version 1 header.
    """
    words = line.removesuffix(b"\r\n").decode("ascii", "replace").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return None
    try:
        protocol, family, host, _, port, _ = words
        address, number = ipaddress.ip_address(host), int(port)
    except ValueError:
        raise BadProxyHeader("a malformed PROXY v1 header") from None
    good = protocol == "PROXY" and family == f"TCP{address.version}" and line.endswith(b"\r\n")
    # The spellings that only Python reads: "+8_0" for a port, an address with its interface.
    if not good or port != str(number) or "%" in host or not 0 <= number < 65536:
        raise BadProxyHeader("a malformed PROXY v1 header")
    return ProxiedClient(str(address), number)
