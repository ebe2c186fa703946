"""``people``: accounts, their login links and their tokens; for admins, and for each their own."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from dit4c_p2p.portal.accounts import api_tokens, people
from dit4c_p2p.portal.accounts.limits import InstanceLimits, LimitsChange, limits_of_person
from dit4c_p2p.portal.accounts.people import AccountChange
from dit4c_p2p.portal.accounts.schemas import (
    DeletionView,
    LimitsView,
    LimitView,
    PersonChange,
    PersonDeletion,
)
from dit4c_p2p.portal.api.endpoint import PREFIX, Call, Endpoint
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import BadRequest, Conflict
from dit4c_p2p.portal.http.token_auth import check_self_or_admin
from dit4c_p2p.portal.models import ApiToken, Person
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.paging import page_of_rows, part_of_items
from dit4c_p2p.portal.schemas import (
    InvitedView,
    LoginLinkView,
    NewLoginLink,
    NewPerson,
    NewToken,
    NewTokenView,
    Page,
    PeopleQuery,
    PersonView,
    TokenView,
    time_or_none,
    time_text,
)
from dit4c_p2p.portal.services import accounts
from dit4c_p2p.portal.services.deletion import delete_person
from dit4c_p2p.portal.services.people import (
    change_person,
    create_person_link,
    end_person_token,
    invite_person,
)

_HOUR_S = 3600


async def list_people(call: Call, query: PeopleQuery) -> list[PersonView]:
    """Every account, the newest first."""
    now = call.parts.clock()
    rows = people.search_people(query.q, query.state, now=now)
    found, cursor = await page_of_rows(rows, query.limit, query.cursor, time="created_at", id="id")
    call.next_page(cursor)
    return [person_view(person, now) for person in found]


async def invite(call: Call, body: NewPerson) -> InvitedView:
    """Make an account and a one-time link that lets its person in."""
    person, login = await invite_person(
        call.parts,
        by=call.who.id,
        name=body.name,
        id=body.id,
        is_admin=body.admin,
        ends_at=_seconds_of_moment(body.ends),
        link_s=body.link_hours * _HOUR_S,
    )
    call.located(f"{PREFIX}/people/{person.id}")
    view = person_view(person, call.parts.clock())
    return InvitedView(**msgspec.structs.asdict(view), login=login)


async def get(call: Call) -> PersonView:
    """One account; anybody may see their own."""
    check_self_or_admin(call.who, call.path("id"))
    return person_view(await people.get_person(call.path("id")), call.parts.clock())


async def change(call: Call, body: PersonChange) -> PersonView:
    """Change a name, an end date, the role or the limits; disable or enable.

    Disabling ends sessions, tokens and links at once and for good; instances go on. One admin
    stays who is enabled and has no end date.
    """
    wanted = AccountChange(
        name=body.name,
        ends_at=UNSET if isinstance(body.ends, UnsetType) else _seconds_of_moment(body.ends),
        disabled=body.disabled,
        is_admin=body.admin,
        limits=LimitsChange(body.instances_limit, body.instances_at_once_limit),
    )
    id = call.path("id")
    person = await change_person(call.parts, id, wanted, by=call.who.id, own=body.own)
    return person_view(person, call.parts.clock())


async def get_limits(call: Call) -> LimitsView:
    """How many instances a person may have, and by which limit; anybody may see their own."""
    check_self_or_admin(call.who, call.path("id"))
    return limits_view(await limits_of_person(call.path("id"), call.parts.config.limits))


async def delete(call: Call, body: PersonDeletion) -> DeletionView:
    """Delete an account with its data: instances, saved images, files, keys, sessions, tokens.

    The id is never given to anybody else. One admin stays who is enabled and has no end date.
    """
    id = call.path("id")
    await people.get_person(id)
    if body.confirm != id:
        raise BadRequest(
            "this is not the person's id", field="confirm", hint=f"say {id} once more to delete it"
        )
    gone = await delete_person(call.parts, id, by=call.who.id, own=body.own)
    return DeletionView(id=id, instances=gone.instances, ssh_keys=gone.ssh_keys)


async def make_login_link(call: Call, body: NewLoginLink) -> LoginLinkView:
    """Another one-time link; earlier ones stay as they are."""
    return await create_person_link(
        call.parts, call.path("id"), link_s=body.link_hours * _HOUR_S, by=call.who.id
    )


async def list_tokens(call: Call, query: Page) -> list[TokenView]:
    """A person's tokens, newest first; anybody may see their own."""
    check_self_or_admin(call.who, call.path("id"))
    await people.get_person(call.path("id"))
    found, cursor = part_of_items(
        await api_tokens.tokens_of_person(call.path("id")),
        query.limit,
        query.cursor,
        place=lambda token: (-token.created_at, public_id(token.digest)),
    )
    call.next_page(cursor)
    return [token_view(token) for token in found]


