"""The catalogue of tools: the images of the configuration, then the tools that admins added.

Every page and every start reads it from the database, so that a change counts at once.
"""

from dataclasses import dataclass

from dit4c_p2p.portal.config import CatalogueImage, PortalConfig
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import Tool
from dit4c_p2p.portal.paging import Place


@dataclass(frozen=True)
class Entry:
    """One image. ``tool`` is its row, None if it is the configuration's; ``place`` sorts."""

    image: CatalogueImage
    place: Place
    tool: Tool | None = None

    @property
    def offered(self) -> bool:
        """Whether people can start it."""
        return self.tool is None or self.tool.withdrawn_at is None


@dataclass(frozen=True)
class Catalogue:
    """Everything as it is at one moment, also what was withdrawn, in the order of the page."""

    entries: tuple[Entry, ...]

    @property
    def offered(self) -> list[CatalogueImage]:
        """What can be started."""
        return [entry.image for entry in self.entries if entry.offered]

    def offers(self, text: str) -> CatalogueImage | None:
        """What can be started by this name, or by this id or reference."""
        found = (image for image in self.offered if text in (image.name, image.image))
        return next(found, None)

    def named(self, name: str) -> CatalogueImage | None:
        """What an instance was made of: it keeps title and icon when that is withdrawn."""
        return next((entry.image for entry in self.entries if entry.image.name == name), None)


def arranged(config: PortalConfig, tools: list[Tool]) -> Catalogue:
    """The configuration's images first; where a name is in both, the configuration's counts."""
    first, names = len(config.catalogue), {image.name for image in config.catalogue}
    fixed = [
        Entry(image, (float(number - first), image.name))
        for number, image in enumerate(config.catalogue)
    ]
    added = [entry_of(tool) for tool in tools if tool.name not in names]
    return Catalogue((*fixed, *sorted(added, key=lambda entry: entry.place)))


async def catalogue(config: PortalConfig) -> Catalogue:
    """The catalogue as it is now."""
    return arranged(config, await Tool.all())


def entry_of(tool: Tool) -> Entry:
    """An added tool, as the catalogue has it."""
    image = CatalogueImage(tool.name, tool.title, tool.description, tool.image, tool.icon)
    return Entry(image, (tool.added_at, tool.name), tool)


def chosen_of(known: Catalogue, image: str) -> CatalogueImage:
    """What a person starts by that name, id or reference.

    :raises BadRequest: there is no such image, or not any more.
    """
    found = known.offers(image)
    if found is not None:
        return found
    names = ", ".join(offered.name for offered in known.offered) or "none"
    gone = known.named(image)
    raise BadRequest(
        f"{gone.title} is not offered any more" if gone else f"there is no image called {image!r}",
        field="image",
        hint=f"images are: {names}",
    )
