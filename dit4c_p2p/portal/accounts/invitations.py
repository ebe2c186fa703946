"""Invitation links: for one or for several people, who have no account yet.

What changes something works in the caller's transaction.
"""

import logging
from typing import Literal

from dit4c_p2p.database import once_committed
from dit4c_p2p.portal.accounts.names import checked_name
from dit4c_p2p.portal.accounts.people import MAX_END
from dit4c_p2p.portal.errors import BadRequest, NotFound, PortalError
from dit4c_p2p.portal.models import Invitation
from dit4c_p2p.portal.opaque_tokens import digest, new_token, public_id

_log = logging.getLogger(__name__)

MAX_USES = 1000
_KEPT_S = 30 * 24 * 3600.0

State = Literal["open", "used up", "ended"]


class InvitationOver(PortalError):
    """The invitation lets nobody in any more, or never did."""

    code = "invitation_over"
    status = 410
    title = "This invitation is over"

    def __init__(self) -> None:
        super().__init__(
            "this invitation is used up, has ended, or was not copied whole",
            hint="ask whoever sent it for another one; if you have an account, log in",
        )


def invitation_state(invitation: Invitation, now: float) -> State:
    """In a word."""
    if invitation.ended_at is not None or invitation.expires_at <= now:
        return "ended"
    return "open" if invitation.used < invitation.uses else "used up"


async def create_invitation(
    *,
    label: str,
    uses: int,
    expires_at: float,
    is_admin: bool,
    group: str,
    person_ends_at: float | None,
    by: str,
    now: float,
) -> tuple[Invitation, str]:
    """A new invitation, and its token, which is kept nowhere.

    :param label: what it is for, such as "Summer school".
    :param uses: how many people may come.
    :param expires_at: until when they may.
    :param group: the id of a group that they come into; empty for none.
    :param person_ends_at: when their accounts end; None for no end.
    :raises BadRequest: not a label, too many people, or an end that is not to come.
    """
    label = checked_name(label, field="label", required=True)
    if not 1 <= uses <= MAX_USES:
        raise BadRequest(f"an invitation is for 1 to {MAX_USES} people", field="uses")
    if not now < expires_at < MAX_END:
        raise BadRequest("an invitation ends on a day to come", field="expires")
    if person_ends_at is not None and not now < person_ends_at < MAX_END:
        raise BadRequest("an end date is one to come, before the year 2200", field="ends")
    if is_admin and uses > 1:
        raise BadRequest(
            "an admin's invitation is for one person", field="uses", hint="make one for each"
        )
    token = new_token()
    made = await Invitation.create(
        digest=digest(token),
        label=label,
        uses=uses,
        used=0,
        expires_at=expires_at,
        is_admin=is_admin,
        group=group,
        person_ends_at=person_ends_at,
        made_by=by,
        created_at=now,
    )
    once_committed(_log.info, "invitation %s: made by %s", public_id(made.digest), by)
    return made, token


async def find_invitation(token: str, *, now: float) -> Invitation:
    """The invitation of a token, if somebody may come by it.

    :raises InvitationOver: nobody may.
    """
    found = await Invitation.get_or_none(digest=digest(token))
    if found is None or invitation_state(found, now) != "open":
        raise InvitationOver
    return found


async def use_invitation(token: str, *, now: float) -> Invitation:
    """Let one more person come by an invitation.

    :raises InvitationOver: nobody may.
    """
    found = await find_invitation(token, now=now)
    found.used += 1
    await found.save(update_fields=["used"])
    return found


async def end_invitation(id: str, *, now: float) -> Invitation:
    """Let nobody come by an invitation any more.

    :param id: its :func:`~dit4c_p2p.portal.opaque_tokens.public_id`.
    :raises NotFound: there is none such.
    """
    found = await Invitation.filter(digest__startswith=id[:16]).first() if id else None
    if found is None or public_id(found.digest) != id:
        raise NotFound("there is no such invitation")
    if found.ended_at is None:
        found.ended_at = now
        await found.save(update_fields=["ended_at"])
    return found


async def all_invitations() -> list[Invitation]:
    """All there are, the newest first."""
    found: list[Invitation] = await Invitation.all().order_by("-created_at", "digest")
    return found


async def remove_expired_invitations(now: float) -> None:
    """Forget those that have been over for a while."""
    await Invitation.filter(expires_at__lt=now - _KEPT_S).delete()
    await Invitation.filter(ended_at__lt=now - _KEPT_S).delete()
