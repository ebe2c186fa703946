"""What the pods of this node may reach now, as an :class:`EgressPolicy`."""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from yarl import URL

from dit4c_p2p.identity.portal_client import split_address
from dit4c_p2p.messages.ports import SSH_PORT
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.network.firewall import EgressPolicy
from dit4c_p2p.node.network.host_network import HostNetwork
from dit4c_p2p.node.network.own_address import OwnAddresses

_log = logging.getLogger(__name__)

_LOOKUP_S = 5.0
# Name servers answer in turns, and a pod stays connected to what it was told before.
_KEPT_S = 3600.0

Service = tuple[IPv4Address, int]


def resolvers_for_pods(config: NodeConfig, host: HostNetwork) -> tuple[IPv4Address, ...]:
    """Return the name servers of pods; empty if the engine asks the machine's own for them."""
    if config.pods.resolvers:
        return tuple(IPv4Address(text) for text in config.pods.resolvers)
    return host.resolvers


def egress_policy(
    config: NodeConfig,
    host: HostNetwork,
    services: frozenset[Service],
    own: frozenset[IPv4Address] = frozenset(),
) -> EgressPolicy:
    """Return the egress policy of pods.

    :param own: the public addresses of the owner's network, see ``own_address``.
    """
    private = {IPv4Network((int(address), 32)) for address in host.addresses | own}
    return EgressPolicy(
        services=services,
        resolvers=frozenset(resolvers_for_pods(config, host)),
        internet=config.policy.internet,
        private=frozenset(
            private | host.on_link | {*config.policy.refuse, config.pods.network_range}
        ),
    )


def service_addresses(config: NodeConfig) -> list[tuple[str, int]]:
    """Return host and port of every service of the installation that a pod connects to."""
    portal = config.portal_for_pods()
    pairs = [split_address(text) for text in portal.connect]
    if not pairs:
        pairs = [_port_of_url(portal.url)]
    images = config.image_server_for_pods()
    if images is not None:
        pairs += [split_address(text) for text in images.connect] or [_port_of_url(images.url)]
    for router in config.routers_for_pods():
        pairs += [split_address(text) for text in (*router.ssh, *router.http)]
    for server in config.fileservers_for_pods():
        pairs += [split_address(text) for text in server.connect] or [
            _sftp_service_address(server.url)
        ]
    return sorted(set(pairs))


def _sftp_service_address(url: str) -> tuple[str, int]:
    parsed = URL(url)
    return parsed.host or "", parsed.explicit_port or SSH_PORT


def _port_of_url(text: str) -> tuple[str, int]:
    url = URL(text)
    return url.host or "", url.port or 443


class ServiceAddresses:
    """The IPv4 addresses and ports of the installation's services, by what name servers say.

    An address counts for an hour after it was answered last. While a name can't be looked up, what
    was answered before goes on to count. A service that the installation does not have any more
    does not count from the next look-up on.

    :param clock: seconds, of any origin.
    """

    def __init__(self, config: NodeConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._config = config
        self.own = OwnAddresses(config.folder / "own-addresses.json")
        # When each was answered last.
        self._answered: dict[tuple[str, int], dict[Service, float]] = {}

    @property
    def addresses(self) -> frozenset[Service]:
        """The addresses that are known."""
        return frozenset(service for known in self._answered.values() for service in known)

    @property
    def known(self) -> bool:
        """Whether every name has been resolved."""
        return self._answered.keys() >= set(service_addresses(self._config))

    async def look_up(self) -> None:
        """Resolve all names again."""
        pairs = service_addresses(self._config)
        answers = await asyncio.gather(*(_resolve_service(*pair) for pair in pairs))
        now = self._clock()
        for pair in self._answered.keys() - set(pairs):
            del self._answered[pair]
        for pair, found in zip(pairs, answers, strict=True):
            if found is not None:
                known = self._answered.get(pair, {}) | dict.fromkeys(found, now)
                self._answered[pair] = {
                    service: at for service, at in known.items() if now - at < _KEPT_S
                }


async def _resolve_service(host: str, port: int) -> set[Service] | None:
    """The IPv4 addresses of a host; loopback ones are left out, they are the pod's own.

    None: its name can't be looked up.
    """
    try:
        found = [ipaddress.ip_address(host)]
    except ValueError:
        answers = await _look_up_service(host)
        if answers is None:
            return None
        found = answers
    return {
        (address, port)
        for address in found
        if isinstance(address, IPv4Address) and not address.is_loopback
    }


async def _look_up_service(host: str) -> list[IPv4Address | ipaddress.IPv6Address] | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_S):
            answers = await loop.getaddrinfo(host, None, type=1)
    except (OSError, TimeoutError) as error:
        _log.warning("%s can't be looked up, and pods may not reach it: %s", host, error)
        return None
    return [ipaddress.ip_address(answer[4][0]) for answer in answers]
