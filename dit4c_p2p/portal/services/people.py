"""Accounts: invited, let in by a link, changed; written down, and told to whoever is connected."""

from msgspec import UNSET

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.limits import KEEP_LIMITS
from dit4c_p2p.portal.accounts.people import AccountChange
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.keys.user_keys import user_name
from dit4c_p2p.portal.models import Person
from dit4c_p2p.portal.schemas import LoginLinkView, time_text
from dit4c_p2p.portal.services import accounts
from dit4c_p2p.portal.services.deletion import check_own_account


async def invite_person(
    parts: PortalContext,
    *,
    by: str,
    name: str,
    id: str,
    is_admin: bool,
    ends_at: float | None,
    link_s: float,
) -> tuple[Person, LoginLinkView]:
    """A new account and its link, or neither; see :func:`people.create_person`."""
    async with in_transaction("portal"):
        person = await people.create_person(
            name, id=id, is_admin=is_admin, ends_at=ends_at, by=by, now=parts.clock()
        )
        about = f"{person.id}{' as an admin' if is_admin else ''}"
        await parts.audit.record_required("person.create", who=by, about=about)
        login = await create_person_link(parts, person.id, link_s=link_s, by=by)
    return person, login


async def create_person_link(
    parts: PortalContext, id: str, *, link_s: float, by: str
) -> LoginLinkView:
    """A one-time link that the person ``by`` makes; see :func:`accounts.create_login_link`."""
    await people.get_person(id)
    now = parts.clock()
    token = await accounts.create_login_link(parts.audit, id, lifetime_s=link_s, now=now, by=by)
    return LoginLinkView(url=f"{parts.config.url}/login/{token}", expires=time_text(now + link_s))


async def change_person(
    parts: PortalContext, id: str, wanted: AccountChange, *, by: str, own: bool = False
) -> Person:
    """Change an account, and have its open pages see it; see :func:`people.change_account`.

    :param own: whether ``by`` means it to be their own account.
    :raises BadRequest: ``by`` would shut out themselves without saying so.
    """
    if wanted.shuts_out:
        check_own_account(id, by=by, own=own)
    words = {
        "name": wanted.name is not UNSET,
        "end": wanted.ends_at is not UNSET,
        "disabled": wanted.disabled is True,
        "enabled": wanted.disabled is False,
        "made an admin": wanted.is_admin is True,
        "made a user": wanted.is_admin is False,
        "limits": wanted.limits != KEEP_LIMITS,
    }
    about = f"{id}: {', '.join(word for word, changed in words.items() if changed) or 'nothing'}"
    async with in_transaction("portal"):
        person = await people.change_account(id, wanted, by=by, now=parts.clock())
        # Nobody is kept inside by a full disk.
        shuts = wanted.shuts_out
        write = parts.audit.record_best_effort if shuts else parts.audit.record_required
        await write("person.change", who=by, about=about)
        access = wanted.disabled is not UNSET or wanted.ends_at is not UNSET
        keys = await parts.user_keys.account_changed(person, by=by) if access else []
    parts.registry.announce(keys)
    if access:
        parts.grant_events.changed([str(user_name(id))])
    parts.sessions.look_again(id)
    return person


async def end_person_token(parts: PortalContext, id: str, token: str, *, current: str = "") -> None:
    """End a token, and have what it has open see it; see :func:`accounts.end_api_token`."""
    await accounts.end_api_token(parts.audit, id, token, current=current)
    parts.sessions.look_again(id)
