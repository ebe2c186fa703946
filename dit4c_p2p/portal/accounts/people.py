"""Accounts of people, and the one-time links that log them in.

An account is in force until it is disabled or its end date has come. Its instances go on then; only
the person can't log in. At least one admin stays in force without an end date.
"""

import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from msgspec import UNSET, UnsetType
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.portal.accounts.limits import KEEP_LIMITS, LimitsChange
from dit4c_p2p.portal.accounts.names import checked_id, checked_name, composed_name, id_from
from dit4c_p2p.portal.errors import AccountClosed, BadRequest, Conflict, NotFound
from dit4c_p2p.portal.models import (
    ApiToken,
    DeviceCode,
    GroupMember,
    ImageSecret,
    ImageShare,
    LoginLink,
    OAuthCode,
    OAuthToken,
    OwnerConsent,
    Passkey,
    Person,
    PersonIdentity,
    Session,
)
from dit4c_p2p.portal.opaque_tokens import digest, new_token

_log = logging.getLogger(__name__)

_FREE_IDS_TRIED = 50
# 1 January 2200: later is a mistake, and far later is no date.
MAX_END = 7_258_118_400.0
_WHERE_IDS_ARE = "everybody's id is on the page People"

# What a deleted account's row is called; its id stays in the audit log.
DELETED_NAME = "Deleted account"

State = Literal["active", "invited", "disabled", "ended"]


@dataclass(frozen=True)
class Caller:
    """Whoever is asking.

    :ivar scopes: of the API token that they ask with.
    :ivar token: the token's digest; both are empty for a browser's session.
    """

    id: str
    name: str
    is_admin: bool
    scopes: frozenset[str] = frozenset()
    token: str = ""


@dataclass(frozen=True)
class AccountChange:
    """A change of an account; UNSET fields stay. ``ends_at`` None means no end date."""

    name: str | UnsetType = UNSET
    ends_at: float | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    is_admin: bool | UnsetType = UNSET
    limits: LimitsChange = KEEP_LIMITS

    @property
    def shuts_out(self) -> bool:
        """Whether the person loses what only somebody else can give back."""
        return self.disabled is True or self.is_admin is False


def caller_of_person(person: Person) -> Caller:
    """Return a person as a :class:`Caller`."""
    return Caller(person.id, person.name, person.is_admin)


def account_in_force(person: Person, now: float) -> bool:
    """Whether the account's person may log in."""
    return person.disabled_at is None and (person.ends_at is None or person.ends_at > now)


def account_state(person: Person, now: float) -> State:
    """Return the account's state in a word; ``invited`` means never seen yet."""
    if person.disabled_at is not None:
        return "disabled"
    if not account_in_force(person, now):
        return "ended"
    return "active" if person.seen_at is not None else "invited"


def search_people(
    text: str = "", state: State | UnsetType = UNSET, *, now: float
) -> QuerySet[Person]:
    """Return accounts with ``text`` in their name or id, in this state (:func:`account_state`)."""
    rows = Person.filter(deleted_at=None)
    if text:
        wanted = composed_name(text)
        rows = rows.filter(Q(name__icontains=wanted) | Q(id__icontains=wanted))
    if state is UNSET:
        return rows
    if state == "disabled":
        return rows.exclude(disabled_at=None)
    rows = rows.filter(disabled_at=None)
    if state == "ended":
        return rows.filter(ends_at__lte=now)
    rows = rows.filter(Q(ends_at=None) | Q(ends_at__gt=now))
    return rows.filter(seen_at=None) if state == "invited" else rows.exclude(seen_at=None)


def check_account_in_force(person: Person, now: float) -> None:
    """:raises AccountClosed: the account is disabled, or its end has come."""
    if person.disabled_at is not None:
        raise AccountClosed(
            f"the account {person.id} is disabled",
            hint="ask an admin of this installation; what you have started goes on meanwhile",
        )
    if person.ends_at is not None and person.ends_at <= now:
        day = datetime.fromtimestamp(person.ends_at, UTC)
        raise AccountClosed(
            f"the account {person.id} ended on {day:%-d %B %Y, %H:%M} UTC",
            hint="ask an admin of this installation for a later end; what you have started goes on "
            "meanwhile",
        )


