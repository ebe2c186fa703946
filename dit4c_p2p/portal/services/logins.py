"""Letting somebody in by an identity or an invitation: account, identity and session at once."""

import logging

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import groups, invitations, people
from dit4c_p2p.portal.accounts.names import checked_name
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import BadRequest, Forbidden, NotFound, PortalError
from dit4c_p2p.portal.login.identity import Identity
from dit4c_p2p.portal.login.signup import is_named_admin, signup_admission
from dit4c_p2p.portal.models import Person
from dit4c_p2p.portal.opaque_tokens import public_id

_log = logging.getLogger(__name__)


class NotInvited(Forbidden):
    """A provider knows them, and this portal does not."""

    code = "not_invited"
    title = "You have no account here"

    def __init__(self, identity: Identity) -> None:
        super().__init__(
            f"{identity.label} has no account at this portal",
            hint="ask an admin for an invitation; if you have an account already, log in to it "
            "another way and add this identity on its page",
        )


async def log_in_with_identity(
    parts: PortalContext, identity: Identity, *, invitation: str = "", browser: str = ""
) -> str:
    """Let somebody in whom a provider knows; returns the new session's token.

    :param invitation: the token of one, for somebody who has no account yet; may be empty.
    :raises NotInvited: nobody's identity, and not one that may come without an invitation.
    :raises InvitationOver: the invitation lets nobody in any more.
    :raises AccountClosed: the person may not come in any more.
    """
    about, config = f"{identity.provider}:{identity.subject[:80]}", parts.config.login
    try:
        async with in_transaction("portal"):
            known = await parts.identities.find(identity)
            if known is not None:
                person = known.person
                people.check_account_in_force(person, parts.clock())
                if is_named_admin(identity, config) and not person.is_admin:
                    await _promote_named_admin(parts, person)
            else:
                person = await _new_person_by_login(parts, identity, invitation)
                await parts.identities.link(person.id, identity)
            await parts.identities.note_use(identity)
            return await parts.sessions.begin(person.id, by=about, browser=browser)
    except PortalError as error:
        await parts.audit.record_refusal("login", error, about=about)
        raise


async def accept_invitation(
    parts: PortalContext, token: str, *, name: str, browser: str = ""
) -> str:
    """Make an account by an invitation; returns the new session's token.

    :param name: what the guest is called.
    :raises InvitationOver: the invitation lets nobody in any more.
    :raises BadRequest: not a name.
    """
    try:
        async with in_transaction("portal"):
            person = await _invited_person(parts, token, name)
            return await parts.sessions.begin(person.id, by="by an invitation", browser=browser)
    except PortalError as error:
        if not isinstance(error, BadRequest):
            await parts.audit.record_refusal("login", error, about="by an invitation")
        raise


async def _new_person_by_login(parts: PortalContext, identity: Identity, invitation: str) -> Person:
    if invitation:
        return await _invited_person(parts, invitation, _name_of_identity(identity))
    admitted = signup_admission(identity, parts.config.login)
    if admitted is None:
        raise NotInvited(identity)
    person = await _create_invited_person(
        parts,
        _name_of_identity(identity),
        is_admin=admitted.is_admin,
        ends_at=None,
        why=f"by {identity.provider}",
    )
    for group in admitted.groups:
        await _join_invited_group(parts, person, group, by="")
    return person


async def _invited_person(parts: PortalContext, token: str, name: str) -> Person:
    invitation = await invitations.use_invitation(token, now=parts.clock())
    person = await _create_invited_person(
        parts,
        name,
        is_admin=invitation.is_admin,
        ends_at=invitation.person_ends_at,
        why=f"invitation:{public_id(invitation.digest)} of {invitation.made_by}",
    )
    if invitation.group:
        await _join_invited_group(parts, person, invitation.group, by=invitation.made_by)
    return person


async def _create_invited_person(
    parts: PortalContext, name: str, *, is_admin: bool, ends_at: float | None, why: str
) -> Person:
    person = await people.create_person(
        name, is_admin=is_admin, ends_at=ends_at, by=why, now=parts.clock()
    )
    about = f"{person.id}{' as an admin' if is_admin else ''} {why}"
    await parts.audit.record_required("person.create", who=person.id, about=about)
    return person


async def _join_invited_group(parts: PortalContext, person: Person, id: str, *, by: str) -> None:
    """Put somebody new into a group, to read; its managers may let them write.

    A group that is not there any more keeps nobody out of the portal.
    """
    try:
        group = await groups.get_group(id)
    except NotFound:
        _log.warning("person %s: there is no group %s to come into", person.id, id)
        return
    await groups.set_group_member(
        group, person.id, writes=False, manages=False, by=by, now=parts.clock()
    )
    about = f"{id}: {person.id} may read"
    await parts.audit.record_required("group.member", who=by or person.id, about=about)


async def _promote_named_admin(parts: PortalContext, person: Person) -> None:
    person.is_admin = True
    await person.save(update_fields=["is_admin"])
    about = f"{person.id}: admin, as the configuration says"
    await parts.audit.record_required("person.change", who=person.id, about=about)


def _name_of_identity(identity: Identity) -> str:
    """What somebody is called, of what their provider says that can be a name here."""
    for name in (identity.name, identity.username, identity.email.partition("@")[0]):
        try:
            return checked_name(name[:100], required=True)
        except BadRequest:
            continue
    return f"Person {identity.subject}"[:100]
