"""Whether an instance's key, machine and cluster are reached, and since when they are not.

What schedulers tell is kept in the database too (:class:`~dit4c_p2p.portal.models.Peer`), so that
"since when" outlives the portal. A cluster whose link is lost counts as such after a moment only:
schedulers are restarted, and so are portals.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from dit4c_p2p.database import FAILURES, in_transaction
from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.messages.link import ClusterState
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.portal.live_updates import LiveUpdates
from dit4c_p2p.portal.models import Instance, Peer, SshKey

_log = logging.getLogger(__name__)

# A scheduler that is restarted is back by then.
LINK_GRACE_S = 15.0
# What a database takes in one question.
_NAMES_AT_ONCE = 500
_MAX_TROUBLE_CHARS = 200
# What a scheduler says as a rule.
_DOES_NOT_ANSWER = "it does not answer"
_FOLLOWED = (Kind.NODE, Kind.SCHEDULER, Kind.INSTANCE)


@dataclass(frozen=True)
class Contact:
    """How a node or a scheduler is reached: ``up`` or not, since when (seconds since 1970), why."""

    up: bool
    since: float
    trouble: str = ""


@dataclass(frozen=True)
class Unreachable:
    """Why an instance is not reached: ``what`` of it, since when, and a sentence's second half."""

    what: Literal["key", "machine", "cluster"]
    since: float
    why: str


