"""The machine's tables, and a free network among those in use."""

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.node.network.host_network import (
    free_network,
    parse_fib_trie,
    parse_resolvers,
    read_host_network,
)

FIB_TRIE = """\
Id 200:
  +-- 0.0.0.0/0 2 0 2
     |-- 0.0.0.0
        /1 universe UNICAST
     |-- 11.5.0.0
        /24 link UNICAST
     |-- 128.0.0.0
        /1 link UNICAST
Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 172.17.0.0/16 2 0 2
        +-- 172.17.0.0/31 1 0 0
           |-- 172.17.0.0
              /16 link UNICAST
           |-- 172.17.0.1
              /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
     |-- 203.0.113.0
        /24 universe UNICAST
     |-- 127.0.0.0
        /8 host LOCAL
"""
RANGE = IPv4Network("10.213.0.0/24")


def test_addresses_on_link_prefixes_and_routes_of_all_tables():
    addresses, on_link, routed = parse_fib_trie(FIB_TRIE)
    assert addresses == {IPv4Address("172.17.0.1")}
    assert on_link == {IPv4Network("172.17.0.0/16"), IPv4Network("11.5.0.0/24")}
    assert IPv4Network("203.0.113.0/24") in routed
    assert IPv4Network("0.0.0.0/0") not in routed


def test_half_of_the_internet_on_a_tunnel_is_no_lan():
    _, on_link, _ = parse_fib_trie(FIB_TRIE)
    assert all(prefix.prefixlen >= 8 for prefix in on_link)


def test_this_machine_can_be_read():
    machine = read_host_network()
    assert IPv4Address("127.0.0.1") in machine.addresses


def test_resolvers_that_a_pod_can_ask():
    conf = "# a comment\nnameserver 192.168.1.1\nnameserver ::1\nnameserver 9.9.9.9 # x\nsearch a\n"
    assert parse_resolvers(conf) == (IPv4Address("192.168.1.1"), IPv4Address("9.9.9.9"))
    assert parse_resolvers("nameserver 1.1.1.1\n" * 3) == (IPv4Address("1.1.1.1"),)
    assert parse_resolvers("nameserver\nnameserver x\n") == ()
    many = "".join(f"nameserver 9.9.9.{n}\n" for n in range(5))
    assert len(parse_resolvers(many)) == 3


def test_a_stub_is_looked_behind_and_other_loopback_ones_are_left_to_the_engine():
    assert parse_resolvers("nameserver 127.0.0.53\n", "nameserver 192.168.1.1\n") == (
        IPv4Address("192.168.1.1"),
    )
    assert parse_resolvers("nameserver 127.0.0.1\n", "nameserver 192.168.1.1\n") == ()


def test_a_range_that_is_full():
    taken = list(RANGE.subnets(new_prefix=28))
    assert free_network(RANGE, taken, "abc") is None
    assert free_network(RANGE, taken[:3] + taken[4:], "abc") == taken[3]


def test_a_default_route_takes_nothing():
    assert free_network(RANGE, [IPv4Network("0.0.0.0/0")], "abc") is not None


@given(
    st.sets(st.integers(0, 255).map(lambda n: IPv4Network((int(RANGE[0]) + n, 32))), max_size=10),
    st.text(max_size=10),
)
def test_what_is_found_is_free_and_of_the_range(taken, seed):
    found = free_network(RANGE, taken, seed)
    assert found is not None
    assert found.prefixlen == 28
    assert found.subnet_of(RANGE)
    assert not any(found.overlaps(network) for network in taken)
