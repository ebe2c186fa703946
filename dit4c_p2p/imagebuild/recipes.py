"""The images and their sources, as plain records."""

from collections.abc import Iterable
from dataclasses import dataclass

from dit4c_p2p.errors import ConfigError

DEBIAN = "debian"


@dataclass(frozen=True)
class ImageRecipe:
    """One image. Its sources are the shipped folder ``helpers/<folder>``, by default its name.

    ``parent`` is the recipe it is built upon, or :data:`DEBIAN`. A ``requirements.txt`` among the
    sources has its wheels put into the build as ``wheels/``. ``program`` is what the image runs by
    ``python3 -m``: it is put into the build as ``app/``, with just the modules that it imports.
    """

    name: str
    parent: str
    program: str | None = None
    folder: str = ""

    @property
    def source_folder(self) -> str:
        """The folder of its sources, relative to ``helpers/``."""
        return self.folder or self.name


@dataclass(frozen=True)
class ToolOffer:
    """A tool: an image that users can start, as the catalogue shows it.

    ``icon`` is one or two letters.
    """

    name: str
    title: str
    description: str
    icon: str


# Parents before children.
RECIPES = (
    ImageRecipe("base", DEBIAN),
    ImageRecipe("infra", "base", folder="pod/infra"),
    ImageRecipe("runtime", "base", folder="pod/runtime"),
    ImageRecipe("listener", "runtime", program="dit4c_p2p.helpers.listener", folder="pod/listener"),
    ImageRecipe("auth", "runtime", program="dit4c_p2p.helpers.auth", folder="pod/auth"),
    ImageRecipe("upload", "runtime", program="dit4c_p2p.helpers.upload", folder="pod/upload"),
    ImageRecipe("storage", "runtime", program="dit4c_p2p.helpers.storage", folder="pod/storage"),
    ImageRecipe("jupyterlab", "base", folder="tools/jupyterlab"),
    ImageRecipe("terminal", "base", folder="tools/terminal"),
    ImageRecipe("openrefine", "base", folder="tools/openrefine"),
)

# In the catalogue's order.
OFFERS = (
    ToolOffer("jupyterlab", "JupyterLab", "Notebooks, Python and a terminal in the browser.", "J"),
    ToolOffer("terminal", "Terminal", "A Linux shell with git, Python and editors.", ">_"),
    ToolOffer("openrefine", "OpenRefine", "Clean, sort out and transform messy tables.", "OR"),
)

ALL_TOOLS = tuple(offer.name for offer in OFFERS)


def choose_tools(text: str) -> tuple[str, ...]:
    """The tools named in ``text``: names with commas between them, or ``all``.

    :raises ConfigError: one of them does not exist, or none is named.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return ALL_TOOLS
    hint = f"There are {', '.join(ALL_TOOLS)}; 'all' means all of them."
    if not names:
        raise ConfigError("no tool is named", hint=hint)
    for name in names:
        if name not in ALL_TOOLS:
            raise ConfigError(f"there is no tool {name!r}", hint=hint)
    return tuple(name for name in ALL_TOOLS if name in names)


def image_recipes_for(tools: Iterable[str]) -> tuple[ImageRecipe, ...]:
    """Return the recipes for a node with these tools, parents first; the pod's parts always."""
    chosen = set(tools)
    parents = {recipe.parent for recipe in RECIPES if recipe.name in chosen}
    left_out = set(ALL_TOOLS) - chosen - parents
    return tuple(recipe for recipe in RECIPES if recipe.name not in left_out)
