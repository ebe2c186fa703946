"""The registry of published keys: holders, times, and the signed documents.

A key has one holder for ever. Publishing and revoking happen inside the caller's transaction and
return what changed; :meth:`KeyRegistry.announce` is called when it has been committed, right after
the ``async with`` and without waiting in between, so that changes are told in their order::

    async with in_transaction("portal"):
        changes = await registry.revoke(fingerprint, by="admin")
    registry.announce(changes)

A caller may not come to that: it is cancelled, or the database's answer to the commit is lost.
:meth:`KeyRegistry.run` finds what was committed and not told, and tells it in its turn.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import asyncssh
from tortoise.expressions import F

from dit4c_p2p.database import FAILURES, in_transaction
from dit4c_p2p.identity import key_documents, sshsig
from dit4c_p2p.identity.key_documents import LIFETIME_S, KeyDocument
from dit4c_p2p.identity.keys import fingerprint, parse_public, public_line
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import Conflict, NotFound
from dit4c_p2p.portal.keys import known_hosts
from dit4c_p2p.portal.models import Counter, Instance, KeyChange, Peer, PendingKey, Person, SshKey

_log = logging.getLogger(__name__)

# Serials are taken from the database by the thousand, so that reading costs no write.
_SERIAL_BLOCK = 1000
# Names that never had a key are kept apart: asking for many of them evicts nobody else's.
_MAX_DOCUMENTS = 8192
_MAX_EMPTY_DOCUMENTS = 512
# A document is replaced at its half-life, so that a copy always has that long to serve.
_REISSUE_S = LIFETIME_S // 2
_KNOWN_HOSTS = "known_hosts"
# A revoked key is refused everywhere within 5 s (security.md), whatever became of the caller.
_LOOK_EVERY_S = 3.0

T = TypeVar("T")
Watcher = Callable[[KeyEvent], None]
KeyChangeKind = Literal["published", "revoked"]


@dataclass(frozen=True)
class SignedDocument:
    """A body as served, and the portal's signature of exactly these bytes."""

    serial: int
    change: int
    issued: int
    expires: int
    body: bytes
    signature: str


