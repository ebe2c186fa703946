"""Where this machine's engine may be asked to fetch images from, by the addresses behind a name.

The engine sits inside the owner's network, and whoever names an image has it connect wherever the
name leads. Names and addresses of this machine and of private networks are closed unless the owner
opens them. The engine looks the name up again itself, so a name server that answers otherwise a
moment later, and a registry that sends the engine elsewhere, are not seen here: an owner who does
not trust the portal's admins lists the registries that may be used.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dit4c_p2p.node.errors import PolicyRefused, RegistryError
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.oci.reference import DOCKER_HUB

Address = IPv4Address | IPv6Address
LookUp = Callable[[str], Awaitable[Sequence[Address]]]

_LOOK_UP_S = 10.0
# Reserved or used for names inside a network (RFC 6761, 6762, 8375, 9476, and what is common).
_LOCAL_ENDINGS = (
    *("localhost", "local", "internal", "intranet", "private", "corp", "home", "lan"),
    *("home.arpa", "localdomain", "test", "invalid", "onion"),
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052


async def look_up_registry_host(host: str) -> Sequence[Address]:
    """All addresses of a host.

    :raises OSError: nothing is known by its name.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_LOOK_UP_S):
        answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]


async def check_registry(
    policy: Policy,
    registry: str,
    private: Iterable[IPv4Network] = (),
    look_up: LookUp = look_up_registry_host,
) -> None:
    """Whether images may be fetched from ``registry``, a host with its port if there is one.

    :param private: the networks that this machine is on, and its own addresses.
    :raises PolicyRefused: it is inside the owner's network.
    :raises RegistryError: nothing is known by its name.
    """
    if policy.local_registries is None or registry == DOCKER_HUB:
        return
    if registry in policy.registries or registry in policy.local_registries:
        return
    host = _registry_host(registry)
    if is_local_name(host):
        raise _registry_closed(registry)
    try:
        addresses = await look_up(host)
    except (OSError, TimeoutError, UnicodeError):
        raise RegistryError(
            f"the registry {registry} does not serve the image: nothing is known by its name",
            hint="try again later",
        ) from None
    networks = tuple(private)
    if any(is_local_address(address, networks) for address in addresses):
        raise _registry_closed(registry)


def is_local_name(host: str) -> bool:
    """Whether a name is one of this machine or of a network's own, whatever it leads to."""
    name = host.rstrip(".").lower()
    if _registry_address(name) is not None:
        return False
    return "." not in name or name.endswith(tuple(f".{ending}" for ending in _LOCAL_ENDINGS))


def is_local_address(address: Address, private: Iterable[IPv4Network] = ()) -> bool:
    """Whether an address is not on the public internet, or is in one of ``private``."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_local_address(inner, private)
        return not address.is_global or address.is_multicast
    if not address.is_global or address.is_multicast or address.is_reserved:
        return True
    return any(address in network for network in private)


def _registry_host(registry: str) -> str:
    if registry.startswith("["):
        return registry[1:].partition("]")[0]
    return registry.rpartition(":")[0] if ":" in registry else registry


def _registry_address(text: str) -> Address | None:
    """An address in any form that a resolver takes: ``127.1``, ``0x7f000001``, ``2130706433``."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(text))
        except OSError:
            return None


def _registry_closed(registry: str) -> PolicyRefused:
    return PolicyRefused(
        f"the owner of this node does not allow images from {registry}: it is an address of the "
        "machine's own or of its network",
        hint="its owner can open it (policy.local_registries)",
    )
