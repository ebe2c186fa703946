"""Trusted proxies, and the two forms in which they give a visitor's address.

A proxy in front of portal or router gives the visitor's address in ``X-Forwarded-For`` or in a
PROXY protocol header (version 1 or 2) before a connection's bytes. Both are believed from the
addresses that the admin has configured, and from no others.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.proxy_protocol import BadProxyHeader, ProxiedClient

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The least that both versions have: "PROXY UNKNOWN", or the signature and the command.
_LEAST_BYTES = 13
_MAX_HOPS = 32


# The values of the request's field of that name.
Fields = Callable[[str], Iterable[str]]


@dataclass(frozen=True)
class RequestOrigin:
    """Where a request comes from.

    :ivar address: the client's address.
    :ivar by_proxy: whether a trusted proxy forwards requests of several clients by the connection.
    :ivar plain_http: whether that proxy got the request by plain HTTP.
    """

    address: str
    by_proxy: bool = False
    plain_http: bool = False


@dataclass(frozen=True)
class TrustedProxies:
    """The configured proxies.

    :ivar networks: their addresses; empty means that no proxy is trusted.
    :ivar proxy_protocol: whether their connections begin with a PROXY protocol header. The
        specification forbids guessing; connections from other addresses have no header.
    """

    networks: tuple[Network, ...] = ()
    proxy_protocol: bool = False

    def trusts(self, address: str) -> bool:
        """Whether ``address`` belongs to a trusted proxy."""
        if not self.networks:
            return False
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self.networks)

    def origin(self, peer: str, address: str, field: Fields) -> RequestOrigin:
        """Return where a request comes from.

        ``X-Forwarded-For`` and ``X-Forwarded-Proto`` count from trusted proxies and from nobody
        else. From a proxy that speaks the PROXY protocol they don't: it passes on what visitors
        say as it is. Each proxy appends the address it was called from, so the addresses are read
        from the end while the proxy that appended one is trusted.

        :param peer: the host that the connection comes from.
        :param address: the client's, by the connection or its PROXY header.
        :param field: the values of a field of the request, in the request's order.
        """
        if self.proxy_protocol or not self.trusts(peer):
            return RequestOrigin(address)
        hops = [hop.strip() for value in field("X-Forwarded-For") for hop in value.split(",")]
        for hop in reversed(hops[-_MAX_HOPS:]):
            try:
                address = str(ipaddress.ip_address(hop.strip("[]")))
            except ValueError:
                break
            if not self.trusts(address):
                break
        plain = list(field("X-Forwarded-Proto")) == ["http"]
        return RequestOrigin(address, by_proxy=True, plain_http=plain)


NOBODY = TrustedProxies()


def parse_proxy_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse networks and single addresses.

    :raises ValueError: an item is neither.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


async def read_proxy_header(sock: socket.socket) -> ProxiedClient | None:
    """Read exactly the PROXY protocol header of a connection.

    :param sock: non-blocking.
    :returns: the visitor; None if the proxy calls for itself, as for a health check.
    :raises BadProxyHeader: the header is missing or malformed.
    :raises OSError: the connection broke.
    """
    head = await _read_exactly(sock, _LEAST_BYTES)
    if head.startswith(proxy_protocol.SIGNATURE):
        head += await _read_exactly(sock, proxy_protocol.FIXED_BYTES - len(head))
        head += await _read_exactly(sock, proxy_protocol.proxy_header_length(head) - len(head))
        return proxy_protocol.decode_proxy_header(head)
    if not head.startswith(proxy_protocol.V1_PREFIX):
        raise BadProxyHeader("a proxy's connection does not begin with a PROXY header")
    while not head.endswith(b"\r\n"):
        if len(head) >= proxy_protocol.V1_MAX_BYTES:
            raise BadProxyHeader("a PROXY v1 header does not end")
        head += await _read_exactly(sock, 1)
    return proxy_protocol.decode_proxy_header_v1(head)


async def _read_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise ConnectionResetError("the connection ended inside its PROXY header")
        data += more
    return data