async def get_person(id: str) -> Person:
    """One account.

    :raises NotFound: there is none with this id.
    """
    person = await Person.get_or_none(id=id, deleted_at=None)
    if person is None:
        raise NotFound("there is no such person", hint=_WHERE_IDS_ARE)
    return person


async def ensure_person(person: str, *, name: str, is_admin: bool, now: float) -> None:
    """Create the account if it does not exist.

    :raises BadRequest: the text is no id.
    """
    checked_id(person)
    async with in_transaction("portal"):
        await Person.get_or_create(
            id=person, defaults={"name": name, "is_admin": is_admin, "created_at": now}
        )


async def create_person(
    name: str,
    *,
    id: str = "",
    is_admin: bool = False,
    ends_at: float | None = None,
    by: str,
    now: float,
) -> Person:
    """A new account, in the caller's transaction.

    :param id: made from the name if empty.
    :raises BadRequest: not a name, not an id, or an end that is not to come.
    :raises Conflict: the id is taken.
    """
    name = checked_name(name, required=True)
    _check_account_end(ends_at, now)
    if id:
        checked_id(id)
        if await Person.exists(id=id):
            raise Conflict(
                f"there is a person called {id} already", field="id", hint="choose another id"
            )
    else:
        id = await _free_person_id(name)
    person = await Person.create(
        id=id, name=name, is_admin=is_admin, ends_at=ends_at, created_at=now
    )
    as_what = " as an admin" if is_admin else ""
    once_committed(_log.info, "person %s: invited by %s%s", id, by, as_what)
    return person


async def change_account(id: str, wanted: AccountChange, *, by: str, now: float) -> Person:
    """Change an account; disabling it ends its sessions, tokens and links for good.

    :raises NotFound: no such person.
    :raises BadRequest: not a name, or an end that is not to come.
    :raises Conflict: the last admin would be gone.
    """
    async with in_transaction("portal"):
        # Two admins who disable each other at once have to see one another.
        await _lasting_admins().select_for_update()
        person = await get_person(id)
        if wanted.name is not UNSET:
            person.name = checked_name(wanted.name, required=True)
        if wanted.ends_at is not UNSET:
            _check_account_end(wanted.ends_at, now)
            person.ends_at = wanted.ends_at
        if wanted.disabled is True and person.disabled_at is None:
            person.disabled_at = now
            await end_person_access(id, now=now)
            once_committed(_log.info, "person %s: disabled by %s", id, by)
        elif wanted.disabled is False and person.disabled_at is not None:
            person.disabled_at = None
            once_committed(_log.info, "person %s: enabled by %s", id, by)
        was_admin = person.is_admin
        if wanted.is_admin is not UNSET and wanted.is_admin != was_admin:
            person.is_admin = wanted.is_admin
            role = "admin" if person.is_admin else "user"
            once_committed(_log.info, "person %s: made %s by %s", id, role, by)
        wanted.limits.apply(person)
        await person.save(
            update_fields=[
                *("name", "ends_at", "disabled_at", "is_admin"),
                *("instances_limit", "instances_at_once_limit"),
            ]
        )
        if was_admin:
            await _check_admin_left(id)
    return person


