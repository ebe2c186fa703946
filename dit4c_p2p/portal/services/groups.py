"""Groups and their members: changed, written down, and told to the file servers."""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import groups
from dit4c_p2p.portal.accounts.limits import LimitsChange, limits_text
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.models import Group, GroupMember
from dit4c_p2p.portal.services.storage import peers_of_person


async def create_group(parts: PortalContext, title: str, *, id: str = "", by: str) -> Group:
    """A new group; see :func:`groups.create_group`."""
    async with in_transaction("portal"):
        group = await groups.create_group(title, id=id, by=by, now=parts.clock())
        await parts.audit.record_required("group.create", who=by, about=group.id)
    return group


async def rename_group(parts: PortalContext, id: str, title: str, *, by: str) -> Group:
    """Another title; see :func:`groups.rename_group`."""
    async with in_transaction("portal"):
        group = await groups.rename_group(id, title)
        await parts.audit.record_required("group.rename", who=by, about=group.id)
    return group


async def limit_group(parts: PortalContext, id: str, wanted: LimitsChange, *, by: str) -> Group:
    """Choose how many instances each member may have; see :func:`groups.set_group_limits`."""
    async with in_transaction("portal"):
        group = await groups.set_group_limits(id, wanted)
        about = f"{id}: {limits_text(group)}"
        await parts.audit.record_required("group.limits", who=by, about=about)
    return group


async def close_group(parts: PortalContext, id: str, *, closed: bool, by: str) -> Group:
    """Take a group's folder away, or give it back; see :func:`groups.set_group_closed`."""
    async with in_transaction("portal"):
        group = await groups.set_group_closed(id, closed=closed, now=parts.clock())
        if closed:
            await parts.audit.record_best_effort("group.close", who=by, about=group.id)
        else:
            await parts.audit.record_required("group.open", who=by, about=group.id)
    parts.grant_events.all_changed()
    return group


async def put_member_into_group(
    parts: PortalContext, who: Caller, id: str, person: str, *, writes: bool, manages: bool
) -> GroupMember:
    """Put a person into a group, or change their rights.

    :raises NotFound: no such group or person, or ``who`` may not see the group.
    :raises Forbidden: ``who`` may not change its members.
    :raises Conflict: the group has too many members, or the person too many groups.
    """
    async with in_transaction("portal"):
        group = await groups.group_managed_by(who, id)
        before = await GroupMember.get_or_none(group_id=id, person_id=person)
        member = await groups.set_group_member(
            group, person, writes=writes, manages=manages, by=who.id, now=parts.clock()
        )
        rights = "write" if writes else "read"
        about = f"{id}: {person} may {rights}{' and manage' if manages else ''}"
        takes = before is not None and before.writes >= writes and before.manages >= manages
        write = parts.audit.record_best_effort if takes else parts.audit.record_required
        await write("group.member", who=who.id, about=about)
        peers = await peers_of_person(person)
    parts.grant_events.changed(peers)
    return member


async def take_member_out_of_group(parts: PortalContext, who: Caller, id: str, person: str) -> None:
    """Take a person out of a group; everybody may take out themselves.

    :raises NotFound: no such group or member, or ``who`` may not see the group.
    :raises Forbidden: ``who`` may not change its members.
    """
    async with in_transaction("portal"):
        if person == who.id:
            group = await groups.group_seen_by(who, id)
        else:
            group = await groups.group_managed_by(who, id)
        await groups.remove_group_member(group, person)
        await parts.audit.record_best_effort("group.remove", who=who.id, about=f"{id}: {person}")
        peers = await peers_of_person(person)
    parts.grant_events.changed(peers)