async def make_token(call: Call, body: NewToken) -> NewTokenView:
    """A token for this API. For admins: a token that leaks can't make itself last longer."""
    return await new_api_token(
        call.parts, call.path("id"), label=body.label, scopes=frozenset(body.scopes), days=body.days
    )


async def revoke_token(call: Call) -> list[TokenView]:
    """End a token at once; answers with those that are left. Anybody may end their own.

    ``current`` is the token that is asked with.
    """
    id = call.path("id")
    check_self_or_admin(call.who, id)
    await people.get_person(id)
    await end_person_token(call.parts, id, call.path("token"), current=call.who.token)
    return [token_view(token) for token in await api_tokens.tokens_of_person(id)]


async def new_api_token(
    parts: PortalContext, id: str, *, label: str, scopes: frozenset[str], days: float | None
) -> NewTokenView:
    """A token and its text; see :func:`accounts.create_api_token`."""
    made, text = await accounts.create_api_token(
        parts.audit, id, label=label, scopes=scopes, days=days, now=parts.clock()
    )
    view = token_view(made)
    return NewTokenView(**msgspec.structs.asdict(view), token=text)


def person_view(person: Person, now: float) -> PersonView:
    """The API's form of an account."""
    return PersonView(
        id=person.id,
        name=person.name,
        admin=person.is_admin,
        state=people.account_state(person, now),
        created=time_text(person.created_at),
        ends=time_or_none(person.ends_at),
        last_seen=time_or_none(person.seen_at),
        instances_limit=person.instances_limit,
        instances_at_once_limit=person.instances_at_once_limit,
    )


def limits_view(limits: InstanceLimits) -> LimitsView:
    """The API's form of the limits that count for a person."""
    return LimitsView(
        instances=LimitView(limits.in_all.number, limits.in_all.of),
        instances_at_once=LimitView(limits.at_once.number, limits.at_once.of),
    )


def token_view(token: ApiToken) -> TokenView:
    """The API's form of a token."""
    return TokenView(
        id=public_id(token.digest),
        label=token.label,
        scopes=api_tokens.scopes_of_token(token),
        created=time_text(token.created_at),
        expires=time_or_none(token.expires_at),
        last_used=time_or_none(token.used_at),
    )


def _seconds_of_moment(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


ENDPOINTS = (
    Endpoint("GET", "people", list_people, allowed="admin"),
    Endpoint(
        "POST",
        "people",
        invite,
        allowed="admin",
        status=201,
        location=True,
        errors=(Conflict,),
    ),
    Endpoint("GET", "people/{id}", get, any_scope=True),
    Endpoint("PATCH", "people/{id}", change, allowed="admin", errors=(Conflict,)),
    Endpoint("GET", "people/{id}/limits", get_limits, any_scope=True),
    Endpoint("POST", "people/{id}/delete", delete, allowed="admin", errors=(Conflict,)),
    Endpoint(
        "POST",
        "people/{id}/login-links",
        make_login_link,
        allowed="admin",
        status=201,
        errors=(Conflict,),
    ),
    Endpoint("GET", "people/{id}/tokens", list_tokens, any_scope=True),
    Endpoint(
        "POST",
        "people/{id}/tokens",
        make_token,
        allowed="admin",
        status=201,
        errors=(Conflict,),
    ),
    Endpoint("POST", "people/{id}/tokens/{token}/revoke", revoke_token, any_scope=True),
)
