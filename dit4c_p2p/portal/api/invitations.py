"""``invitations``: links by which people make accounts of their own; for admins."""

import msgspec

from dit4c_p2p.portal.accounts import invitations
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.models import Invitation
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.paging import part_of_items
from dit4c_p2p.portal.schemas import (
    InvitationView,
    NewInvitation,
    NewInvitationView,
    Page,
    time_or_none,
    time_text,
)
from dit4c_p2p.portal.services.invitations import end_invitation, make_invitation


async def list_invitations(call: Call, query: Page) -> list[InvitationView]:
    """List the invitations, the newest first."""
    now = call.parts.clock()
    found, cursor = part_of_items(
        await invitations.all_invitations(),
        query.limit,
        query.cursor,
        place=lambda one: (-one.created_at, one.digest),
    )
    call.next_page(cursor)
    return [invitation_view(one, now) for one in found]


async def make(call: Call, body: NewInvitation) -> NewInvitationView:
    """Make an invitation; its URL is shown this one time."""
    made, url = await make_invitation(
        call.parts,
        label=body.label,
        uses=body.uses,
        expires_at=body.expires.timestamp(),
        is_admin=body.admin,
        group=body.group,
        person_ends_at=None if body.ends is None else body.ends.timestamp(),
        by=call.who.id,
    )
    view = invitation_view(made, call.parts.clock())
    return NewInvitationView(**msgspec.structs.asdict(view), url=url)


async def end(call: Call) -> InvitationView:
    """Let nobody come by an invitation any more. Again changes nothing."""
    ended = await end_invitation(call.parts, call.path("id"), by=call.who.id)
    return invitation_view(ended, call.parts.clock())


def invitation_view(invitation: Invitation, now: float) -> InvitationView:
    """The API's form of an invitation."""
    return InvitationView(
        id=public_id(invitation.digest),
        label=invitation.label,
        state=invitations.invitation_state(invitation, now),
        uses=invitation.uses,
        used=invitation.used,
        expires=time_text(invitation.expires_at),
        admin=invitation.is_admin,
        group=invitation.group,
        ends=time_or_none(invitation.person_ends_at),
        created=time_text(invitation.created_at),
        made_by=invitation.made_by,
    )


ENDPOINTS = (
    Endpoint("GET", "invitations", list_invitations, allowed="admin"),
    Endpoint(
        "POST",
        "invitations",
        make,
        allowed="admin",
        status=201,
        errors=(NotFound,),
    ),
    Endpoint("POST", "invitations/{id}/end", end, allowed="admin"),
)
