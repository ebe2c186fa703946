"""What an engine is not asked to connect to, whatever name leads there."""

from ipaddress import IPv4Network, ip_address

import pytest

from dit4c_p2p.node.errors import PolicyRefused, RegistryError
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.node.owner.registries import check_registry, look_up_registry_host

ANSWERS = {
    "registry.example.org": ["93.184.216.34", "2606:2800:220:1::1"],
    "one-of-two.example.org": ["93.184.216.34", "10.0.0.5"],
    "rebound.example.org": ["127.0.0.1"],
    "metadata.example.org": ["169.254.169.254"],
    "cgnat.example.org": ["100.64.1.1"],
    "mapped.example.org": ["::ffff:192.168.1.1"],
    "nat64.example.org": ["64:ff9b::a00:1"],
    "sixtofour.example.org": ["2002:c0a8:101::1"],
    "unique.example.org": ["fd00::1"],
    "linklocal.example.org": ["fe80::1"],
    "loop6.example.org": ["::1"],
    "nothing.example.org": ["0.0.0.0"],
    "campus.example.org": ["11.5.0.9"],
    "printer.lan": ["93.184.216.34"],
}


async def answered(host):
    if (found := ANSWERS.get(host)) is None:
        raise OSError("no such host")
    return [ip_address(text) for text in found]


async def check(registry, **policy):
    await check_registry(Policy(**policy), registry, [IPv4Network("11.5.0.0/16")], answered)


async def test_the_public_internet_is_open():
    await check("registry.example.org")
    await check("registry.example.org:5000")
    await check("docker.io")


@pytest.mark.parametrize("host", [one for one in ANSWERS if one != "registry.example.org"])
async def test_what_is_inside_is_closed_by_name(host):
    for registry in (host, f"{host}:5000"):
        with pytest.raises(PolicyRefused, match="the machine's own or of its network"):
            await check(registry)


@pytest.mark.parametrize(
    "registry",
    [
        *("localhost", "localhost:5000", "localhost.:5000", "a.localhost:80", "nas:5000"),
        *("127.0.0.1:5000", "127.1:5000", "2130706433:5000", "0x7f.1:5000", "0177.0.0.1:5000"),
        *("10.0.0.1", "192.168.1.1:443", "172.17.0.1:5000", "169.254.169.254", "0.0.0.0:5000"),
        *("224.0.0.1", "255.255.255.255:80", "router.home.arpa", "x.internal", "x.local:5000"),
    ],
)
async def test_what_is_inside_is_closed_by_address(registry):
    """As the machine's own resolver takes it."""
    with pytest.raises(PolicyRefused):
        await check_registry(Policy(), registry, (), look_up_registry_host)


async def test_the_owner_opens_it():
    await check("nas:5000", local_registries=("nas:5000",))
    await check("nas:5000", registries=("nas:5000",))
    await check("nas:5000", local_registries=None)
    with pytest.raises(PolicyRefused):
        await check("nas:5001", local_registries=("nas:5000",))


async def test_a_name_that_is_not_known():
    with pytest.raises(RegistryError, match="nothing is known by its name"):
        await check("unknown.example.org")
