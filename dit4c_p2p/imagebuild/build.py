"""Build one image with the engine, unless an image with the same contents exists."""

import logging
import os
import re
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp

from dit4c_p2p import resources
from dit4c_p2p.errors import DitError
from dit4c_p2p.imagebuild.closure import files_needed_by_program
from dit4c_p2p.imagebuild.context import (
    ContextFile,
    context_files_below,
    context_hash,
    pack_context,
)
from dit4c_p2p.imagebuild.disk import DiskFull, says_disk_full
from dit4c_p2p.imagebuild.docker_daemon import DockerDaemon
from dit4c_p2p.imagebuild.progress import Progress
from dit4c_p2p.imagebuild.recipes import ImageRecipe
from dit4c_p2p.imagebuild.wheels import PYTHON_VERSION, ensure_wheels

log = logging.getLogger(__name__)

# The image's label with the hash of all that it was built from.
BUILD_LABEL = "dit4c.build"

REQUIREMENTS = "requirements.txt"

_BUILD_S = 3600.0
_OUTPUT_LINES = 2000

# What the engine itself says between the output of a build's steps.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CHATTER = ("--->", "Removing intermediate container ", "Step ")

# Docker hands these to RUN steps and leaves them out of the cache's keys.
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")


class BuildFailed(DitError):
    """An image could not be built; the hint says where its whole output is."""

    code = "image_build_failed"


class ImageBuilder:
    """Builds recipes into tags ``<repository>/<name>:local`` of one engine.

    ``docker`` is a client of the engine. ``cache_folder`` exists; wheels and the output of failed
    builds are kept there. ``sources`` holds a folder for each recipe, ``packages`` the
    package whose programs go into images. One build at a time.
    """

    def __init__(
        self,
        docker: aiodocker.Docker,
        engine: DockerDaemon,
        cache_folder: Path,
        progress: Progress,
        *,
        repository: str = "dit4c",
        sources: Path | None = None,
        packages: Path | None = None,
    ) -> None:
        self._docker = docker
        self._engine = engine
        self._cache_folder = cache_folder
        self._progress = progress
        self._repository = repository
        self._sources = sources or resources.folder("image_sources")
        self._packages = packages or Path(resources.__file__).parent.parent

    def tag(self, name: str) -> str:
        """Return the tag of a recipe's image."""
        return f"{self._repository}/{name}:local"

    async def ensure(self, recipe: ImageRecipe, parent_id: str) -> str:
        """Return the id of the recipe's image upon ``parent_id``; build it if it is missing or
        outdated.

        An image that is replaced stays with the engine, untagged: pods may still run from it.

        :raises BuildFailed: a step of the build failed.
        :raises DiskFull: there is no room.
        :raises ConfigError: its wheels can't be downloaded.
        """
        step = f"{recipe.name} image"
        files = self._files(recipe)
        wanted = context_hash(files, parent_id, self._engine.architecture, PYTHON_VERSION)
        tag = self.tag(recipe.name)
        current = await self._current(tag)
        if current is not None and current[1] == wanted:
            self._progress(step, "up to date")
            return current[0]
        requirements = self._sources / recipe.source_folder / REQUIREMENTS
        if requirements.is_file():
            wheels = await ensure_wheels(
                requirements, self._engine.architecture, self._cache_folder, self._progress, step
            )
            files += context_files_below(wheels, "wheels/")
        await self._build(recipe, files, parent_id, wanted)
        built = await self._current(tag)
        if built is None or built[1] != wanted:
            raise BuildFailed(
                f"the engine stopped while building the {recipe.name} image", hint="Try again."
            )
        log.info("built %s as %s", tag, built[0])
        self._progress(step, "built")
        return built[0]

    def _files(self, recipe: ImageRecipe) -> tuple[ContextFile, ...]:
        """Return the files of the build context, without wheels."""
        files = context_files_below(self._sources / recipe.source_folder)
        if recipe.program is not None:
            files += tuple(
                ContextFile(f"app/{name}", self._packages / name)
                for name in files_needed_by_program(recipe.program, self._packages)
            )
        return files

    async def _current(self, tag: str) -> tuple[str, str] | None:
        """Return id and build label of the image that has the tag, or None."""
        try:
            image = await self._docker.images.inspect(tag)
        except aiodocker.DockerError as error:
            if error.status == 404:
                return None
            raise
        return str(image["Id"]), str((image["Config"].get("Labels") or {}).get(BUILD_LABEL, ""))

    async def _build(
        self, recipe: ImageRecipe, files: tuple[ContextFile, ...], parent_id: str, wanted: str
    ) -> None:
        step = f"{recipe.name} image"
        self._progress(step, "building")
        output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        try:
            # A client of its own: only the end of its connection makes the engine give up a build.
            async with self._engine.client() as docker:
                with tempfile.TemporaryFile(dir=self._cache_folder) as archive:
                    pack_context(files, archive)
                    stream = docker.images.build(
                        fileobj=archive,
                        encoding="identity",
                        tag=self.tag(recipe.name),
                        buildargs={"PARENT": parent_id, **_build_proxies()},
                        labels={BUILD_LABEL: wanted},
                        rm=True,
                        forcerm=True,
                        stream=True,
                        timeout=aiohttp.ClientTimeout(total=_BUILD_S),
                    )
                    async for item in stream:
                        for line in _build_output_lines(item):
                            output.append(line)
                            self._progress(step, line)
        except (aiodocker.DockerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(recipe, error, output) from error

    def _failure(self, recipe: ImageRecipe, error: Exception, output: deque[str]) -> DitError:
        reason = error.message if isinstance(error, aiodocker.DockerError) else str(error)
        reason = " ".join(reason.split()) or type(error).__name__
        if says_disk_full((reason, *output)):
            return DiskFull(f"the {recipe.name} image could not be built")
        last = next((line for line in reversed(output) if not line.startswith(_CHATTER)), "")
        if last and "returned a non-zero code" in reason:
            reason = last
        path = self._cache_folder / f"build-{recipe.name}.log"
        try:
            path.write_text("\n".join([*output, str(error)]) + "\n")
        except OSError as unwritten:
            log.warning("%s can't be written: %s", path, unwritten)
        return BuildFailed(
            f"the {recipe.name} image could not be built: {reason}",
            hint=f"The whole output is in {path}.",
        )


def _build_output_lines(item: dict[str, Any]) -> list[str]:
    """Return the lines of a build's output item, without colours and empty lines."""
    text = _COLOUR.sub("", str(item.get("stream", "")))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _build_proxies() -> dict[str, str]:
    """Return this process's proxy settings, in lower and upper case."""
    found = {}
    for name in _PROXY_VARIABLES:
        value = os.environ.get(name) or os.environ.get(name.upper())
        if value:
            found[name] = found[name.upper()] = value
    return found
