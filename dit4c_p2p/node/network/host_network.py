"""The machine's network, as a pod's firewall and network need it.

All is pure except :func:`read_host_network`.

The kernel's tables are read from /proc: no program is run, and the parsers can be tested.
"""

import ipaddress
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

_LEAF = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)$")
_ROUTE = re.compile(r"/(\d+) (\w+) (\w+)(?: .*)?$")

# A pod has one address; the engine takes one for the gateway; /28 leaves room for other engines.
POD_PREFIX = 28
# "On link" below this length is a tunnel that takes half of the internet, not somebody's LAN.
_MIN_LAN_PREFIX = 8
# The resolver library's own limit (resolv.conf(5), MAXNS).
_MAX_RESOLVERS = 3
_STUB = IPv4Address("127.0.0.53")


@dataclass(frozen=True)
class HostNetwork:
    """``addresses``: the machine's own, on any interface. ``on_link``: prefixes it reaches without
    a gateway. ``routed``: all prefixes in its tables but the default. ``resolvers``: its name
    servers as a pod can ask them; none if they listen on the loopback only, in which case the
    engine itself asks them on the pod's behalf.
    """

    addresses: frozenset[IPv4Address]
    on_link: frozenset[IPv4Network]
    routed: frozenset[IPv4Network]
    resolvers: tuple[IPv4Address, ...]


def read_host_network(root: Path = Path("/")) -> HostNetwork:
    """Read the machine's network as it is now.

    :raises OSError: /proc can't be read.
    """
    addresses, on_link, routed = parse_fib_trie((root / "proc/net/fib_trie").read_text())
    stub = root / "run/systemd/resolve/resolv.conf"
    conf = root / "etc/resolv.conf"
    resolvers = parse_resolvers(
        conf.read_text(errors="replace") if conf.exists() else "",
        stub.read_text(errors="replace") if stub.exists() else "",
    )
    return HostNetwork(addresses, on_link, routed, resolvers)


def parse_fib_trie(
    text: str,
) -> tuple[frozenset[IPv4Address], frozenset[IPv4Network], frozenset[IPv4Network]]:
    """Return own addresses, on-link prefixes and all routed prefixes, from /proc/net/fib_trie.

    That file shows every routing table, those of policy routing included. A leaf is an address
    followed by lines ``/<length> <scope> <type>``.
    """
    addresses: set[IPv4Address] = set()
    on_link: set[IPv4Network] = set()
    routed: set[IPv4Network] = set()
    leaf: IPv4Address | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if found := _LEAF.match(stripped):
            leaf = IPv4Address(found[1])
        elif stripped.startswith(("+--", "Main:", "Local:", "Id ")):
            leaf = None
        elif leaf is not None and (found := _ROUTE.match(stripped)):
            length, scope, kind = int(found[1]), found[2], found[3]
            if kind == "LOCAL" and length == 32:
                addresses.add(leaf)
            elif kind == "UNICAST" and length > 0:
                prefix = IPv4Network((leaf, length), strict=False)
                routed.add(prefix)
                if scope == "link" and length >= _MIN_LAN_PREFIX:
                    on_link.add(prefix)
    return frozenset(addresses), frozenset(on_link), frozenset(routed)


def parse_resolvers(resolv_conf: str, behind_stub: str = "") -> tuple[IPv4Address, ...]:
    """Return the IPv4 name servers that a pod can ask, at most three.

    As Docker does, the file behind systemd-resolved's stub (127.0.0.53) is taken when the stub is
    all there is. What listens on the loopback can't be asked from a pod.
    """
    servers = _nameservers_of_resolv_conf(resolv_conf)
    if servers == [_STUB]:
        servers = _nameservers_of_resolv_conf(behind_stub)
    return tuple(server for server in servers if not server.is_loopback)[:_MAX_RESOLVERS]


def _nameservers_of_resolv_conf(resolv_conf: str) -> list[IPv4Address]:
    servers = []
    for line in resolv_conf.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "nameserver" and rest.split():
            address = _nameserver_address(rest.split()[0])
            if address is not None and address not in servers:
                servers.append(address)
    return servers


def _nameserver_address(text: str) -> IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def free_network(
    within: IPv4Network, taken: Iterable[IPv4Network], seed: str
) -> IPv4Network | None:
    """Return a /28 of ``within`` that overlaps none of ``taken``, or None.

    The search starts at a place that ``seed`` decides, so that two agents on one machine, each
    looking at the same free range, seldom choose the same network.
    """
    used = [network for network in taken if network.prefixlen > 0 and network.overlaps(within)]
    base = int(within.network_address)
    size = 2 ** (32 - POD_PREFIX)
    count = 2 ** max(0, POD_PREFIX - within.prefixlen)
    start = zlib.crc32(seed.encode()) % count
    for step in _wrapped_range(start, count):
        candidate = IPv4Network((base + step * size, POD_PREFIX))
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    return None


def _wrapped_range(start: int, count: int) -> Iterable[int]:
    yield from range(start, count)
    yield from range(start)
