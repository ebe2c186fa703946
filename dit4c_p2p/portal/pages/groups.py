"""``/groups/{id}``: a group for its members; ``/admin/groups``: all of them, for admins alone."""

from aiohttp import web

from dit4c_p2p.portal.accounts import groups
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import GroupMember
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.limits import limit_fields, limits_in
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.services.groups import (
    close_group,
    create_group,
    limit_group,
    put_member_into_group,
    rename_group,
    take_member_out_of_group,
)
from dit4c_p2p.portal.storage.homes import tree_of_group
from dit4c_p2p.portal.storage.schemas import group_view, member_view

_COLUMNS = {
    "title": ("title", "id"),
    "state": ("closed_at", "id"),
    "created": ("created_at", "id"),
}
_RIGHTS = {"read": "Read", "write": "Read and write"}
_NEW_GROUP = {"title": "", "id": ""}
_NEW_MEMBER = {"person": "", "right": "read", "manage": ""}


def groups_page_routes() -> list[web.RouteDef]:
    """The list, one group, and what can be done."""
    one = "/groups/{id}"
    return [
        web.get("/admin/groups", page_handler(list_on_groups_page, admins=True)),
        web.post(
            "/admin/groups",
            form_handler(
                create_on_groups_page,
                again=list_on_groups_page,
                admins=True,
                done="The group is made.",
            ),
        ),
        web.get(one, page_handler(group_on_groups_page)),
        web.post(
            f"{one}/members",
            form_handler(
                put_member_on_groups_page,
                again=group_on_groups_page,
                done="The member is added or changed.",
            ),
        ),
        web.post(
            f"{one}/members/{{person}}/remove",
            form_handler(take_member_on_groups_page, done="The member is removed."),
        ),
        web.get(f"{one}/leave", page_handler(confirm_leave_on_groups_page)),
        web.post(
            f"{one}/leave", form_handler(leave_on_groups_page, done="You have left the group.")
        ),
        web.post(
            f"{one}/title",
            form_handler(
                rename_on_groups_page, again=group_on_groups_page, admins=True, done="Renamed."
            ),
        ),
        web.post(
            f"{one}/limits",
            form_handler(
                change_limits_on_groups_page,
                again=group_on_groups_page,
                admins=True,
                done="The limits are changed.",
            ),
        ),
        web.post(f"{one}/close", form_handler(close_on_groups_page, admins=True, done="Closed.")),
        web.post(
            f"{one}/open", form_handler(reopen_on_groups_page, admins=True, done="Opened again.")
        ),
    ]


async def list_on_groups_page(call: PageCall) -> web.Response:
    """All groups, the newest first, and a form for one more."""
    listing = Listing.asked(call, "/admin/groups", _COLUMNS, usual="-created")
    found = await listing.rows(groups.search_groups(listing.wanted))
    return call.page(
        "admin_groups.html",
        groups=[
            {
                "view": group_view(group),
                "members": await GroupMember.filter(group_id=group.id).count(),
            }
            for group in found
        ],
        listing=listing,
        form={**_NEW_GROUP, **call.form},
    )


async def create_on_groups_page(call: PageCall) -> web.Response:
    """A new group; its members are put in on its own page."""
    form = call.form
    group = await create_group(
        call.parts, form.get("title", ""), id=form.get("id", "").strip(), by=call.by
    )
    return go_to(f"/groups/{group.id}")


async def group_on_groups_page(call: PageCall) -> web.Response:
    """A group and its members; forms for whoever may change them."""
    who = call.session.who
    group = await groups.group_seen_by(who, call.path("id"))
    members = [member_view(member) for member in await groups.group_members(group)]
    own = next((member for member in members if member.person == who.id), None)
    return call.page(
        "group.html",
        group=group_view(group),
        members=members,
        own=own,
        manages=who.is_admin or (own is not None and own.manage),
        rights=_RIGHTS,
        tree=tree_of_group(group.id),
        form={**_NEW_MEMBER, "title": group.title, **limit_fields(group), **call.form},
    )


async def put_member_on_groups_page(call: PageCall) -> web.Response:
    """One more member, or other rights for one."""
    id, form = call.path("id"), call.form
    right = form.get("right", "read")
    if right not in _RIGHTS:
        raise BadRequest("a member may read, or read and write", field="right")
    person = form.get("person", "").strip()
    if not person:
        raise BadRequest("say who, by the person's id", field="person")
    await put_member_into_group(
        call.parts,
        call.session.who,
        id,
        person,
        writes=right == "write",
        manages=form.get("manage") == "1",
    )
    return go_to(f"/groups/{id}")


async def take_member_on_groups_page(call: PageCall) -> web.Response:
    """One member fewer."""
    id = call.path("id")
    await groups.group_managed_by(call.session.who, id)
    await take_member_out_of_group(call.parts, call.session.who, id, call.path("person"))
    return go_to("/account" if await _gone_for_groups_page(call, id) else f"/groups/{id}")


async def confirm_leave_on_groups_page(call: PageCall) -> web.Response:
    """What leaving means, before it is done."""
    group = await groups.group_seen_by(call.session.who, call.path("id"))
    return call.page("leave_group.html", group=group_view(group))


async def leave_on_groups_page(call: PageCall) -> web.Response:
    """The answer "yes"."""
    await take_member_out_of_group(call.parts, call.session.who, call.path("id"), call.by)
    return go_to("/account")


async def rename_on_groups_page(call: PageCall) -> web.Response:
    """Another title."""
    id = call.path("id")
    await rename_group(call.parts, id, call.form.get("title", ""), by=call.by)
    return go_to(f"/groups/{id}")


async def change_limits_on_groups_page(call: PageCall) -> web.Response:
    """Choose how many instances each member may have."""
    id = call.path("id")
    await limit_group(call.parts, id, limits_in(call.form), by=call.by)
    return go_to(f"/groups/{id}")


async def close_on_groups_page(call: PageCall) -> web.Response:
    """Its folder is taken away from its members."""
    return await _close_for_groups_page(call, closed=True)


async def reopen_on_groups_page(call: PageCall) -> web.Response:
    """Its folder is given back."""
    return await _close_for_groups_page(call, closed=False)


async def _close_for_groups_page(call: PageCall, *, closed: bool) -> web.Response:
    id = call.path("id")
    await close_group(call.parts, id, closed=closed, by=call.by)
    return go_to(f"/groups/{id}")


async def _gone_for_groups_page(call: PageCall, id: str) -> bool:
    """Whether the caller can't see the group any more."""
    who = call.session.who
    return not who.is_admin and not await GroupMember.exists(group_id=id, person_id=who.id)
