"""People's own SSH keys: added, proved by a first login, removed.

A key that is added is pending. It is published for its person, so that a server accepts a login
with it, and reserves nothing: other people may add the same key. A login over SSH proves
possession; the first person whose login a server reports becomes the key's one holder, and the
pending entries of everybody else end. A pending key ends by itself after :data:`PENDING_S`.

The functions that change something work in the caller's transaction and return what to announce,
see :mod:`registry`.
"""

import base64
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

from dit4c_p2p.identity.errors import InvalidKey
from dit4c_p2p.identity.keys import fingerprint, parse_public, public_line
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.names import checked_name
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import BadRequest, Conflict, NotFound, TooMany
from dit4c_p2p.portal.keys.registry import KeyChangeKind, KeyRegistry
from dit4c_p2p.portal.models import PendingKey, Person, SshKey

PENDING_S = 24 * 3600.0
# Of one person, pending ones included: a key document stays far below its 64 KiB.
MAX_KEYS = 50
# By one person: each is told to every server that follows the keys' events.
MAX_ADDED_PER_HOUR = 100
_HOUR_S = 3600.0
_MAX_LINE_CHARS = 16 * 1024
_KEY_TYPE = re.compile(r"(?:ssh|ecdsa|sk)-[a-z0-9-]+(?:@openssh\.com)?", re.ASCII)
_DEFAULT_LABEL = "SSH key"
_EXPIRED_BY = "portal"


@dataclass(frozen=True)
class UserKey:
    """One key of a person's. ``expires_at`` is set while it is pending."""

    fingerprint: str
    label: str
    algorithm: str
    added_at: float
    last_used_at: float | None
    expires_at: float | None

    @property
    def pending(self) -> bool:
        """Whether it has not logged in yet."""
        return self.expires_at is not None


def user_name(person: str) -> PeerName:
    """The peer name of a person."""
    return PeerName(Kind.USER, person)


def openssh_fingerprint(key_fingerprint: str) -> str:
    """A fingerprint as OpenSSH prints it: ``SHA256:`` and base64 without padding."""
    raw = base64.urlsafe_b64decode(key_fingerprint + "=" * (-len(key_fingerprint) % 4))
    return "SHA256:" + base64.b64encode(raw).decode().rstrip("=")


def parse_user_key_line(text: str) -> tuple[asyncssh.SSHKey, str]:
    """A pasted line of a ``.pub`` or ``authorized_keys`` file: the key and its comment.

    :raises BadRequest: nothing, several lines, options, a private key, or no key that is accepted.
    """
    line = text.strip()
    if not line:
        raise _bad_user_key("paste the line of your public key", hint="it is in the .pub file")
    if "PRIVATE KEY" in line:
        raise _bad_user_key(
            "this is a private key: it must never leave your machine",
            hint="paste the line of the .pub file beside it, and make a new pair if you have sent "
            "this one to anybody",
        )
    if len(line) > _MAX_LINE_CHARS:
        raise _bad_user_key(
            "this is too long for a public key", hint="paste the one line of the .pub file"
        )
    if "\n" in line or "\r" in line:
        raise _bad_user_key(
            "these are several lines", hint="add one key after the other, a line each"
        )
    if not _KEY_TYPE.fullmatch(line.split()[0]):
        raise _bad_user_key(
            "this does not begin with the type of a key",
            hint="paste the line of the .pub file, such as ssh-ed25519 AAAA…, without options "
            "before it",
        )
    try:
        key = parse_public(line, security_keys=True)
    except InvalidKey as error:
        raise _bad_user_key(str(error), hint=error.hint) from None
    comment = " ".join(line.split()[2:])
    return key, comment


