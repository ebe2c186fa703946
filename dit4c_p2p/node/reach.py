"""Who the pods of this node may reach now: the configuration and the machine → :class:`Reach`."""

import asyncio
import ipaddress
import logging
from ipaddress import IPv4Address, IPv4Network

from yarl import URL

from dit4c_p2p.identity.portal_client import split_address
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.firewall import Reach
from dit4c_p2p.node.host import HostNetwork

_log = logging.getLogger(__name__)

_LOOKUP_S = 5.0


def resolvers_for_pods(config: NodeConfig, host: HostNetwork) -> tuple[IPv4Address, ...]:
    """The name servers pods are given; none: the engine asks the machine's own on their behalf."""
    if config.resolvers:
        return tuple(IPv4Address(text) for text in config.resolvers)
    return host.resolvers


async def reach_of(config: NodeConfig, host: HostNetwork) -> Reach:
    """Look up the services' names, if they are names, and put everything together."""
    services: set[tuple[IPv4Address, int]] = set()
    for found in await asyncio.gather(*(_resolve(*pair) for pair in service_addresses(config))):
        services |= found
    private = {IPv4Network((int(address), 32)) for address in host.addresses}
    return Reach(
        services=frozenset(services),
        resolvers=frozenset(resolvers_for_pods(config, host)),
        internet=config.policy.internet,
        private=frozenset(private | host.on_link | {config.network_range}),
    )


def service_addresses(config: NodeConfig) -> list[tuple[str, int]]:
    """Host and port of everything of the installation that a pod connects to."""
    portal = config.portal_for_pods()
    pairs = [split_address(text) for text in portal.connect]
    if not pairs:
        url = URL(portal.url)
        pairs = [(url.host or "", url.port or 443)]
    for router in config.routers_for_pods():
        pairs += [split_address(text) for text in (*router.ssh, *router.http)]
    return sorted(set(pairs))


async def _resolve(host: str, port: int) -> set[tuple[IPv4Address, int]]:
    """The IPv4 addresses of a host; loopback ones are left out, they are the pod's own."""
    try:
        found = [ipaddress.ip_address(host)]
    except ValueError:
        found = await _look_up(host)
    return {
        (address, port)
        for address in found
        if isinstance(address, IPv4Address) and not address.is_loopback
    }


async def _look_up(host: str) -> list[IPv4Address | ipaddress.IPv6Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_S):
            answers = await loop.getaddrinfo(host, None, type=1)
    except (OSError, TimeoutError) as error:
        _log.warning("pods won't reach %s: its address can't be looked up: %s", host, error)
        return []
    return [ipaddress.ip_address(answer[4][0]) for answer in answers]