class KeyRegistry:
    """The registry; all changes of keys go through it.

    :param key: the portal's private key.
    :param addresses: ``host:port`` pairs that go into ``known_hosts``, by the name of the peer.
    """

    def __init__(
        self,
        key: asyncssh.SSHKey,
        addresses: Mapping[str, Sequence[str]],
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._addresses = addresses
        self._audit = audit
        self._clock = clock
        self._watchers: set[Watcher] = set()
        self._newest: dict[str, SignedDocument] = {}
        self._full: OrderedDict[tuple[str, int], SignedDocument] = OrderedDict()
        self._empty: OrderedDict[tuple[str, int], SignedDocument] = OrderedDict()
        self._serial = self._serials_end = 0
        self._seen: dict[str, float] = {}
        self._behind = asyncio.Event()
        # The newest change that was told of, and so was every one before it.
        self.change = 0

    async def start(self) -> None:
        """Read the counters; called once, before anything else."""
        counter = await Counter.get_or_none(name="change")
        self.change = counter.value if counter else 0
        await self._reserve_serials()
        self._serial = self._serials_end - _SERIAL_BLOCK

    # ---- changing

    async def publish(
        self,
        name: PeerName,
        key: asyncssh.SSHKey,
        *,
        by: str,
        scheduler: str | None = None,
        label: str = "",
    ) -> list[KeyEvent]:
        """Bring a key into force, in the caller's transaction; whoever calls has had it proved.

        Returns no change if it is in force for this name already.

        :param scheduler: for a node, the id of the scheduler that it belongs to.
        :param label: what a person calls a key of their own.
        :raises Conflict: the key was revoked or has another holder; the node has another scheduler.
        :raises NotAudited: it can't be written down.
        """
        known = await self.check_free(name, fingerprint(key))
        peer, _ = await Peer.get_or_create(
            name=str(name), defaults={"scheduler": scheduler, "enrolled_at": self._clock()}
        )
        if peer.scheduler != scheduler:
            raise Conflict(
                f"{name} belongs to {peer.scheduler or 'no scheduler'}",
                hint="enrol the machine under another id",
            )
        if known is not None:
            return []
        await SshKey.create(
            fingerprint=fingerprint(key),
            name=str(name),
            line=public_line(key),
            published_at=self._clock(),
            label=label,
        )
        about = f"{name} {fingerprint(key)}"
        await self._audit.record_required("key.publish", who=by, about=about)
        return [await self.record_change(name, fingerprint(key), "published", by=by)]

    async def check_free(self, name: PeerName, key_fingerprint: str) -> SshKey | None:
        """Return the row of a key that is in force for ``name``; None if nobody holds the key.

        :raises Conflict: the key was revoked or has another holder.
        """
        known = await SshKey.get_or_none(fingerprint=key_fingerprint)
        if known is not None and known.name != str(name):
            raise Conflict(
                f"this key belongs to {known.name}; a key has one holder for ever",
                hint="make a new key pair",
            )
        if known is not None and known.revoked_at is not None:
            raise Conflict("this key was revoked and can't come back", hint="make a new key pair")
        return known

    async def revoke(self, key_fingerprint: str, *, by: str) -> list[KeyEvent]:
        """Put a key out of force, in the caller's transaction; no change if it is already.

        With a node's last key go those of the instances on it: the node has signed for them, and
        has them.

        :raises NotFound: no such key.
        """
        revoked = await SshKey.filter(fingerprint=key_fingerprint, revoked_at=None).update(
            revoked_at=self._clock()
        )
        key = await SshKey.get_or_none(fingerprint=key_fingerprint)
        if key is None:
            raise NotFound("there is no such key")
        if not revoked:
            return []
        await self._audit.record_best_effort(
            "key.revoke", who=by, about=f"{key.name} {key_fingerprint}"
        )
        name = PeerName.parse(key.name)
        changes = [await self.record_change(name, key_fingerprint, "revoked", by=by)]
        return changes + await self._revoke_vouched_for(name, by)

    async def revoke_all(self, name: PeerName, *, by: str) -> list[KeyEvent]:
        """Put every key of ``name`` out of force, in the caller's transaction."""
        changes: list[KeyEvent] = []
        for key in await SshKey.filter(name=str(name), revoked_at=None):
            changes += await self.revoke(key.fingerprint, by=by)
        return changes

    async def _revoke_vouched_for(self, node: PeerName, by: str) -> list[KeyEvent]:
        changes: list[KeyEvent] = []
        if node.kind is Kind.NODE and not await SshKey.exists(name=str(node), revoked_at=None):
            rows = Instance.filter(node=str(node)).exclude(state__in=list(FINAL))
            for id in await rows.values_list("id", flat=True):
                changes += await self.revoke_all(instance_name(str(id)), by=by)
        return changes

    async def record_change(
        self, name: PeerName, key_fingerprint: str, what: KeyChangeKind, *, by: str
    ) -> KeyEvent:
        """Count a change of what is published for ``name``, in the caller's transaction.

        For keys that come and go without being published or revoked here, see ``user_keys``.
        """
        number, at = await _count_up_in_registry("change", 1), self._clock()
        row = await KeyChange.create(
            change=number, name=str(name), fingerprint=key_fingerprint, what=what, by=by, at=at
        )
        return _key_event(row)

    def announce(self, changes: Iterable[KeyEvent]) -> None:
        """Tell everybody of changes that have been committed."""
        for change in changes:
            if change.change > self.change + 1:
                # One before it was not told of; :meth:`run` tells both.
                self._behind.set()
            elif change.change > self.change:
                self._tell(change)

    async def run(self) -> None:
        """Tell of committed changes that their callers did not come to announce, for ever."""
        works = True
        while True:
            self._behind.clear()
            try:
                for row in await KeyChange.filter(change__gt=self.change).order_by("change"):
                    # It may have been announced meanwhile.
                    if row.change > self.change:
                        self._tell(_key_event(row))
                works = True
            except FAILURES as error:
                _log.log(
                    logging.WARNING if works else logging.DEBUG,
                    "whether keys have changed can't be read: %s",
                    error,
                )
                works = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._behind.wait()

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Have ``callback`` called with every change; returns a function that ends it."""
        self._watchers.add(callback)
        return lambda: self._watchers.discard(callback)

    # ---- reading

    async def in_force(self, name: PeerName) -> tuple[asyncssh.SSHKey, ...]:
        """The keys in force of a peer."""
        rows = await SshKey.filter(name=str(name), revoked_at=None).order_by("published_at")
        own = name.kind is Kind.USER
        return tuple(parse_public(row.line, security_keys=own) for row in rows)

    async def holds(self, name: PeerName, key_fingerprint: str) -> bool:
        """Whether a key is in force for a peer."""
        return await SshKey.exists(fingerprint=key_fingerprint, name=str(name), revoked_at=None)

    async def scheduler_of(self, node: PeerName) -> str | None:
        """The id of the scheduler that a node belongs to."""
        peer = await Peer.get_or_none(name=str(node))
        return peer.scheduler if peer else None

    async def document(self, name: PeerName) -> SignedDocument:
        """The newest document of ``name``, the same bytes until something changes or it is old."""
        current = self._newest.get(str(name))
        if current is not None and self._serves(current):
            return current
        scheduler = await self.scheduler_of(name)
        change, (keys, ends_at) = await self._as_of_now(lambda: self._published(name))
        # An empty document of a peer whose keys were revoked is among those that strangers' made-up
        # names can't push out.
        known = bool(keys) or await SshKey.exists(name=str(name))
        serial, now = self._take_serial(), int(self._clock())
        expires = now + LIFETIME_S if ends_at is None else min(now + LIFETIME_S, int(ends_at))
        body = key_documents.compose_key_document(
            KeyDocument(name, serial, change, now, expires, keys, scheduler)
        )
        document = self._sign(str(name), serial, change, now, expires, body, known=known)
        await self._keep_serials()
        return document

    async def known_hosts(self) -> SignedDocument:
        """A file for stock OpenSSH of every peer that runs an SSH server, signed like the rest."""
        current = self._newest.get(_KNOWN_HOSTS)
        if current is not None and self._serves(current):
            return current
        change, rows = await self._as_of_now(lambda: SshKey.all().order_by("published_at"))
        serial, now = self._take_serial(), int(self._clock())
        body = known_hosts.compose_known_hosts(
            rows, self._addresses, serial, change, now, now + LIFETIME_S
        )
        expires = now + LIFETIME_S
        document = self._sign(_KNOWN_HOSTS, serial, change, now, expires, body, known=True)
        await self._keep_serials()
        return document

    def signature(self, name: PeerName | None, serial: int) -> str:
        """The signature of the body with this serial; ``None`` stands for ``known_hosts``.

        :raises NotFound: not a serial served lately.
        """
        key = (str(name) if name else _KNOWN_HOSTS, serial)
        document = self._full.get(key) or self._empty.get(key)
        if document is None:
            raise NotFound("there is no such document any more", hint="fetch the keys again")
        return document.signature

    def seen(self, key_fingerprint: str) -> None:
        """A peer has just proved that it holds this key."""
        self._seen[key_fingerprint] = self._clock()

    async def write_seen(self) -> None:
        """Write down who has been seen since the last call; if that fails, the next call does."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            async with in_transaction("portal"):
                for key_fingerprint, at in seen.items():
                    await SshKey.filter(fingerprint=key_fingerprint).update(seen_at=at)
        except FAILURES as error:
            self._seen = {**seen, **self._seen}
            _log.warning("who was seen is not written down yet: %s", error)

    # ---- inside

    async def _published(self, name: PeerName) -> tuple[tuple[asyncssh.SSHKey, ...], float | None]:
        """The keys that are served for a peer, and when they end if that is known.

        A person's are those in force and those that have not logged in yet; none while the
        account is not in force.
        """
        if name.kind is not Kind.USER:
            return await self.in_force(name), None
        now = self._clock()
        person = await Person.get_or_none(id=name.id)
        if person is None or not people.account_in_force(person, now):
            return (), None
        pending = await PendingKey.filter(person_id=name.id, expires_at__gt=now).order_by("id")
        keys = {fingerprint(key): key for key in await self.in_force(name)}
        for row in pending:
            keys.setdefault(row.fingerprint, parse_public(row.line, security_keys=True))
        return tuple(keys.values()), person.ends_at

    async def _as_of_now(self, read: Callable[[], Awaitable[T]]) -> tuple[int, T]:
        """The newest change that is told of, and what was read at no earlier time.

        What is read may be newer, but never older than the change says: that would show a key that
        was revoked as one in force.
        """
        while True:
            change = self.change
            found = await read()
            if change == self.change:
                return change, found

    def _serves(self, document: SignedDocument) -> bool:
        now = self._clock()
        fresh = 0 <= now - document.issued < _REISSUE_S and now < document.expires
        return document.change == self.change and fresh

    def _sign(
        self,
        name: str,
        serial: int,
        change: int,
        now: int,
        expires: int,
        body: bytes,
        *,
        known: bool,
    ) -> SignedDocument:
        signature = sshsig.sign(self._key, body, sshsig.KEYS_NAMESPACE)
        document = SignedDocument(serial, change, now, expires, body, signature)
        store, cap = (self._full, _MAX_DOCUMENTS) if known else (self._empty, _MAX_EMPTY_DOCUMENTS)
        self._newest[name] = document
        store[(name, serial)] = document
        while len(store) > cap:
            (old_name, old_serial), _ = store.popitem(last=False)
            if (newest := self._newest.get(old_name)) and newest.serial == old_serial:
                del self._newest[old_name]
        return document

    def _take_serial(self) -> int:
        self._serial += 1
        return self._serial

    async def _keep_serials(self) -> None:
        """Reserve the next block long before this one is used up."""
        if self._serial > self._serials_end - _SERIAL_BLOCK // 2:
            await self._reserve_serials()

    async def _reserve_serials(self) -> None:
        async with in_transaction("portal"):
            self._serials_end = await _count_up_in_registry("serial", _SERIAL_BLOCK)

    def _tell(self, change: KeyEvent) -> None:
        self.change = change.change
        _log.info("key %s of %s %s", change.fingerprint, change.name, change.what)
        for watcher in list(self._watchers):
            watcher(change)


def _key_event(row: KeyChange) -> KeyEvent:
    return KeyEvent(
        change=row.change,
        name=row.name,
        fingerprint=row.fingerprint,
        what="published" if row.what == "published" else "revoked",
        at=int(row.at),
    )


async def _count_up_in_registry(name: str, by: int) -> int:
    """Add to a counter in the current transaction and return where it stands."""
    if not await Counter.filter(name=name).update(value=F("value") + by):
        await Counter.create(name=name, value=by)
    counter = await Counter.get(name=name)
    return int(counter.value)


def instance_name(instance: str) -> PeerName:
    """The peer name of an instance."""
    return PeerName(Kind.INSTANCE, instance)
