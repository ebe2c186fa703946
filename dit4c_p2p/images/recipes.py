"""Which images there are, and what each is made of. Plain records; nothing is done here."""

from dataclasses import dataclass

DEBIAN = "debian"


@dataclass(frozen=True)
class Recipe:
    """One image. Its sources are the shipped folder ``helpers/<name>``.

    ``parent`` is the recipe it is built upon, or :data:`DEBIAN`. A ``requirements.txt`` among the
    sources has its wheels put into the build as ``wheels/``. ``program`` is what the image runs by
    ``python3 -m``: it is put into the build as ``app/``, with just the modules that it imports.
    """

    name: str
    parent: str
    program: str | None = None


@dataclass(frozen=True)
class Offer:
    """An image that users can start, as the catalogue shows it."""

    name: str
    title: str
    description: str


# Parents before children.
RECIPES = (
    Recipe("base", DEBIAN),
    Recipe("infra", "base"),
    Recipe("runtime", "base"),
    Recipe("listener", "runtime", program="dit4c_p2p.helpers.listener"),
    Recipe("auth", "runtime", program="dit4c_p2p.helpers.auth"),
    Recipe("jupyterlab", "base"),
)

OFFERS = (Offer("jupyterlab", "JupyterLab", "Notebooks, Python and a terminal in the browser."),)
