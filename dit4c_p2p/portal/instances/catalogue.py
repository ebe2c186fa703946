"""The catalogue of tools: the images of the configuration, then the tools that admins added.

Every page and every start reads it from the database, so that a change counts at once.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.config import CatalogueImage, PortalConfig
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import GroupMember, Tool, ToolGroup
from dit4c_p2p.portal.paging import Place


@dataclass(frozen=True)
class CatalogueEntry:
    """One image. ``tool`` is its row, None if it is the configuration's; ``place`` sorts.

    ``groups`` are the ids of those whose members alone it is offered to; none: to everyone.
    """

    image: CatalogueImage
    place: Place
    tool: Tool | None = None
    groups: tuple[str, ...] = ()

    @property
    def offered(self) -> bool:
        """Whether people can start it."""
        return self.tool is None or self.tool.withdrawn_at is None


@dataclass(frozen=True)
class Catalogue:
    """Everything as it is at one moment, also what was withdrawn, in the order of the page.

    ``member_of`` are the open groups of whoever looks; None: somebody whom every tool is offered
    to.
    """

    entries: tuple[CatalogueEntry, ...]
    member_of: frozenset[str] | None = None

    @property
    def offered_entries(self) -> list[CatalogueEntry]:
        """What whoever looks can start, as entries."""
        return [entry for entry in self.entries if entry.offered and self._is_for(entry)]

    @property
    def offered(self) -> list[CatalogueImage]:
        """What whoever looks can start."""
        return [entry.image for entry in self.offered_entries]

    def _is_for(self, entry: CatalogueEntry) -> bool:
        if not entry.groups or self.member_of is None:
            return True
        return not self.member_of.isdisjoint(entry.groups)

    def offers(self, text: str) -> CatalogueImage | None:
        """What can be started by this name, or by this id or reference."""
        found = (image for image in self.offered if text in (image.name, image.image))
        return next(found, None)

    def named(self, name: str) -> CatalogueImage | None:
        """What an instance was made of: it keeps title and icon when that is withdrawn."""
        return next((entry.image for entry in self.entries if entry.image.name == name), None)


def arranged_catalogue(
    config: PortalConfig,
    tools: list[Tool],
    groups: Mapping[str, tuple[str, ...]] | None = None,
    member_of: frozenset[str] | None = None,
) -> Catalogue:
    """The configuration's images first; where a name is in both, the configuration's counts.

    :param groups: by a tool's name, the groups that it is offered to alone.
    """
    first, names = len(config.catalogue), {image.name for image in config.catalogue}
    only = groups or {}
    fixed = [
        CatalogueEntry(image, (float(number - first), image.name), groups=only.get(image.name, ()))
        for number, image in enumerate(config.catalogue)
    ]
    added = [
        catalogue_entry_of_tool(tool, only.get(tool.name, ()))
        for tool in tools
        if tool.name not in names
    ]
    return Catalogue((*fixed, *sorted(added, key=lambda entry: entry.place)), member_of)


async def catalogue(config: PortalConfig, who: Caller | None = None) -> Catalogue:
    """The catalogue as it is now.

    :param who: whoever looks; every tool is offered to admins, and to None.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for row in await ToolGroup.all().order_by("tool", "group_id"):
        groups[row.tool].append(row.group_id)
    member_of = None
    if who is not None and not who.is_admin and groups:
        mine = GroupMember.filter(person_id=who.id, group__closed_at=None)
        member_of = frozenset(map(str, await mine.values_list("group_id", flat=True)))
    found = {tool: tuple(ids) for tool, ids in groups.items()}
    return arranged_catalogue(config, await Tool.all(), found, member_of)


def catalogue_entry_of_tool(tool: Tool, groups: tuple[str, ...] = ()) -> CatalogueEntry:
    """An added tool, as the catalogue has it."""
    image = CatalogueImage(tool.name, tool.title, tool.description, tool.image, tool.icon)
    return CatalogueEntry(image, (tool.added_at, tool.name), tool, groups)


def chosen_image(known: Catalogue, image: str) -> CatalogueImage:
    """What a person starts by that name, id or reference; a tool for other groups looks like none.

    :raises BadRequest: there is no such image, or not any more.
    """
    found = known.offers(image)
    if found is not None:
        return found
    names = ", ".join(offered.name for offered in known.offered) or "none"
    hidden = {entry.image.name for entry in known.entries if entry.offered}
    gone = None if image in hidden else known.named(image)
    raise BadRequest(
        f"{gone.title} is not offered any more" if gone else f"there is no image called {image!r}",
        field="image",
        hint=f"images are: {names}",
    )
