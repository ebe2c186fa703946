"""A pod's nftables rules: a pure function from an egress policy to the text for ``nft -f -``.

The infra container loads them before anything else starts in the pod's network namespace; only it
has NET_ADMIN. Two tables say the same, one after the other:

- ``inet dit4c``: what sockets send and receive. New connections come from inside only. What the pod
  needs of the installation may be reached by the helpers' user. IPv6 is dropped whole.
- ``netdev dit4c``: what leaves by the interface, whoever made it. A raw packet socket goes past the
  first table, and no container of a pod has NET_RAW either.

Docker's own ``ip nat`` table in the namespace stays: its DNS at 127.0.0.11 depends on it.

A machine that moves to another network has other name servers there, while the engine goes on to
ask those that a pod was made with. The rules lead these questions to the ones of now.
"""

import ipaddress
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from dit4c_p2p.messages.pod import HELPER_UID

INTERFACE = "eth0"

# Never the public internet (IANA's special-purpose registry, RFC 6890), and one exception to it.
_NOT_PUBLIC = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Tailscale; Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # TEST-NET-1
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # TEST-NET-2
        "203.0.113.0/24",  # TEST-NET-3
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "168.63.129.16/32",  # Azure's metadata, a public address that is not
    )
)


@dataclass(frozen=True)
class EgressPolicy:
    """Destinations that a pod may reach.

    ``services``: exact addresses and TCP ports of portal and routers. ``resolvers``: name servers,
    port 53. ``internet``: public addresses, except those in ``private``: the machine's own
    addresses, the networks it is on, and those of other pods.
    """

    services: frozenset[tuple[IPv4Address, int]]
    resolvers: frozenset[IPv4Address]
    internet: bool
    private: frozenset[IPv4Network]


def refused_prefixes(private: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Every prefix that is not the public internet, sorted, none overlapping another."""
    return sorted(ipaddress.collapse_addresses([*_NOT_PUBLIC, *private]))


def firewall_ruleset(reach: EgressPolicy, given: Sequence[IPv4Address] = ()) -> str:
    """Return the rules; the same arguments give the same text.

    :param given: the name servers that the pod was made with; none: those of now.
    """
    prefixes = ", ".join(str(prefix) for prefix in refused_prefixes(reach.private))
    services = ", ".join(f"{address} . {port}" for address, port in sorted(reach.services))
    resolvers = ", ".join(str(address) for address in sorted(reach.resolvers))
    private_set = (
        f"  set refused {{ type ipv4_addr; flags interval; elements = {{ {prefixes} }} }}"
        if reach.internet
        else ""
    )
    to_services = f"ip daddr . tcp dport {{ {services} }} accept" if services else ""
    to_resolvers = (
        f"ip daddr {{ {resolvers} }} meta l4proto {{ tcp, udp }} th dport 53 accept"
        if resolvers
        else ""
    )
    to_internet = "ip daddr != @refused accept" if reach.internet else ""
    lines = [
        "table inet dit4c {",
        private_set,
        "  chain input {",
        "    type filter hook input priority filter; policy drop;",
        '    iifname "lo" accept',
        "    ct state established accept",
        "    ct state related ip protocol icmp accept",
        "    counter",
        "  }",
        "  chain forward {",
        "    type filter hook forward priority filter; policy drop;",
        "  }",
        *_name_servers_led_on(given, reach.resolvers),
        "  chain output {",
        "    type filter hook output priority filter; policy drop;",
        '    oifname "lo" accept',
        "    meta nfproto ipv6 counter drop",
        "    ct state established accept",
        f"    meta skuid {HELPER_UID} {to_services}" if to_services else "",
        f"    {to_resolvers}" if to_resolvers else "",
        f"    {to_internet}" if to_internet else "",
        # An answer at once is kinder to programs than silence; it stays inside the pod.
        "    counter reject with icmpx admin-prohibited",
        "  }",
        "}",
        "table netdev dit4c {",
        private_set,
        "  chain egress {",
        f'    type filter hook egress device "{INTERFACE}" priority filter; policy drop;',
        "    ether type arp accept",
        f"    {to_services}" if to_services else "",
        f"    {to_resolvers}" if to_resolvers else "",
        f"    {to_internet}" if to_internet else "",
        "    counter",
        "  }",
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _name_servers_led_on(given: Sequence[IPv4Address], now: frozenset[IPv4Address]) -> list[str]:
    """What is for a name server of before goes to one of now, ahead of all that filters."""
    gone = [address for address in given if address not in now]
    if not gone or not now:
        return []
    return [
        "  chain names {",
        "    type nat hook output priority -100;",
        *(
            f"    ip daddr {old} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {new}"
            for old, new in zip(gone, itertools.cycle(sorted(now)), strict=False)
        ),
        "  }",
    ]


def replacing_ruleset(rules: str) -> str:
    """``rules`` preceded by what takes away those of before; ``nft`` does it in one transaction."""
    tables = ("inet dit4c", "netdev dit4c")
    # An empty declaration makes the table if it is not there, so that deleting it can't fail.
    return "".join(f"table {name} {{}}\ndelete table {name}\n" for name in tables) + rules
