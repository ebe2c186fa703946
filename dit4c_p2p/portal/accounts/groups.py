"""Groups: people who share files, each with the right to read or to write, some as managers.

Admins create, rename and close groups. A group's managers change its members. Everybody else who is
no member doesn't see that the group exists. The functions work in the caller's transaction.
"""

from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.limits import LimitsChange
from dit4c_p2p.portal.accounts.names import checked_id, checked_name, composed_name, id_from
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.errors import Conflict, Forbidden, NotFound
from dit4c_p2p.portal.models import Group, GroupMember

_FREE_IDS_TRIED = 50
# Of one group: a page and a file server's answer stay small.
MAX_MEMBERS = 1000
# Of one person: the folders of a mount.
MAX_GROUPS = 100


async def create_group(title: str, *, id: str = "", by: str, now: float) -> Group:
    """A new group without members.

    :param id: made from the title if empty.
    :raises BadRequest: not a title, or not an id.
    :raises Conflict: the id is taken.
    """
    title = checked_name(title, field="title", required=True)
    if id:
        checked_id(id, of="a group")
        if await Group.exists(id=id):
            raise Conflict(
                f"there is a group called {id} already", field="id", hint="choose another id"
            )
    else:
        id = await _free_group_id(title)
    return await Group.create(id=id, title=title, created_by=by, created_at=now)


async def rename_group(id: str, title: str) -> Group:
    """Give a group another title; its folder keeps its name.

    :raises NotFound: no such group.
    :raises BadRequest: not a title.
    """
    group = await get_group(id)
    group.title = checked_name(title, field="title", required=True)
    await group.save(update_fields=["title"])
    return group


async def set_group_limits(id: str, wanted: LimitsChange) -> Group:
    """Choose how many instances each member may have.

    :raises NotFound: no such group.
    :raises BadRequest: not a limit.
    """
    group = await get_group(id)
    if wanted.apply(group):
        await group.save(update_fields=["instances_limit", "instances_at_once_limit"])
    return group


async def set_group_closed(id: str, *, closed: bool, now: float) -> Group:
    """Close a group, or open it again; its members and files stay.

    :raises NotFound: no such group.
    """
    group = await get_group(id)
    if closed != (group.closed_at is not None):
        group.closed_at = now if closed else None
        await group.save(update_fields=["closed_at"])
    return group


async def set_group_member(
    group: Group, person_id: str, *, writes: bool, manages: bool, by: str, now: float
) -> GroupMember:
    """Put a person into a group, or change what a member may do.

    :raises NotFound: no such person.
    :raises Conflict: the group has too many members, or the person too many groups.
    """
    person = await people.get_person(person_id)
    member = await GroupMember.get_or_none(group_id=group.id, person_id=person.id)
    if member is not None:
        member.writes, member.manages = writes, manages
        await member.save(update_fields=["writes", "manages"])
        return member
    if await GroupMember.filter(group_id=group.id).count() >= MAX_MEMBERS:
        raise Conflict(
            f"a group may have {MAX_MEMBERS} members", field="person", hint="make a second group"
        )
    if await GroupMember.filter(person_id=person.id).count() >= MAX_GROUPS:
        raise Conflict(
            f"{person.id} is in {MAX_GROUPS} groups, as many as there may be", field="person"
        )
    return await GroupMember.create(
        group_id=group.id,
        person_id=person.id,
        writes=writes,
        manages=manages,
        added_at=now,
        added_by=by,
    )


async def remove_group_member(group: Group, person_id: str) -> None:
    """Take a person out of a group.

    :raises NotFound: the person is no member.
    """
    if not await GroupMember.filter(group_id=group.id, person_id=person_id).delete():
        raise NotFound(f"{person_id} is no member of {group.title}")


# ---- reading


def search_groups(text: str = "") -> QuerySet[Group]:
    """Groups with ``text`` in their title or id."""
    if not text:
        return Group.all()
    wanted = composed_name(text)
    return Group.filter(Q(title__icontains=wanted) | Q(id__icontains=wanted))


async def get_group(id: str) -> Group:
    """One group.

    :raises NotFound: there is none with this id.
    """
    group = await Group.get_or_none(id=id)
    if group is None:
        raise no_such_group()
    return group


async def group_seen_by(who: Caller, id: str) -> Group:
    """One group that ``who`` may see: an admin sees each, everybody else their own.

    :raises NotFound: no such group, or one that ``who`` is not in.
    """
    group = await get_group(id)
    if not who.is_admin and not await GroupMember.exists(group_id=id, person_id=who.id):
        raise no_such_group()
    return group


async def group_managed_by(who: Caller, id: str) -> Group:
    """One group whose members ``who`` may change.

    :raises NotFound: no such group, or one that ``who`` is not in.
    :raises Forbidden: ``who`` is a member without that right.
    """
    group = await group_seen_by(who, id)
    managing = GroupMember.filter(group_id=id, person_id=who.id, manages=True)
    if not who.is_admin and not await managing.exists():
        raise Forbidden(
            f"only a manager of {group.title} or an admin may change its members",
            hint="ask one of its managers",
        )
    return group


def group_members(group: Group) -> QuerySet[GroupMember]:
    """A group's members with their people, in the order of their ids."""
    return GroupMember.filter(group_id=group.id).prefetch_related("person").order_by("person_id")


def memberships_of_person(person: str, *, closed: bool = False) -> QuerySet[GroupMember]:
    """A person's groups.

    :param closed: whether to list closed groups as well.
    """
    rows = GroupMember.filter(person_id=person).prefetch_related("group").order_by("group_id")
    return rows if closed else rows.filter(group__closed_at=None)


def no_such_group() -> NotFound:
    """The error for a group that there is none of, and for one that the caller may not see."""
    return NotFound("there is no such group", hint="your groups are on the page Your account")


async def _free_group_id(title: str) -> str:
    for number in range(1, _FREE_IDS_TRIED):
        id = id_from(title, number, otherwise="group")
        if not await Group.exists(id=id):
            return id
    raise Conflict(f"there are too many groups called {title}", field="id", hint="choose an id")