async def mark_account_deleted(id: str, *, by: str, now: float) -> Person:
    """Close an account for good and remove its name and all that lets its person in.

    The row stays, so that nobody else gets the id. Works in the caller's transaction.

    :raises NotFound: no such person.
    :raises Conflict: the last admin would be gone.
    """
    await _lasting_admins().select_for_update()
    person = await get_person(id)
    was_admin = person.is_admin
    person.name, person.is_admin = DELETED_NAME, False
    person.disabled_at = person.disabled_at or now
    person.deleted_at, person.files_removed_at = now, None
    await end_person_access(id, now=now)
    await person.save()
    if was_admin:
        await _check_admin_left(id)
    for model in (Session, ApiToken, LoginLink, Passkey, PersonIdentity, DeviceCode, ImageSecret):
        await model.filter(person_id=id).delete()
    await GroupMember.filter(person_id=id).delete()
    await OwnerConsent.filter(Q(person_id=id) | Q(owner=id)).delete()
    await ImageShare.filter(by_id=id, revoked_at=None).update(revoked_at=now)
    once_committed(_log.info, "person %s: deleted by %s", id, by)
    return person


async def _check_admin_left(id: str) -> None:
    if not await _lasting_admins().exists():
        raise Conflict(
            f"{id} is the last admin who is enabled and has no end date",
            hint="make another admin first",
        )


async def end_person_access(id: str, *, now: float) -> None:
    """End sessions, tokens, links and instances' sessions of a person; in a transaction."""
    await Session.filter(person_id=id, ended_at=None).update(ended_at=now)
    await ApiToken.filter(person_id=id, ended_at=None).update(ended_at=now)
    await LoginLink.filter(person_id=id, spent_at=None).update(spent_at=now)
    await OAuthCode.filter(person_id=id).delete()
    await OAuthToken.filter(person_id=id, revoked_at=None).update(revoked_at=now)


# ---- one-time links


async def create_login_link(
    person: str, *, lifetime_s: float, now: float, made_by: str = ""
) -> str:
    """Create a one-time link, ``/login/<token>``; return its token.

    :param made_by: the id of the person who makes it; empty for a command.
    :raises NotFound: no such person.
    :raises Conflict: the account is not in force.
    """
    token = new_token()
    async with in_transaction("portal"):
        found = await Person.get_or_none(id=person)
        if found is None:
            raise NotFound(f"there is no person called {person!r}", hint=_WHERE_IDS_ARE)
        if not account_in_force(found, now):
            raise Conflict(
                f"the account {person} is disabled or has ended",
                hint="enable it or give it another end date first",
            )
        await LoginLink.create(
            digest=digest(token),
            person_id=person,
            expires_at=now + lifetime_s,
            made_by=made_by,
        )
    return token


async def person_of_login_link(token: str, *, now: float) -> Caller | None:
    """Return the person whom a link would log in, without spending the link.

    None means that it is spent, too old or unknown.

    :raises AccountClosed: the account is not in force, which the link's holder may know.
    """
    link = await LoginLink.get_or_none(digest=digest(token)).prefetch_related("person")
    if link is None:
        return None
    check_account_in_force(link.person, now)
    return (
        caller_of_person(link.person) if link.spent_at is None and link.expires_at > now else None
    )


async def spend_login_link(token: str, *, now: float) -> Caller | None:
    """Spend a link, in the caller's transaction; only one of concurrent calls gets the person.

    :raises AccountClosed: the account is not in force; the link stays unspent.
    """
    spent = await LoginLink.filter(digest=digest(token), spent_at=None, expires_at__gt=now).update(
        spent_at=now
    )
    link = await LoginLink.get_or_none(digest=digest(token)).prefetch_related("person")
    if link is None:
        return None
    check_account_in_force(link.person, now)
    return caller_of_person(link.person) if spent else None


# ---- inside


def _lasting_admins() -> QuerySet[Person]:
    return Person.filter(is_admin=True, disabled_at=None, ends_at=None)


def _check_account_end(ends_at: float | None, now: float) -> None:
    if ends_at is not None and not now < ends_at < MAX_END:
        raise BadRequest("an end date is one to come, before the year 2200", field="ends")


async def _free_person_id(name: str) -> str:
    """Return a free id that is similar to the name."""
    for number in range(1, _FREE_IDS_TRIED):
        id = id_from(name, number)
        if not await Person.exists(id=id):
            return id
    return f"{id_from(name)[:30].rstrip('-')}-{secrets.token_hex(4)}"
