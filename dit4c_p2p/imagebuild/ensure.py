"""Build all images that a node needs, if they are missing or outdated."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import aiodocker
import aiohttp

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.build import BuildFailed, ImageBuilder
from dit4c_p2p.imagebuild.debian import ensure_debian
from dit4c_p2p.imagebuild.docker_daemon import DockerDaemon, ensure_engine
from dit4c_p2p.imagebuild.lock import exclusive_lock_file
from dit4c_p2p.imagebuild.progress import Progress
from dit4c_p2p.imagebuild.recipes import ALL_TOOLS, DEBIAN, OFFERS, image_recipes_for

LOCK_STEP = "Images"

# Calls that build or pull have limits of their own.
_CALL_S = 60.0


@dataclass(frozen=True)
class CatalogueImage:
    """An image that users can start; ``image`` is its id (``sha256:…``)."""

    name: str
    title: str
    description: str
    image: str
    icon: str = ""


@dataclass(frozen=True)
class Images:
    """The ids (``sha256:…``) of the images that pods are made of, and the catalogue."""

    infra: str
    listener: str
    auth: str
    upload: str
    storage: str
    catalogue: tuple[CatalogueImage, ...]


def default_cache_folder() -> Path:
    """``$XDG_CACHE_HOME/dit4c-p2p``, or ``~/.cache/dit4c-p2p``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path counts as unset.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "dit4c-p2p"


async def ensure_images(
    progress: Progress,
    cache_folder: Path,
    *,
    engine: DockerDaemon | None = None,
    tools: Collection[str] = ALL_TOOLS,
    repository: str = "dit4c",
) -> Images:
    """Return the images, after building those that are missing or have changed.

    :param engine: the engine to build with; None: what :func:`ensure_engine` finds.
    :param tools: the names of the catalogue's tools.

    Several processes may call it at once: the second waits and finds everything done. A cancelled
    build leaves nothing half done.

    :raises ConfigError: this machine lacks something that the images need.
    :raises BuildFailed: an image can't be built, or the engine went away.
    :raises DiskFull: there is no room.
    """
    engine = engine or await ensure_engine(progress)
    try:
        cache_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {cache_folder} can't be made: {error.strerror}",
            hint="Set XDG_CACHE_HOME to a folder that you may write to.",
        ) from error
    waiting = "waiting for another process that is building them"
    async with exclusive_lock_file(
        cache_folder / "images.lock", lambda: progress(LOCK_STEP, waiting)
    ):
        try:
            return await _ensure_all_images(engine, progress, cache_folder, tools, repository)
        except (aiodocker.DockerError, aiohttp.ClientError, TimeoutError) as error:
            raise BuildFailed(
                f"the Docker engine failed: {error or type(error).__name__}",
                hint="See that it runs (docker info), and try again.",
            ) from error


async def _ensure_all_images(
    engine: DockerDaemon,
    progress: Progress,
    cache_folder: Path,
    tools: Collection[str],
    repository: str,
) -> Images:
    async with engine.client(call_s=_CALL_S) as docker:
        builder = ImageBuilder(docker, engine, cache_folder, progress, repository=repository)
        debian = await ensure_debian(
            docker, builder.tag(DEBIAN), engine.architecture, cache_folder, progress
        )
        ids = {DEBIAN: debian}
        for recipe in image_recipes_for(tools):
            ids[recipe.name] = await builder.ensure(recipe, ids[recipe.parent])
    return Images(
        infra=ids["infra"],
        listener=ids["listener"],
        auth=ids["auth"],
        upload=ids["upload"],
        storage=ids["storage"],
        catalogue=tuple(
            CatalogueImage(offer.name, offer.title, offer.description, ids[offer.name], offer.icon)
            for offer in OFFERS
            if offer.name in tools
        ),
    )
