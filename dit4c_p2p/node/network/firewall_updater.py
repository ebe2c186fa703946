"""Updates the rules of running pods when the machine's network changes.

A laptop that is carried home joins its owner's own network, with other private prefixes. The
machine's addresses, networks and name servers are therefore read every few seconds, the names of
portal and routers are resolved every minute, and changed rules are loaded into each running pod, in
one transaction (:mod:`firewall`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.errors import TransientError
from dit4c_p2p.node.network.address_events import address_events
from dit4c_p2p.node.network.egress import ServiceAddresses, egress_policy
from dit4c_p2p.node.network.firewall import EgressPolicy, firewall_ruleset
from dit4c_p2p.node.network.host_network import HostNetwork

_log = logging.getLogger(__name__)

# Reading the kernel's table takes a fraction of a millisecond.
LOOK_EVERY_S = 2.0
_TOGETHER_S = 0.02
_LOOK_UP_EVERY_S = 60.0
_AGAIN_LONGEST_S = 30.0


class FirewallUpdater:
    """Follows the machine's network while :meth:`run` runs.

    :param host_now: reads the machine's networks.
    :param renew: has each running pod's rules be those of a :class:`EgressPolicy`; raises
        :class:`TransientError` when that may have failed for one of them.
    """

    def __init__(
        self,
        config: NodeConfig,
        services: ServiceAddresses,
        host_now: Callable[[], HostNetwork],
        renew: Callable[[EgressPolicy], Awaitable[None]],
    ) -> None:
        self._config = config
        self._services = services
        self._host_now = host_now
        self._renew = renew
        # While a router is not reached, its name may mean another address by now.
        self._lost_routers: set[str] = set()
        self._news = asyncio.Event()

    def router_changed(self, name: str, *, reached: bool) -> None:
        """The agent's own connection to a router has come up or was lost.

        A router that has moved is found at its new address by the pods as soon as names are looked
        up again, and not a minute later.
        """
        if reached:
            self._lost_routers.discard(name)
        elif name not in self._lost_routers:
            self._lost_routers.add(name)
            self._news.set()

    def services_changed(self) -> None:
        """The installation has other services; their names are looked up at once."""
        self._news.set()

    def look_now(self) -> None:
        """Something of the machine's network has changed: look at once."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled. What was loaded before is not known, so all is loaded at first."""
        with address_events(self.look_now):
            await self._run()

    async def _run(self) -> None:
        machine: HostNetwork | None = None
        in_force = ""
        backoff = Backoff(LOOK_EVERY_S, _AGAIN_LONGEST_S)
        now = asyncio.get_running_loop().time
        # Without an answer a pod that runs would be cut off from what it is connected to.
        await self._services.look_up()
        looked_up_at = now()
        while True:
            pause_s = LOOK_EVERY_S
            self._news.clear()
            try:
                before, machine = machine, self._host_now()
                reach = self.reach(machine)
                if (rules := firewall_ruleset(reach)) != in_force:
                    await self._renew(reach)
                    in_force = rules
                    _log.info("pods' rules are those of the network as it is now")
                backoff.reset()
                # Last, for it may take seconds; the next look sees what it brings.
                settled = machine == before and self._services.known and not self._lost_routers
                if not settled or now() - looked_up_at > _LOOK_UP_EVERY_S:
                    before_look_up = self._services.addresses
                    await self._services.look_up()
                    looked_up_at = now()
                    if self._services.addresses != before_look_up:
                        continue
            except (TransientError, OSError) as error:
                pause_s = backoff.pause_s()
                _log.warning("pods' rules may not be those of this network yet: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._news.wait()
                # The kernel and the engine tell of one change in several steps.
                await asyncio.sleep(_TOGETHER_S)

    def reach(self, machine: HostNetwork) -> EgressPolicy:
        """Who pods may reach where the machine is, as far as names are known."""
        services = self._services
        return egress_policy(self._config, machine, services.addresses, services.own.addresses)
