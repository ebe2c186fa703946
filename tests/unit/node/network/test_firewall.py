"""The ruleset as text; what it does is shown from inside a pod in tests/integration/node."""

import itertools
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.node.network.firewall import EgressPolicy, firewall_ruleset, refused_prefixes

REACH = EgressPolicy(
    services=frozenset({(IPv4Address("172.17.0.1"), 8080), (IPv4Address("172.17.0.1"), 8022)}),
    resolvers=frozenset({IPv4Address("10.255.255.53")}),
    internet=True,
    private=frozenset({IPv4Network("8.8.4.0/24"), IPv4Network("93.184.216.34/32")}),
)


def test_the_same_reach_gives_the_same_text():
    assert firewall_ruleset(REACH) == firewall_ruleset(REACH)


def test_both_tables_filter_and_nothing_new_comes_in():
    text = firewall_ruleset(REACH)
    assert text.count("policy drop") == 4
    assert "table netdev dit4c" in text
    assert 'hook egress device "eth0"' in text
    inbound = text[text.index("chain input") : text.index("chain forward")]
    assert [line.strip() for line in inbound.splitlines() if "accept" in line] == [
        'iifname "lo" accept',
        "ct state established accept",
        "ct state related ip protocol icmp accept",
    ]


def test_services_are_exact_and_for_the_helpers_only():
    outbound = firewall_ruleset(REACH)
    outbound = outbound[outbound.index("chain output") : outbound.index("table netdev")]
    exact = "ip daddr . tcp dport { 172.17.0.1 . 8022, 172.17.0.1 . 8080 } accept"
    assert f"meta skuid 10001 {exact}" in outbound
    assert "ip daddr { 10.255.255.53 } meta l4proto { tcp, udp } th dport 53 accept" in outbound


def test_questions_to_name_servers_of_before_go_to_those_of_now():
    now = [IPv4Address("10.255.255.53"), IPv4Address("10.255.255.54")]
    reach = replace(REACH, resolvers=frozenset(now))
    assert "nat hook" not in firewall_ruleset(reach)
    assert "nat hook" not in firewall_ruleset(reach, now[:1])
    before = [IPv4Address(f"192.168.7.{number}") for number in (1, 2, 3)]
    text = firewall_ruleset(reach, [*before, now[0]])
    led = [line.split() for line in text.splitlines() if "dnat" in line]
    assert [(words[2], words[-1]) for words in led] == [
        ("192.168.7.1", "10.255.255.53"),
        ("192.168.7.2", "10.255.255.54"),
        ("192.168.7.3", "10.255.255.53"),
    ]
    # Who takes their place on another network is not reached.
    assert text.count("192.168.7.") == 3


def test_without_internet_services_or_resolvers_only_what_is_left_is_accepted():
    text = firewall_ruleset(EgressPolicy(frozenset(), frozenset(), False, frozenset()))
    outbound = text[text.index("chain output") :]
    assert [line.strip() for line in outbound.splitlines() if "accept" in line] == [
        'oifname "lo" accept',
        "ct state established accept",
        "ether type arp accept",
    ]
    assert "refused" not in text


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "192.0.0.192",
        "168.63.129.16",
        "127.0.0.1",
        "0.0.0.1",
        "224.0.0.251",
        "255.255.255.255",
        "203.0.113.1",
        "8.8.4.4",
        "93.184.216.34",
    ],
)
def test_row_never_the_internet(address):
    assert any(IPv4Address(address) in prefix for prefix in refused_prefixes(REACH.private))


def test_row_the_internet_is_the_rest():
    for address in ("1.1.1.1", "8.8.8.8", "172.32.0.1", "93.184.216.35", "223.255.255.1"):
        assert not any(IPv4Address(address) in prefix for prefix in refused_prefixes(REACH.private))


@given(
    st.sets(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)).map(
            lambda pair: IPv4Network(pair, strict=False)
        ),
        max_size=30,
    )
)
def test_prefixes_never_overlap_and_cover_all_given(private):
    """nft refuses a set whose intervals overlap."""
    prefixes = refused_prefixes(private)
    for first, second in itertools.pairwise(prefixes):
        assert first.broadcast_address < second.network_address
    assert all(any(given.subnet_of(prefix) for prefix in prefixes) for given in private)
