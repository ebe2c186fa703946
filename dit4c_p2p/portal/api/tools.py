"""``images``: what can be started; ``tools``: the same as admins see it, and change it."""

from msgspec import UNSET

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.api.endpoint import PREFIX, Call, Endpoint
from dit4c_p2p.portal.config import CatalogueImage
from dit4c_p2p.portal.errors import Conflict, NotFound, TookTooLong, Unavailable
from dit4c_p2p.portal.instances.catalogue import CatalogueEntry, catalogue, catalogue_entry_of_tool
from dit4c_p2p.portal.paging import part_of_items
from dit4c_p2p.portal.schemas import (
    ImageView,
    NewTool,
    Page,
    ToolChange,
    ToolsQuery,
    ToolView,
    time_text,
)
from dit4c_p2p.portal.services.tools import add_tool, change_tool, offer_tool_to, with_checked_image
from dit4c_p2p.portal.tools import ToolChanges


async def images(call: Call, query: Page) -> list[ImageView]:
    """The catalogue: what the caller can start."""
    known = await catalogue(call.parts.config, call.who)
    return [
        ImageView(
            name=entry.image.name,
            title=entry.image.title,
            description=entry.image.description,
            image=entry.image.image,
            icon=entry.image.icon,
        )
        for entry in _listed_tools(call, query, known.offered_entries)
    ]


async def list_tools(call: Call, query: ToolsQuery) -> list[ToolView]:
    """All tools in the catalogue's order: the configuration's, then those that were added."""
    known = await catalogue(call.parts.config)
    wanted = [
        entry for entry in known.entries if query.offered is UNSET or entry.offered == query.offered
    ]
    return [tool_view(entry) for entry in _listed_tools(call, query, wanted)]


async def add(call: Call, body: NewTool) -> ToolView:
    """Offer an image, to everyone or to groups, once a machine has fetched it.

    A tag is replaced by the digest that it has now. With ``unchecked`` no machine is asked.
    """
    wanted = CatalogueImage(body.name, body.title, body.description, body.image, body.icon)
    tool = await add_tool(
        call.parts, wanted, by=call.who.id, groups=body.groups, unchecked=body.unchecked
    )
    call.located(f"{PREFIX}/tools/{tool.name}")
    return tool_view(catalogue_entry_of_tool(tool, tuple(sorted(set(body.groups)))))


async def get(call: Call) -> ToolView:
    """One tool."""
    name = call.path("name")
    for entry in (await catalogue(call.parts.config)).entries:
        if entry.image.name == name:
            return tool_view(entry)
    raise NotFound("there is no such tool")


async def change(call: Call, body: ToolChange) -> ToolView:
    """Change a tool that was added, withdraw it or offer it again, to everyone or to groups.

    Of a tool of the configuration only ``groups`` can be changed.
    Instances keep the image that they were made of.
    """
    wanted = ToolChanges(
        title=body.title,
        description=body.description,
        icon=body.icon,
        image=body.image,
        offered=body.offered,
    )
    name = call.path("name")
    wanted = await with_checked_image(call.parts, name, wanted, unchecked=body.unchecked)
    async with in_transaction("portal"):
        if body.groups is not UNSET:
            await offer_tool_to(call.parts, name, body.groups, by=call.who.id)
        if wanted != ToolChanges() or body.groups is UNSET:
            await change_tool(call.parts, name, wanted, by=call.who.id)
    return await get(call)


def tool_view(entry: CatalogueEntry) -> ToolView:
    """The API's form of a tool."""
    image, tool = entry.image, entry.tool
    return ToolView(
        name=image.name,
        title=image.title,
        description=image.description,
        image=image.image,
        icon=image.icon,
        source="added" if tool else "configuration",
        offered=entry.offered,
        added=time_text(tool.added_at) if tool else None,
        added_by=tool.added_by if tool else None,
        groups=list(entry.groups),
    )


def _listed_tools(call: Call, query: Page, entries: list[CatalogueEntry]) -> list[CatalogueEntry]:
    found, cursor = part_of_items(
        entries, query.limit, query.cursor, place=lambda entry: entry.place
    )
    call.next_page(cursor)
    return found


ENDPOINTS = (
    Endpoint("GET", "images", images),
    Endpoint("GET", "tools", list_tools, allowed="admin"),
    Endpoint(
        "POST",
        "tools",
        add,
        allowed="admin",
        status=201,
        location=True,
        errors=(Conflict, Unavailable, TookTooLong),
    ),
    Endpoint("GET", "tools/{name}", get, allowed="admin"),
    Endpoint(
        "PATCH",
        "tools/{name}",
        change,
        allowed="admin",
        errors=(Conflict, Unavailable, TookTooLong),
    ),
)
