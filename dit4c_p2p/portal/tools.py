"""Tools that admins add by reference, beside those of the configuration, which stay as they are.

A tool is never removed, because instances refer to it: it is withdrawn, and can be offered again.
Instances keep the image that they were created from.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.portal.accounts.names import checked_id, checked_name
from dit4c_p2p.portal.config import CatalogueImage, PortalConfig
from dit4c_p2p.portal.errors import BadRequest, Conflict, NotFound
from dit4c_p2p.portal.models import Group, Tool, ToolGroup
from dit4c_p2p.settings import values

_log = logging.getLogger(__name__)

MAX_DESCRIPTION_CHARS = 300
MAX_ICON_CHARS = 2
# Each page shows all of them; what is withdrawn counts.
MAX_TOOLS = 200
# That one tool is offered to.
MAX_GROUPS = 50


@dataclass(frozen=True)
class ToolChanges:
    """A change of a tool; UNSET fields stay."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    icon: str | UnsetType = UNSET
    image: str | UnsetType = UNSET
    offered: bool | UnsetType = UNSET


async def check_new(config: PortalConfig, wanted: CatalogueImage) -> str:
    """See that a tool can be added, whatever its image; return its name.

    :raises BadRequest: a field is not as it must be.
    :raises Conflict: the name is taken, or there are too many.
    """
    name = checked_id(wanted.name, of="a tool", field="name")
    if _is_configured_tool(config, name):
        raise Conflict(
            f"the configuration has a tool called {name}",
            field="name",
            hint="choose another name",
        )
    there = await Tool.get_or_none(name=name)
    if there is not None:
        withdrawn = there.withdrawn_at is not None
        raise Conflict(
            f"there is a tool called {name} already{', which is withdrawn' if withdrawn else ''}",
            field="name",
            hint="offer it again, or choose another name" if withdrawn else "choose another name",
        )
    if await Tool.all().count() >= MAX_TOOLS:
        raise Conflict(
            f"there are {MAX_TOOLS} added tools, as many as there can be",
            hint="change one that is withdrawn",
        )
    for field in ("title", "description", "icon"):
        _checked_tool(field, getattr(wanted, field))
    return name


def check_change(wanted: ToolChanges) -> None:
    """See that a tool can be changed so, whatever its image.

    :raises BadRequest: a field is not as it must be.
    """
    for field in ("title", "description", "icon"):
        text = getattr(wanted, field)
        if text is not UNSET:
            _checked_tool(field, text)


async def create_tool(config: PortalConfig, wanted: CatalogueImage, *, by: str, now: float) -> Tool:
    """A new tool, offered at once; in the caller's transaction.

    :raises BadRequest: a field is not as it must be.
    :raises Conflict: the name is taken, or there are too many.
    """
    name = await check_new(config, wanted)
    tool = Tool(name=name, added_at=now, added_by=by)
    for field in ("title", "description", "icon", "image"):
        setattr(tool, field, _checked_tool(field, getattr(wanted, field)))
    await tool.save(force_create=True)
    once_committed(_log.info, "tool %s: added by %s", name, by)
    return tool


async def update_tool(
    config: PortalConfig, name: str, wanted: ToolChanges, *, by: str, now: float
) -> Tool:
    """Change a tool that was added, withdraw it or offer it again; again is fine.

    :raises NotFound: there is none of this name.
    :raises BadRequest: a field is not as it must be.
    :raises Conflict: it is the configuration's.
    """
    async with in_transaction("portal"):
        tool = await get(config, name)
        for field in ("title", "description", "icon", "image"):
            text = getattr(wanted, field)
            if text is not UNSET:
                setattr(tool, field, _checked_tool(field, text))
        if wanted.offered is True:
            tool.withdrawn_at = None
        elif wanted.offered is False and tool.withdrawn_at is None:
            tool.withdrawn_at = now
        await tool.save()
    once_committed(_log.info, "tool %s: changed by %s", name, by)
    return tool


async def offer_tool_to_groups(config: PortalConfig, name: str, groups: Sequence[str]) -> list[str]:
    """Offer a tool to the members of these groups alone, or to everyone if there are none.

    Works in the caller's transaction; returns the ids without doubles, in order.

    :raises NotFound: no such tool.
    :raises BadRequest: no such group, or too many.
    """
    if not _is_configured_tool(config, name) and not await Tool.exists(name=name):
        raise NotFound("there is no such tool")
    wanted = sorted(set(groups))
    if len(wanted) > MAX_GROUPS:
        raise BadRequest(f"a tool is offered to {MAX_GROUPS} groups at most", field="groups")
    known = {group.id for group in await Group.filter(id__in=wanted).only("id")}
    unknown = [id for id in wanted if id not in known]
    if unknown:
        raise BadRequest(
            f"there is no group called {unknown[0][:60]!r}",
            field="groups",
            hint="the ids are on the page Groups",
        )
    await ToolGroup.filter(tool=name).delete()
    await ToolGroup.bulk_create([ToolGroup(tool=name, group_id=id) for id in wanted])
    return wanted


async def get(config: PortalConfig, name: str) -> Tool:
    """A tool that can be changed.

    :raises NotFound: there is none of this name.
    :raises Conflict: it is the configuration's.
    """
    if _is_configured_tool(config, name):
        raise Conflict(
            f"{name} is from the configuration",
            hint="change it in the portal's file, and restart the portal",
        )
    tool = await Tool.get_or_none(name=name)
    if tool is None:
        raise NotFound("there is no such tool")
    return tool


def _is_configured_tool(config: PortalConfig, name: str) -> bool:
    return any(image.name == name for image in config.catalogue)


def _checked_tool(field: str, text: str) -> str:
    match field:
        case "title":
            return checked_name(text, field=field, required=True)
        case "description":
            return checked_name(text, field=field, max_chars=MAX_DESCRIPTION_CHARS)
        case "icon":
            return checked_name(text, field=field, max_chars=MAX_ICON_CHARS)
    try:
        return values.image.read(text.strip())
    except values.WrongValue as error:
        raise BadRequest(str(error), field=field, hint=error.hint) from None
