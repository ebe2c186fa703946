"""Load images from a file into this machine's engine, and describe each as a tool."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp

from dit4c_p2p.engine_api import request
from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.imagebuild.disk import DiskFull, says_disk_full
from dit4c_p2p.imagebuild.docker_daemon import ARCHITECTURES, find_engine
from dit4c_p2p.imagebuild.ensure import CatalogueImage
from dit4c_p2p.imagebuild.progress import Progress
from dit4c_p2p.imagebuild.recipes import OFFERS, RECIPES
from dit4c_p2p.oci.archive import Archive, read_archive

STEP = "Images"

_MIB = 1024**2
_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+", re.ASCII)
_MAX_NAME_CHARS = 40
_MAX_DESCRIPTION_CHARS = 300
_OWN = {f"dit4c/{offer.name}:local": offer for offer in OFFERS}
# What every pod, or every image of ours, is made of.
_OWN_PARTS = {f"dit4c/{recipe.name}:local" for recipe in RECIPES} - set(_OWN)


class LoadFailed(DitError):
    """The engine did not accept the images."""

    code = "image_load_failed"


@dataclass(frozen=True)
class LoadedImage:
    """An image that the engine has now, by its id (``sha256:…``).

    ``tag`` is what it is called there, or empty. ``serves`` says whether it declares a TCP port.
    """

    id: str
    tag: str
    serves: bool
    title: str = ""
    description: str = ""

    @property
    def is_part(self) -> bool:
        """Whether pods of this machine use the image from now on, because of its name."""
        return self.tag in _OWN_PARTS


async def load_images(path: Path, progress: Progress) -> list[LoadedImage]:
    """Send an archive to the engine; return its images, each once.

    :raises ConfigError: no engine answers, or this user may not access it.
    :raises NotAnArchive, CutOff: the file is invalid; nothing was sent to the engine.
    :raises DiskFull: there is no room.
    :raises LoadFailed: the engine did not accept the archive.
    :raises OSError: the file can't be read.
    """
    engine = await find_engine()
    if engine is None:
        raise ConfigError(
            "no Docker engine answers on this machine",
            hint="Start it (systemctl start docker), or install it (apt-get install docker.io).",
        )
    progress(STEP, f"reading {path.name}")
    oci_names = {ours: theirs for theirs, ours in ARCHITECTURES.items()}
    archive = await asyncio.to_thread(read_archive, path, oci_names[engine.architecture])
    try:
        async with engine.client() as docker:
            references = await _send_image_archive(docker, archive, progress)
            found: dict[str, LoadedImage] = {}
            for reference in references:
                image = read_loaded_image(reference, await docker.images.inspect(reference))
                found.setdefault(image.id, image)
    except (aiodocker.DockerError, aiohttp.ClientError, TimeoutError) as error:
        words = error.message if isinstance(error, aiodocker.DockerError) else str(error)
        if says_disk_full([words]):
            raise DiskFull(f"the engine could not store the images of {path.name}") from error
        raise LoadFailed(
            f"the engine did not take {path.name}: {' '.join(words.split())}",
            hint="See that it runs (docker info), and try again.",
        ) from error
    progress(STEP, f"{len(found)} loaded from {path.name}")
    return list(found.values())


def tools_of_loaded_images(images: Iterable[LoadedImage]) -> list[CatalogueImage]:
    """Return the tools among the images, each with a name of its own.

    This project's tools keep their names; others are named by the OCI's labels, or by their tag.
    """
    tools: list[CatalogueImage] = []
    for image in images:
        if not image.serves:
            continue
        tool = _tool_of_loaded_image(image)
        taken, number = {other.name for other in tools}, 2
        while tool.name in taken:
            tool = replace(
                tool, name=f"{_tool_of_loaded_image(image).name[: _MAX_NAME_CHARS - 4]}-{number}"
            )
            number += 1
        tools.append(tool)
    return tools


def _tool_of_loaded_image(image: LoadedImage) -> CatalogueImage:
    own = _OWN.get(image.tag)
    if own is not None:
        return CatalogueImage(own.name, own.title, own.description, image.id, own.icon)
    word = image.tag.rpartition("/")[2].partition(":")[0] or image.title
    name = _NOT_IN_NAMES.sub("-", word.lower())[:_MAX_NAME_CHARS].strip("-") or "tool"
    title = image.title or name.replace("-", " ").capitalize()
    return CatalogueImage(name, title, image.description, image.id, title[:1].upper())


def read_loaded_image(reference: str, said: dict[str, Any]) -> LoadedImage:
    """Read an image from the engine, by the name that it was loaded under or by its id."""
    config = said.get("Config") or {}
    labels = config.get("Labels") or {}
    ports = config.get("ExposedPorts") or {}
    return LoadedImage(
        id=str(said["Id"]),
        tag="" if reference.startswith("sha256:") else reference,
        serves=any(str(port).endswith("/tcp") for port in ports),
        title=_label_line(labels.get("org.opencontainers.image.title")),
        description=_label_line(labels.get("org.opencontainers.image.description")),
    )


def _label_line(text: object) -> str:
    """Return a label's text in printable form, because an unknown person wrote it."""
    words = " ".join(str(text or "").split())
    return "".join(char for char in words if char.isprintable())[:_MAX_DESCRIPTION_CHARS]


async def _send_image_archive(
    docker: aiodocker.Docker, archive: Archive, progress: Progress
) -> list[str]:
    """Send the archive; return the names or ids that the engine reports as loaded."""
    loaded: list[str] = []
    # aiodocker's own call has the engine keep to itself how far it is.
    async with request(
        docker,
        "images/load",
        "POST",
        params={"quiet": "0"},
        data=_told_archive_chunks(archive, progress),
        headers={"Content-Type": "application/x-tar"},
    ) as response:
        async for line in response.content:
            said: dict[str, Any] = json.loads(line)
            if "error" in said:
                raise aiodocker.DockerError(response.status, str(said["error"]))
            loaded += _LOADED.findall(str(said.get("stream", "")))
            detail = said.get("progressDetail") or {}
            current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
            if total:
                of = f"{current // _MIB} of {total // _MIB} MiB"
                progress(STEP, f"unpacking layer {said.get('id', '')}: {of}")
    if not loaded:
        raise aiohttp.ClientPayloadError("it stopped before the end")
    return loaded


async def _told_archive_chunks(archive: Archive, progress: Progress) -> AsyncIterator[bytes]:
    """Yield the archive's chunks, and report the progress."""
    chunks, sent, total = archive.chunks(), 0, max(1, archive.members_bytes // _MIB)
    while chunk := await asyncio.to_thread(next, chunks, b""):
        progress(STEP, f"sending {archive.path.name}: {sent // _MIB} of {total} MiB")
        yield chunk
        sent += len(chunk)
