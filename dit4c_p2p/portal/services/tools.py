"""Tools of the catalogue: added, offered to groups, changed; written down in the audit log."""

from collections.abc import Sequence

from msgspec import UNSET

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal import tools
from dit4c_p2p.portal.config import CatalogueImage
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.models import Tool
from dit4c_p2p.portal.tools import Change


async def add_tool(
    parts: PortalContext, wanted: CatalogueImage, *, by: str, groups: Sequence[str] = ()
) -> Tool:
    """A new tool; see :func:`tools.create` and :func:`offer_tool_to`."""
    async with in_transaction("portal"):
        tool = await tools.create(parts.config, wanted, by=by, now=parts.clock())
        if groups:
            await offer_tool_to(parts, tool.name, groups, by=by)
        await parts.audit.record_required("tool.create", who=by, about=f"{tool.name} {tool.image}")
    return tool


async def offer_tool_to(parts: PortalContext, name: str, groups: Sequence[str], *, by: str) -> None:
    """Offer a tool, also one of the configuration, to these groups alone; none: to everyone.

    :raises NotFound: no such tool.
    :raises BadRequest: no such group.
    """
    async with in_transaction("portal"):
        offered_to = await tools.offer_to(parts.config, name, groups)
        about = f"{name}: to {', '.join(offered_to) or 'everyone'}"
        await parts.audit.record_required("tool.groups", who=by, about=about)


async def change_tool(parts: PortalContext, name: str, wanted: Change, *, by: str) -> Tool:
    """Change a tool; see :func:`tools.change`."""
    async with in_transaction("portal"):
        tool = await tools.change(parts.config, name, wanted, by=by, now=parts.clock())
        words = {
            "title": wanted.title is not UNSET,
            "description": wanted.description is not UNSET,
            "icon": wanted.icon is not UNSET,
            f"image {tool.image}": wanted.image is not UNSET,
            "withdrawn": wanted.offered is False,
            "offered": wanted.offered is True,
        }
        about = f"{name}: {', '.join(word for word, said in words.items() if said) or 'nothing'}"
        # A tool that must not be started any more goes also on a full disk.
        shuts = wanted == Change(offered=False)
        write = parts.audit.record_best_effort if shuts else parts.audit.record_required
        await write("tool.change", who=by, about=about)
    return tool
