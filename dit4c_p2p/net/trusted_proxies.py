"""Whose word about a visitor's address counts, and in which forms it comes.

A proxy in front of portal or router says for whom it calls: by ``X-Forwarded-For`` in a request,
or by a PROXY protocol header (version 1 or 2) in front of a connection's bytes. Either is believed
from the addresses that the admin has named and from nobody else.
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
    """The proxies to believe.

    :ivar networks: their addresses; none: nobody is believed.
    :ivar proxy_protocol: whether their connections begin with a PROXY protocol header. By its
        specification that is never guessed; connections from elsewhere have none.
    """

    networks: tuple[Network, ...] = ()
    proxy_protocol: bool = False

    def trusts(self, address: str) -> bool:
        """Whether ``address`` is one of the proxies'."""
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
        """For whom a connection from ``peer`` calls.

        :param forwarded_for: the values of ``X-Forwarded-For``, in the order of the request. Each
            proxy adds the address it was called from at the end, so they are read from there, for
            as long as who added one is believed. What comes before is hearsay.
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
    """Networks and single addresses.

    :raises ValueError: one is neither.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


async def read_header(sock: socket.socket) -> Client | None:
    """Take the PROXY protocol header off a connection, and not a byte more.

    :param sock: non-blocking.
    :returns: the visitor; None if the proxy calls for itself, as a health check does.
    :raises BadProxyHeader: there is none, or it is malformed.
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
