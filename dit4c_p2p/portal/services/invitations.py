"""Invitation links, as admins make them and end them."""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import groups, invitations
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.models import Invitation
from dit4c_p2p.portal.opaque_tokens import public_id


async def make_invitation(
    parts: PortalContext,
    *,
    label: str,
    uses: int,
    expires_at: float,
    is_admin: bool,
    group: str,
    person_ends_at: float | None,
    by: str,
) -> tuple[Invitation, str]:
    """A new invitation and its URL, which is shown this one time.

    See :func:`invitations.create_invitation` for the rest.

    :raises NotFound: no such group.
    """
    async with in_transaction("portal"):
        if group:
            await groups.get_group(group)
        made, token = await invitations.create_invitation(
            label=label,
            uses=uses,
            expires_at=expires_at,
            is_admin=is_admin,
            group=group,
            person_ends_at=person_ends_at,
            by=by,
            now=parts.clock(),
        )
        into = f" into {group}" if group else ""
        about = f"{_about_invitation(made)} for {uses}{' as an admin' if is_admin else ''}{into}"
        await parts.audit.record_required("invitation.create", who=by, about=about)
    return made, f"{parts.config.url}/invitation/{token}"


async def end_invitation(parts: PortalContext, id: str, *, by: str) -> Invitation:
    """Let nobody come by an invitation any more; see :func:`invitations.end_invitation`."""
    async with in_transaction("portal"):
        ended = await invitations.end_invitation(id, now=parts.clock())
        await parts.audit.record_best_effort(
            "invitation.end", who=by, about=_about_invitation(ended)
        )
    return ended


def _about_invitation(invitation: Invitation) -> str:
    return f"invitation:{public_id(invitation.digest)}"
