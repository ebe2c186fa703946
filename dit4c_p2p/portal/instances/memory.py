"""The memory that instances use, as their machines tell; kept in the portal's memory only."""

from collections.abc import Mapping
from dataclasses import dataclass

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import MemoryUse
from dit4c_p2p.portal.live_updates import MEMORY, LiveUpdates
from dit4c_p2p.portal.models import Instance

# No machine has room for more.
_MAX_APPS = 1000
# What every database and JSON reader takes for a whole number.
_MAX_NUMBER = 2**53


@dataclass(frozen=True)
class Memory:
    """Bytes used, and what may be used at the most."""

    used: int
    limit: int


class MemoryTable:
    """What each machine last said of the instances that run there."""

    def __init__(self, hub: LiveUpdates) -> None:
        self._hub = hub
        # By the scheduler that told and the machine's peer name.
        self._machines: dict[tuple[str, str], Mapping[str, Memory]] = {}

    def of(self, instance: Instance) -> Memory | None:
        """What an instance uses; None where it is not known or does not run."""
        if instance.state != State.RUNNING or instance.node is None:
            return None
        return self._machines.get((instance.scheduler, instance.node), {}).get(instance.id)

    async def take(self, scheduler: str, told: MemoryUse) -> None:
        """Note what a scheduler tells of its own instances on one machine; the rest is dropped."""
        ids = list(told.used)[:_MAX_APPS]
        here = Instance.filter(id__in=ids, scheduler=scheduler, node=told.node)
        owners = dict(await here.values_list("id", "owner_id"))
        key = (scheduler, told.node)
        before = self._machines.get(key, {})
        now = {
            id: Memory(_within(told.used[id]), _within(told.limit)) for id in ids if id in owners
        }
        if now:
            self._machines[key] = now
        else:
            self._machines.pop(key, None)
        for id, memory in now.items():
            if before.get(id) != memory:
                self._hub.tell(f"person:{owners[id]}", MEMORY + id)


def _within(number: int) -> int:
    return max(0, min(number, _MAX_NUMBER))
