"""Accounts, the links that log them in once, and their tokens for the HTTP API."""

import re
from dataclasses import dataclass

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.digests import digest, new_token
from dit4c_p2p.portal.errors import BadRequest, NotFound
from dit4c_p2p.portal.models import ApiToken, LoginLink, Person

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Who:
    """Whoever is asking."""

    id: str
    name: str
    is_admin: bool


def who(person: Person) -> Who:
    """What the rest of the portal needs to know of a person."""
    return Who(person.id, person.name, person.is_admin)


async def ensure_person(person: str, *, name: str, is_admin: bool, now: float) -> None:
    """See that there is such an account; one that is there already stays as it is.

    :raises BadRequest: not an id.
    """
    if not _ID.fullmatch(person):
        raise BadRequest(
            f"{person!r} is not the id of a person",
            field="person",
            hint="an id has 1 to 40 of a-z, 0-9 and -",
        )
    async with in_transaction("portal"):
        await Person.get_or_create(
            id=person, defaults={"name": name, "is_admin": is_admin, "created_at": now}
        )


async def create_login_link(person: str, *, lifetime_s: float, now: float) -> str:
    """The token of a new one-time link, ``/login/<token>``.

    :raises NotFound: no such person.
    """
    token = new_token()
    async with in_transaction("portal"):
        if not await Person.exists(id=person):
            raise NotFound(f"there is no person called {person!r}")
        await LoginLink.create(digest=digest(token), person_id=person, expires_at=now + lifetime_s)
    return token


async def link_person(token: str, *, now: float) -> Who | None:
    """Whom a link would log in, without spending it; None if it is spent, too old or unknown."""
    link = await LoginLink.get_or_none(
        digest=digest(token), spent_at=None, expires_at__gt=now
    ).prefetch_related("person")
    return who(link.person) if link else None


async def spend_link(token: str, *, now: float) -> Who | None:
    """Spend a link, in the caller's transaction; of several at once one gets the person."""
    spent = await LoginLink.filter(digest=digest(token), spent_at=None, expires_at__gt=now).update(
        spent_at=now
    )
    if not spent:
        return None
    link = await LoginLink.get(digest=digest(token)).prefetch_related("person")
    return who(link.person)


async def create_api_token(person: str, *, label: str, now: float) -> str:
    """A new token for the HTTP API; it replaces the person's earlier one with this label.

    :raises NotFound: no such person.
    """
    token = new_token()
    async with in_transaction("portal"):
        if not await Person.exists(id=person):
            raise NotFound(f"there is no person called {person!r}")
        await ApiToken.filter(person_id=person, label=label).delete()
        await ApiToken.create(digest=digest(token), person_id=person, label=label, created_at=now)
    return token


async def token_person(token: str) -> Who | None:
    """Whose API token this is."""
    found = await ApiToken.get_or_none(digest=digest(token)).prefetch_related("person")
    return who(found.person) if found else None