class UserKeys:
    """What can be done with people's keys."""

    def __init__(
        self, registry: KeyRegistry, audit: Audit, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._audit = audit
        self._clock = clock
        self._added: dict[str, deque[float]] = {}

    async def of(self, person: str) -> list[UserKey]:
        """A person's keys, the newest first; revoked ones are left out."""
        now = self._clock()
        held = [
            UserKey(
                row.fingerprint,
                row.label or _DEFAULT_LABEL,
                row.line.split()[0],
                row.published_at,
                row.seen_at,
                None,
            )
            for row in await SshKey.filter(name=str(user_name(person)), revoked_at=None)
        ]
        known = {key.fingerprint for key in held}
        pending = [
            UserKey(
                row.fingerprint,
                row.label,
                row.line.split()[0],
                row.added_at,
                None,
                row.expires_at,
            )
            for row in await PendingKey.filter(person_id=person, expires_at__gt=now)
            if row.fingerprint not in known
        ]
        return sorted(held + pending, key=lambda key: (-key.added_at, key.fingerprint))

    async def add(self, person: str, line: str, label: str = "") -> tuple[str, list[KeyEvent]]:
        """A new pending key; returns its fingerprint.

        :param label: what its person calls it; the line's comment if empty.
        :raises BadRequest: not a key, or not a name.
        :raises Conflict: the key is there already, was revoked, or has another holder; or the
            person has too many.
        :raises TooMany: the person has added too many in the last hour.
        """
        key, comment = parse_user_key_line(line)
        label = checked_name(label) or _key_label_from(comment)
        name, print_, now = user_name(person), fingerprint(key), self._clock()
        if await self._registry.check_free(name, print_) is not None:
            raise _key_there_already()
        await PendingKey.filter(person_id=person, expires_at__lte=now).delete()
        if await PendingKey.exists(person_id=person, fingerprint=print_):
            raise _key_there_already()
        if len(await self.of(person)) >= MAX_KEYS:
            raise Conflict(
                f"you have {MAX_KEYS} keys, as many as there may be", hint="remove one first"
            )
        self._count(person, now)
        await PendingKey.create(
            person_id=person,
            fingerprint=print_,
            line=public_line(key),
            label=label,
            added_at=now,
            expires_at=now + PENDING_S,
        )
        await self._audit.record_required("key.add", about=f"{name} {print_}", who=person)
        return print_, [await self._registry.record_change(name, print_, "published", by=person)]

    def _count(self, person: str, now: float) -> None:
        """:raises TooMany: see :meth:`add`."""
        for known in [one for one, times in self._added.items() if times[-1] < now - _HOUR_S]:
            del self._added[known]
        times = self._added.setdefault(person, deque(maxlen=MAX_ADDED_PER_HOUR))
        if len(times) == MAX_ADDED_PER_HOUR and times[0] > now - _HOUR_S:
            raise TooMany(
                f"you have added {MAX_ADDED_PER_HOUR} keys in an hour", hint="try again later"
            )
        times.append(now)

    async def remove(self, person: str, key_fingerprint: str, *, by: str) -> list[KeyEvent]:
        """End a key of a person's; connections that use it are cut.

        A proved key is revoked and can't come back. A pending one may be added again.

        :raises NotFound: the person has no such key in force.
        """
        name = user_name(person)
        held = await SshKey.filter(name=str(name), fingerprint=key_fingerprint, revoked_at=None)
        if held:
            return await self._registry.revoke(key_fingerprint, by=by)
        if not await PendingKey.filter(person_id=person, fingerprint=key_fingerprint).delete():
            raise NotFound("there is no such key")
        await self._audit.record_best_effort(
            "key.remove", about=f"{name} {key_fingerprint}", who=by
        )
        return [await self._registry.record_change(name, key_fingerprint, "revoked", by=by)]

    async def prove(self, person: str, key_fingerprint: str, *, by: str) -> list[KeyEvent]:
        """A login has proved that the person has the private key; again is fine.

        :param by: the peer name of the server where the login was.
        :raises NotFound: the person has no such key, pending or in force.
        :raises Conflict: somebody else has proved it before, or it was revoked.
        """
        name, now = user_name(person), self._clock()
        held = await self._registry.check_free(name, key_fingerprint)
        if held is not None:
            self._registry.seen(key_fingerprint)
            return []
        row = await PendingKey.get_or_none(
            person_id=person, fingerprint=key_fingerprint, expires_at__gt=now
        )
        if row is None:
            raise NotFound("there is no such key")
        key = parse_public(row.line, security_keys=True)
        changes = await self._registry.publish(name, key, by=by, label=row.label)
        self._registry.seen(key_fingerprint)
        for other in await PendingKey.filter(fingerprint=key_fingerprint):
            await other.delete()
            if other.person_id != person:
                changes.append(
                    await self._registry.record_change(
                        user_name(other.person_id), key_fingerprint, "revoked", by=by
                    )
                )
        return changes

    async def expire(self) -> list[KeyEvent]:
        """End the pending keys whose time is over."""
        changes = []
        for row in await PendingKey.filter(expires_at__lte=self._clock()):
            await row.delete()
            name = user_name(row.person_id)
            changes.append(
                await self._registry.record_change(name, row.fingerprint, "revoked", by=_EXPIRED_BY)
            )
        return changes

    async def account_changed(self, person: Person, *, by: str) -> list[KeyEvent]:
        """Have servers fetch a person's keys anew: the account was closed or opened."""
        in_force = people.account_in_force(person, self._clock())
        what: KeyChangeKind = "published" if in_force else "revoked"
        name = user_name(person.id)
        return [
            await self._registry.record_change(name, key.fingerprint, what, by=by)
            for key in await self.of(person.id)
        ]


def _key_label_from(comment: str) -> str:
    try:
        return checked_name(comment[:100]) or _DEFAULT_LABEL
    except BadRequest:
        return _DEFAULT_LABEL


def _key_there_already() -> Conflict:
    return Conflict("you have added this key already", field="line")


def _bad_user_key(text: str, *, hint: str = "") -> BadRequest:
    return BadRequest(text, field="line", hint=hint)
