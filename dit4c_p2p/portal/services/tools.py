"""Tools of the catalogue: added, offered to groups, changed; written down in the audit log."""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import UNSET

from dit4c_p2p.database import in_transaction
from dit4c_p2p.oci.reference import split_image, split_tag
from dit4c_p2p.portal import tools
from dit4c_p2p.portal.config import CatalogueImage
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import Tool
from dit4c_p2p.portal.tools import ToolChanges

# An admin waits for the page meanwhile; what takes longer goes on at the machine.
CHECK_S = 60.0


async def add_tool(
    parts: PortalContext,
    wanted: CatalogueImage,
    *,
    by: str,
    groups: Sequence[str] = (),
    unchecked: bool = False,
) -> Tool:
    """A new tool, once a machine has its image.

    See :func:`tools.create_tool`, :func:`offer_tool_to`.

    :param unchecked: offer it whether or not it is to be had; the reference is by digest then.
    :raises BadRequest, Unavailable, TookTooLong: no machine has it, see ``check_image``.
    """
    if not unchecked:
        async with in_transaction("portal"):
            await tools.check_new(parts.config, wanted)
        wanted = replace(wanted, image=await _checked(parts, wanted.image))
    async with in_transaction("portal"):
        tool = await tools.create_tool(parts.config, wanted, by=by, now=parts.clock())
        if groups:
            await offer_tool_to(parts, tool.name, groups, by=by)
        await parts.audit.record_required("tool.create", who=by, about=f"{tool.name} {tool.image}")
    return tool


async def _checked(parts: PortalContext, reference: str) -> str:
    reference = reference.strip()
    if split_tag(reference) is None and split_image(reference) is None:
        raise BadRequest(
            f"{reference[:60]!r} is not the name of an image",
            field="image",
            hint="write it as registry.example.org/name:tag, or with @sha256:… for the tag",
        )
    return await parts.links.check_image(parts.config.scheduler, reference, CHECK_S)


async def offer_tool_to(parts: PortalContext, name: str, groups: Sequence[str], *, by: str) -> None:
    """Offer a tool, also one of the configuration, to these groups alone; none: to everyone.

    :raises NotFound: no such tool.
    :raises BadRequest: no such group.
    """
    async with in_transaction("portal"):
        offered_to = await tools.offer_tool_to_groups(parts.config, name, groups)
        about = f"{name}: to {', '.join(offered_to) or 'everyone'}"
        await parts.audit.record_required("tool.groups", who=by, about=about)


async def with_checked_image(
    parts: PortalContext, name: str, wanted: ToolChanges, *, unchecked: bool
) -> ToolChanges:
    """The same change with another image's digest, once a machine has it; see ``check_image``.

    :param unchecked: take another image whether or not it is to be had.
    :raises BadRequest, Unavailable, TookTooLong: no machine has it.
    :raises NotFound, Conflict: there is no such tool to change.
    """
    if wanted.image is UNSET or unchecked:
        return wanted
    before = await tools.get(parts.config, name)
    if wanted.image.strip() == before.image:
        return wanted
    tools.check_change(wanted)
    return replace(wanted, image=await _checked(parts, wanted.image))


async def change_tool(parts: PortalContext, name: str, wanted: ToolChanges, *, by: str) -> Tool:
    """Change a tool; see :func:`tools.update_tool`."""
    async with in_transaction("portal"):
        tool = await tools.update_tool(parts.config, name, wanted, by=by, now=parts.clock())
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
        shuts = wanted == ToolChanges(offered=False)
        write = parts.audit.record_best_effort if shuts else parts.audit.record_required
        await write("tool.change", who=by, about=about)
    return tool
