"""``/admin/tools``: what people can start, and more of it by reference. For others there is no such
page."""

from aiohttp import web

from dit4c_p2p.portal import tools
from dit4c_p2p.portal.api.tools import tool_view
from dit4c_p2p.portal.config import CatalogueImage
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.instances.catalogue import catalogue, catalogue_entry_of_tool
from dit4c_p2p.portal.models import Group
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.services.tools import add_tool, change_tool, offer_tool_to, with_checked_image
from dit4c_p2p.portal.tools import ToolChanges

_COLUMNS = {
    "order": ("order",),
    "title": ("title", "order"),
    "state": ("offered", "order"),
    "added": ("added", "order"),
}
_CHANGED = ("title", "description", "icon", "image")
_NEW = dict.fromkeys(("name", *_CHANGED), "")
# That the page lists, to choose from.
_GROUPS_LISTED = 200


def tools_page_routes() -> list[web.RouteDef]:
    """The list, adding, one tool and what can be done."""
    one = "/admin/tools/{name}"
    return [
        web.get("/admin/tools", page_handler(list_on_tools_page, admins=True)),
        web.post(
            "/admin/tools",
            form_handler(
                add_on_tools_page, again=list_on_tools_page, admins=True, done="The tool is added."
            ),
        ),
        web.get(one, page_handler(detail_on_tools_page, admins=True)),
        web.post(
            one,
            form_handler(
                change_on_tools_page, again=detail_on_tools_page, admins=True, done="Changed."
            ),
        ),
        web.get(f"{one}/groups", page_handler(groups_on_tools_page, admins=True)),
        web.post(
            f"{one}/groups",
            form_handler(
                change_groups_on_tools_page,
                again=groups_on_tools_page,
                admins=True,
                done="Changed.",
            ),
        ),
        web.post(
            f"{one}/withdraw",
            form_handler(
                withdraw_on_tools_page,
                again=detail_on_tools_page,
                admins=True,
                done="Withdrawn: nobody can start it.",
            ),
        ),
        web.post(
            f"{one}/offer",
            form_handler(
                offer_on_tools_page, again=detail_on_tools_page, admins=True, done="Offered again."
            ),
        ),
    ]


async def list_on_tools_page(call: PageCall) -> web.Response:
    """Show all tools in the catalogue's order, and the form to add one."""
    listing = Listing.asked(call, "/admin/tools", _COLUMNS, usual="order")
    known = (await catalogue(call.parts.config)).entries
    found = listing.items(
        [(place, tool_view(entry)) for place, entry in enumerate(known)],
        key=lambda one, name: one[0] if name == "order" else getattr(one[1], name),
        text=lambda one: " ".join([one[1].title, one[1].name, one[1].image, *one[1].groups]),
    )
    return call.page(
        "admin_tools.html",
        tools=[tool for _, tool in found],
        listing=listing,
        form={**_NEW, "groups": "", "unchecked": "", **call.form},
    )


async def add_on_tools_page(call: PageCall) -> web.Response:
    """Add a tool, offered at once."""
    typed = {field: call.form.get(field, "") for field in _NEW}
    wanted = CatalogueImage(**{**typed, "name": typed["name"].strip()})
    groups = call.form.get("groups", "").replace(",", " ").split()
    unchecked = call.form.get("unchecked") == "1"
    await add_tool(call.parts, wanted, by=call.by, groups=groups, unchecked=unchecked)
    return go_to("/admin/tools")


async def detail_on_tools_page(call: PageCall) -> web.Response:
    """Show one tool; entered values stay in its form.

    :raises NotFound, Conflict: it is none that can be changed.
    """
    tool = await tools.get(call.parts.config, call.path("name"))
    kept = {field: getattr(tool, field) for field in _CHANGED}
    return call.page(
        "admin_tool.html",
        tool=tool_view(catalogue_entry_of_tool(tool)),
        form={"unchecked": "", **kept, **call.form},
    )


async def groups_on_tools_page(call: PageCall) -> web.Response:
    """Show to which groups a tool, also one of the configuration, is offered.

    :raises NotFound: no such tool.
    """
    name = call.path("name")
    entries = (await catalogue(call.parts.config)).entries
    entry = next((one for one in entries if one.image.name == name), None)
    if entry is None:
        raise NotFound("there is no such tool")
    return call.page(
        "tool_groups.html",
        tool=tool_view(entry),
        groups=await Group.filter(closed_at=None).order_by("id").limit(_GROUPS_LISTED),
        form={"groups": " ".join(entry.groups), **call.form},
    )


async def change_groups_on_tools_page(call: PageCall) -> web.Response:
    """Offer a tool to groups alone, or to everyone."""
    groups = call.form.get("groups", "").replace(",", " ").split()
    await offer_tool_to(call.parts, call.path("name"), groups, by=call.by)
    return go_to("/admin/tools")


async def change_on_tools_page(call: PageCall) -> web.Response:
    """Change title, description, icon or image, for later starts."""
    typed = {**_NEW, **call.form}
    return await _change_for_tools_page(
        call,
        ToolChanges(
            title=typed["title"],
            description=typed["description"],
            icon=typed["icon"],
            image=typed["image"],
        ),
    )


async def withdraw_on_tools_page(call: PageCall) -> web.Response:
    """Withdraw the tool, so that nobody can start it."""
    return await _change_for_tools_page(call, ToolChanges(offered=False))


async def offer_on_tools_page(call: PageCall) -> web.Response:
    """Offer the tool again."""
    return await _change_for_tools_page(call, ToolChanges(offered=True))


async def _change_for_tools_page(call: PageCall, wanted: ToolChanges) -> web.Response:
    name = call.path("name")
    unchecked = call.form.get("unchecked") == "1"
    wanted = await with_checked_image(call.parts, name, wanted, unchecked=unchecked)
    await change_tool(call.parts, name, wanted, by=call.by)
    return go_to(f"/admin/tools/{name}")
