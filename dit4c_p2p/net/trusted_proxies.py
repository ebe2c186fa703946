"""Trusted proxies, and the two forms in which they give a visitor's address.

A proxy in front of portal or router gives the visitor's address in ``X-Forwarded-For`` or in a
PROXY protocol header (version 1 or 2) before a connection's bytes. Both are believed from the
addresses that the admin has configured, and from no others.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.proxy_protocol import BadProxyHeader, Client

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The least that both versions have: "PROXY UNKNOWN", or the signature and the command.
_LEAST_BYTES = 13
_MAX_HOPS = 32


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

    def visitor(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """Return the visitor's address of a connection from ``peer``.

        :param forwarded_for: the values of ``X-Forwarded-For``, in the order of the request. Each
            proxy appends the address it was called from, so they are read from the end while the
            proxy that appended one is trusted. Earlier values are not believed.
        """
        if not self.trusts(peer):
            return peer
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        for hop in reversed(hops[-_MAX_HOPS:]):
            try:
                peer = str(ipaddress.ip_address(hop.strip("[]")))
            except ValueError:
                break
            if not self.trusts(peer):
                break
        return peer


NOBODY = TrustedProxies()


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse networks and single addresses.

    :raises ValueError: an item is neither.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


async def read_header(sock: socket.socket) -> Client | None:
    """Read exactly the PROXY protocol header of a connection.

    :param sock: non-blocking.
    :returns: the visitor; None if the proxy calls for itself, as for a health check.
    :raises BadProxyHeader: the header is missing or malformed.
    :raises OSError: the connection broke.
    """
    head = await _exactly(sock, _LEAST_BYTES)
    if head.startswith(proxy_protocol.SIGNATURE):
        head += await _exactly(sock, proxy_protocol.FIXED_BYTES - len(head))
        head += await _exactly(sock, proxy_protocol.length(head) - len(head))
        return proxy_protocol.decode(head)
    if not head.startswith(proxy_protocol.V1_PREFIX):
        raise BadProxyHeader("a proxy's connection does not begin with a PROXY header")
    while not head.endswith(b"\r\n"):
        if len(head) >= proxy_protocol.V1_MAX_BYTES:
            raise BadProxyHeader("a PROXY v1 header does not end")
        head += await _exactly(sock, 1)
    return proxy_protocol.decode_v1(head)


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise ConnectionResetError("the connection ended inside its PROXY header")
        data += more
    return data