class Reachability:
    """Knows it for every instance, in memory; told of every change."""

    def __init__(self, hub: LiveUpdates, *, clock: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._clock = clock
        self._contacts: dict[str, Contact] = {}
        # Fingerprints in force, and when the last one went out of force, by holder.
        self._keys: dict[str, set[str]] = {}
        self._cut: dict[str, float] = {}
        self._links: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._started = clock()

    async def start(self) -> None:
        """Read what was known before; no scheduler is connected yet."""
        for peer in await Peer.exclude(reached=None):
            self._contacts[peer.name] = Contact(
                bool(peer.reached), peer.reached_since or self._clock(), peer.trouble
            )
        lasting = [str(PeerName(Kind.INSTANCE, id)) for id in await _unfinished_instance_ids()]
        await self._read_keys(
            SshKey.filter(Q(name__startswith="node-") | Q(name__startswith="scheduler-"))
        )
        for first in range(0, len(lasting), _NAMES_AT_ONCE):
            names = lasting[first : first + _NAMES_AT_ONCE]
            await self._read_keys(SshKey.filter(name__in=names))
        for name in [name for name in self._contacts if name.startswith("scheduler-")]:
            self.link_lost(PeerName.parse(name).id)

    async def stop(self) -> None:
        """End what waits."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_keys(self, rows: QuerySet[SshKey]) -> None:
        for key in await rows.only("name", "fingerprint", "revoked_at"):
            keys = self._keys.setdefault(key.name, set())
            if key.revoked_at is None:
                keys.add(key.fingerprint)
            else:
                self._cut[key.name] = max(self._cut.get(key.name, 0.0), key.revoked_at)

    # ---- asked

    def of(self, instance: Instance) -> Unreachable | None:
        """Why an instance is not reached, or None; of one without a machine, only its cluster."""
        if instance.state in FINAL:
            return None
        node, scheduler = instance.node, str(PeerName(Kind.SCHEDULER, instance.scheduler))
        if node is not None and (since := self.revoked_since(node)) is not None:
            return Unreachable("machine", since, f"the key of its machine ({node}) was revoked")
        if (since := self.revoked_since(scheduler)) is not None:
            why = f"the key of its cluster ({scheduler}) was revoked"
            return Unreachable("cluster", since, why)
        own = str(PeerName(Kind.INSTANCE, instance.id))
        # The key of one that goes is revoked with it.
        going = instance.state == State.DISCARDING or instance.discard_asked_at is not None
        since = self.revoked_since(own)
        # One that goes on at another machine gets another key there.
        if not going and since is not None and since > (instance.moved_at or 0.0):
            return Unreachable("key", since, "its key was revoked")
        if (since := self._unconnected_since(instance.scheduler)) is not None:
            return Unreachable("cluster", since, f"its cluster ({scheduler}) is not connected")
        contact = None if node is None else self._contacts.get(node)
        if contact is not None and not contact.up:
            why = f"its machine ({node}) does not answer"
            if contact.trouble not in ("", _DOES_NOT_ANSWER):
                why = f"its machine ({node}): {contact.trouble}"
            return Unreachable("machine", contact.since, why)
        return None

    def _unconnected_since(self, scheduler: str) -> float | None:
        contact = self._contacts.get(str(PeerName(Kind.SCHEDULER, scheduler)))
        if contact is not None:
            return None if contact.up else contact.since
        never = scheduler not in self._links and self._clock() - self._started > LINK_GRACE_S
        return self._started if never else None

    def contact(self, peer: str) -> Contact | None:
        """How a node or scheduler was reached last; None if nothing is known."""
        return self._contacts.get(peer)

    def revoked_since(self, name: str) -> float | None:
        """Since when a holder has no key in force any more; None if it has, or never had one."""
        return None if self._keys.get(name) else self._cut.get(name)

    # ---- told

    def key_changed(self, event: KeyEvent) -> None:
        """A key was published or revoked; a watcher of the registry."""
        if not _is_followed_peer(event.name):
            return
        keys = self._keys.setdefault(event.name, set())
        before = self.revoked_since(event.name)
        if event.what == "published":
            keys.add(event.fingerprint)
        else:
            keys.discard(event.fingerprint)
            self._cut[event.name] = float(event.at)
        if before != self.revoked_since(event.name):
            self._later(f"tell of {event.name}", self._tell_of(event.name))

    def link_opened(self, scheduler: str) -> None:
        """A scheduler is connected."""
        self._links.add(scheduler)
        name = str(PeerName(Kind.SCHEDULER, scheduler))
        contact = self._contacts.get(name)
        if contact is None or not contact.up:
            self._later(f"link of {name}", self._set(name, Contact(True, self._clock())))

    def link_lost(self, scheduler: str) -> None:
        """A scheduler is not connected any more."""
        self._links.discard(scheduler)
        name = str(PeerName(Kind.SCHEDULER, scheduler))
        self._later(f"link of {name}", self._lose(name, scheduler, self._clock()))

    async def cluster_told(self, scheduler: str, cluster: ClusterState) -> None:
        """A scheduler says which nodes it reaches; of others' nodes it is not believed."""
        own = {peer.name for peer in await Peer.filter(scheduler=scheduler).only("name")}
        now = self._clock()
        for node in own.intersection(cluster.nodes_up):
            if not ((known := self._contacts.get(node)) and known.up):
                await self._set(node, Contact(True, now))
        for node in own.intersection(cluster.nodes_down):
            known = self._contacts.get(node)
            trouble = cluster.troubles.get(node, "")[:_MAX_TROUBLE_CHARS]
            if known is not None and not known.up:
                since = known.since
            else:
                since = min(now, max(0.0, cluster.heard.get(node, now)))
            contact = Contact(False, since, trouble)
            if contact != known:
                await self._set(node, contact)

    # ---- inside

    async def _lose(self, name: str, scheduler: str, since: float) -> None:
        await asyncio.sleep(LINK_GRACE_S)
        contact = self._contacts.get(name)
        if scheduler not in self._links and (contact is None or contact.up):
            await self._set(name, Contact(False, since))

    async def _set(self, name: str, contact: Contact) -> None:
        before = self._contacts.get(name)
        self._contacts[name] = contact
        if before is None or before.up != contact.up:
            _log.info("%s is %s", name, "reached" if contact.up else "not reached any more")
        try:
            async with in_transaction("portal"):
                await Peer.filter(name=name).update(
                    reached=contact.up, reached_since=contact.since, trouble=contact.trouble
                )
        except FAILURES as error:
            _log.warning("since when %s is reached is not written down: %s", name, error)
        await self._tell_of(name)

    async def _tell_of(self, name: str) -> None:
        """Have the owners of what depends on a peer see it as it is now."""
        peer = PeerName.parse(name)
        match peer.kind:
            case Kind.NODE:
                rows = Instance.filter(node=name)
            case Kind.SCHEDULER:
                rows = Instance.filter(scheduler=peer.id)
            case _:
                rows = Instance.filter(id=peer.id)
        try:
            found = await rows.exclude(state__in=list(FINAL)).values_list("id", "owner_id")
        except FAILURES as error:
            _log.warning("who is to hear of %s can't be read: %s", name, error)
            return
        if not found and peer.kind is Kind.INSTANCE:
            # It is gone for good, and so is what is known of it.
            self._keys.pop(name, None)
            self._cut.pop(name, None)
        for id, owner in found:
            self._hub.tell(f"person:{owner}", str(id))

    def _later(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """One task for each name; a newer one takes its place."""
        if (before := self._tasks.pop(name, None)) is not None:
            before.cancel()
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._forget(name, done))

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]


async def _unfinished_instance_ids() -> list[str]:
    ids = await Instance.exclude(state__in=list(FINAL)).values_list("id", flat=True)
    return [str(id) for id in ids]


def _is_followed_peer(name: str) -> bool:
    try:
        return PeerName.parse(name).kind in _FOLLOWED
    except InvalidName:
        return False
