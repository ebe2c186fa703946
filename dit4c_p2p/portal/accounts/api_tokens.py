"""API tokens: named, with an end date and with scopes."""

import logging
from typing import Literal

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.last_used import LastUsed
from dit4c_p2p.portal.accounts.names import checked_name
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.errors import BadRequest, Conflict, NotFound
from dit4c_p2p.portal.models import ApiToken, Person
from dit4c_p2p.portal.opaque_tokens import digest, new_token, public_id

_log = logging.getLogger(__name__)

Scope = Literal["instances:read", "instances:write", "admin"]
# What each lets a program do, in plain words.
_WORDS: dict[Scope, str] = {
    "admin": "do what only admins may: manage people, tools, keys and all the rest",
    "instances:read": "see your instances, their logs, and what else you can see here",
    "instances:write": "start, stop and discard your instances, and change what else is yours",
}
USER_SCOPES: frozenset[str] = frozenset({"instances:read", "instances:write"})
ALL_SCOPES: frozenset[str] = USER_SCOPES | {"admin"}
MAX_DAYS = 366
_MAX_TOKENS = 50
_DAY_S = 24 * 3600
# For how long a token that is over is still listed as such.
_KEPT_S = 30 * _DAY_S


async def create_token(
    person: str,
    *,
    label: str,
    scopes: frozenset[str],
    days: float | None,
    now: float,
    replace: bool = False,
) -> tuple[ApiToken, str]:
    """Create a token; return it with its text, which is stored nowhere.

    :param label: what its person knows it by.
    :param scopes: what it may be used for.
    :param days: after which it ends; None for a token without an end.
    :param replace: whether it takes the place of one with the same label.
    :raises NotFound: no such person.
    :raises BadRequest: not a label, a length that can't be, or more than the person may.
    :raises Conflict: the label is taken, there are too many, or the account is not in force.
    """
    label = checked_name(label, field="label", required=True)
    if not scopes:
        raise BadRequest("a token needs at least one scope", field="scopes")
    if not scopes <= ALL_SCOPES:
        raise BadRequest(f"scopes are: {', '.join(sorted(ALL_SCOPES))}", field="scopes")
    if days is not None and not 0 < days <= MAX_DAYS:
        raise BadRequest(f"a token lasts from 1 to {MAX_DAYS} days", field="days")
    token = new_token()
    async with in_transaction("portal"):
        await ApiToken.filter(person_id=person, expires_at__lt=now).delete()
        await ApiToken.filter(person_id=person, label=label).exclude(ended_at=None).delete()
        owner = await people.get_person(person)
        if not people.account_in_force(owner, now):
            raise Conflict(f"the account {person} is disabled or has ended")
        if "admin" in scopes and not owner.is_admin:
            raise BadRequest(
                f"{person} is no admin", field="scopes", hint="leave out the scope admin"
            )
        if replace:
            await ApiToken.filter(person_id=person, label=label).delete()
        elif await ApiToken.exists(person_id=person, label=label):
            raise Conflict(
                f"{person} has a token labelled {label!r} already",
                field="label",
                hint="revoke that one first, or choose another label",
            )
        if await ApiToken.filter(person_id=person).count() >= _MAX_TOKENS:
            raise Conflict(f"{person} has {_MAX_TOKENS} tokens", hint="revoke one first")
        made = await ApiToken.create(
            digest=digest(token),
            person_id=person,
            label=label,
            scopes=" ".join(sorted(scopes)),
            created_at=now,
            expires_at=None if days is None else now + days * _DAY_S,
        )
    once_committed(
        _log.info, "token %s of %s: created, scopes %s", public_id(made.digest), person, made.scopes
    )
    return made, token


async def tokens_of_person(person: str) -> list[ApiToken]:
    """Return a person's tokens without revoked ones, the newest first."""
    return await ApiToken.filter(person_id=person, ended_at=None).order_by("-created_at", "digest")


async def revoke_token(person: str, id: str, *, current: str = "") -> None:
    """Revoke a token.

    :param id: its :func:`~dit4c_p2p.portal.opaque_tokens.public_id`, or its label; ``current`` is
        the one that is asked with.
    :param current: the digest of the token that is asked with, if it is one.
    :raises NotFound: the person has none such.
    """
    for token in await tokens_of_person(person):
        asks = id == "current" and token.digest == current
        if asks or id in (public_id(token.digest), token.label):
            await ApiToken.filter(digest=token.digest).delete()
            _log.info("token %s of %s: revoked", public_id(token.digest), person)
            return
    raise NotFound(
        "there is no such token",
        hint="'dit4c token list' and the account page show those there are",
    )


async def find_token(text: str, last_used: LastUsed, *, now: float) -> Caller | None:
    """Whose token this is, as far as it goes: without the scope ``admin`` even an admin is none.

    :raises AccountClosed: the person may not come in any more.
    """
    token = await ApiToken.get_or_none(digest=digest(text)).prefetch_related("person")
    if token is None:
        return None
    people.check_account_in_force(token.person, now)
    if token.ended_at is not None or (token.expires_at is not None and token.expires_at <= now):
        return None
    await last_used.note(token)
    person: Person = token.person
    scopes = frozenset(token.scopes.split())
    is_admin = person.is_admin and "admin" in scopes
    return Caller(person.id, person.name, is_admin, scopes=scopes, token=token.digest)


def scopes_of_token(token: ApiToken) -> list[Scope]:
    """What a token may be used for."""
    return [scope for scope in _WORDS if scope in token.scopes.split()]


def scopes_in_words(scopes: str) -> list[str]:
    """What a token with these scopes could do, in plain words."""
    return [word for scope, word in _WORDS.items() if scope in scopes.split()]


async def remove_expired_tokens(now: float) -> None:
    """Delete tokens that ended long ago."""
    await ApiToken.filter(expires_at__lt=now - _KEPT_S).delete()
    await ApiToken.filter(ended_at__lt=now - _KEPT_S).delete()
