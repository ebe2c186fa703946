"""``groups``: people who share files; members see their group, managers change its members."""

from msgspec import UNSET

from dit4c_p2p.portal.accounts import groups
from dit4c_p2p.portal.accounts.limits import KEEP_LIMITS, LimitsChange
from dit4c_p2p.portal.api.endpoint import PREFIX, Call, Endpoint
from dit4c_p2p.portal.errors import Conflict
from dit4c_p2p.portal.models import GroupMember
from dit4c_p2p.portal.paging import page_of_rows, part_of_items
from dit4c_p2p.portal.schemas import Page
from dit4c_p2p.portal.services.groups import (
    close_group,
    create_group,
    limit_group,
    put_member_into_group,
    rename_group,
    take_member_out_of_group,
)
from dit4c_p2p.portal.storage.schemas import (
    GroupChange,
    GroupsQuery,
    GroupView,
    MemberView,
    NewGroup,
    NewMember,
    group_view,
    member_view,
)


async def list_groups(call: Call, query: GroupsQuery) -> list[GroupView]:
    """The groups that the caller is in, the newest first; an admin gets all."""
    rows = groups.search_groups(query.q)
    if not call.who.is_admin:
        rows = rows.filter(members__person_id=call.who.id)
    found, cursor = await page_of_rows(rows, query.limit, query.cursor, time="created_at", id="id")
    call.next_page(cursor)
    return [group_view(group) for group in found]


async def create(call: Call, body: NewGroup) -> GroupView:
    """Make a group without members."""
    group = await create_group(call.parts, body.title, id=body.id, by=call.who.id)
    call.located(f"{PREFIX}/groups/{group.id}")
    return group_view(group)


async def get(call: Call) -> GroupView:
    """One group, for its members and admins."""
    return group_view(await groups.group_seen_by(call.who, call.path("id")))


async def change(call: Call, body: GroupChange) -> GroupView:
    """Give a group another title or limits, close it or open it again."""
    id = call.path("id")
    group = await groups.get_group(id)
    if body.title is not UNSET:
        group = await rename_group(call.parts, id, body.title, by=call.who.id)
    if body.closed is not UNSET:
        group = await close_group(call.parts, id, closed=body.closed, by=call.who.id)
    limits = LimitsChange(body.instances_limit, body.instances_at_once_limit)
    if limits != KEEP_LIMITS:
        group = await limit_group(call.parts, id, limits, by=call.who.id)
    return group_view(group)


async def list_members(call: Call, query: Page) -> list[MemberView]:
    """A group's members in the order of their ids, for its members and admins."""
    group = await groups.group_seen_by(call.who, call.path("id"))
    members: list[GroupMember] = await groups.group_members(group)
    found, cursor = part_of_items(
        members, query.limit, query.cursor, place=lambda member: (0.0, member.person_id)
    )
    call.next_page(cursor)
    return [member_view(member) for member in found]


async def put_member(call: Call, body: NewMember) -> MemberView:
    """Put a person into a group, or change what they may do; for its managers and admins."""
    id = call.path("id")
    member = await put_member_into_group(
        call.parts, call.who, id, body.person, writes=body.write, manages=body.manage
    )
    await member.fetch_related("person")
    return member_view(member)


async def take_member(call: Call) -> list[MemberView]:
    """Take a person out of a group, or leave it; answers with the members that the caller sees."""
    id = call.path("id")
    await take_member_out_of_group(call.parts, call.who, id, call.path("person"))
    if not call.who.is_admin and not await GroupMember.exists(group_id=id, person_id=call.who.id):
        return []
    group = await groups.get_group(id)
    return [member_view(member) for member in await groups.group_members(group)]


ENDPOINTS = (
    Endpoint("GET", "groups", list_groups),
    Endpoint(
        "POST",
        "groups",
        create,
        allowed="admin",
        status=201,
        location=True,
        errors=(Conflict,),
    ),
    Endpoint("GET", "groups/{id}", get),
    Endpoint("PATCH", "groups/{id}", change, allowed="admin"),
    Endpoint("GET", "groups/{id}/members", list_members),
    Endpoint("POST", "groups/{id}/members", put_member, errors=(Conflict,)),
    Endpoint("POST", "groups/{id}/members/{person}/remove", take_member),
)
