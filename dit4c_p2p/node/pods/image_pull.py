"""Pull of an image by digest from its registry, with progress and errors for its user.

The engine fetches, checks every digest and unpacks; :class:`Layers` is pure and adds up the
progress that it reports. Every image is fetched by its digest, so its contents are those asked for.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.messages.node import Progress
from dit4c_p2p.node.config import Limits
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.engine.registry_auth import RegistryLogins
from dit4c_p2p.node.errors import (
    DiskFull,
    EngineSaid,
    NodeFailure,
    NotFound,
    RegistryError,
    UnknownImage,
)
from dit4c_p2p.node.owner.policy import parse_image
from dit4c_p2p.node.pods.spec import short_image
from dit4c_p2p.node.pods.status import memory_text
from dit4c_p2p.oci.reference import DOCKER_HUB, registry_of, split_image

_log = logging.getLogger(__name__)

# The engine tells of each layer ten times a second; a person reads slower.
_TELL_EVERY_S = 0.5
# Docker's and the OCI's words for an image that is not there, or not for everybody.
_ABSENT = ("manifest unknown", "not found", "name unknown", "does not exist", "access denied")
_NOT_LET_IN = "it asks for a login"
# What the engine's words come down to. Whoever starts a tool is told this and nothing of them: they
# may hold what some machine in the owner's network has answered that is no registry at all.
_REASONS = (
    ("connection refused", "the connection is refused"),
    ("no such host", "nothing is known by its name"),
    ("timeout", "it does not answer in time"),
    ("deadline exceeded", "it does not answer in time"),
    ("no route to host", "it can't be reached"),
    ("network is unreachable", "it can't be reached"),
    ("x509", "its certificate is not good"),
    ("http response to https client", "it has no HTTPS"),
    ("toomanyrequests", "it serves no more to this machine for now"),
    *(
        (mark, _NOT_LET_IN)
        for mark in ("authentication required", "no basic auth", "unauthorized", "denied")
    ),
)
# Enough for its owner to see what it is; a registry may answer with a page.
_MAX_LOGGED_CHARS = 500
_NO_REASON = "it answers otherwise than a registry should"


@dataclass
class _Layer:
    """In bytes; ``total`` is None before it is told."""

    total: int | None = None
    fetched: int = 0
    unpacked: int = 0
    done: bool = False


class Layers:
    """Sum of the engine's progress over the layers of one image."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        self._fraction = 0.0

    def heard(self, said: Mapping[str, Any]) -> None:
        """One line of the engine's. What is not about a layer, or not known, changes nothing."""
        status, id = str(said.get("status", "")), str(said.get("id", ""))
        if status == "Pulling fs layer":
            self._layers.setdefault(id, _Layer())
        layer = self._layers.get(id)
        if layer is None:
            return
        detail = said.get("progressDetail") or {}
        current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
        if total > 0:
            layer.total = total
        match status:
            case "Downloading":
                layer.fetched = current
            case "Verifying Checksum" | "Download complete":
                layer.fetched = layer.total or 0
            case "Extracting":
                layer.fetched = layer.total or 0
                layer.unpacked = current
            case "Pull complete" | "Already exists":
                layer.done = True
                layer.fetched = layer.unpacked = layer.total or 0

    def progress(self) -> Progress:
        """What its user is told now. The fraction never goes back.

        Fetching a byte counts as much as unpacking it. A layer whose size is not told yet counts
        as an average one.
        """
        layers = self._layers.values()
        known = [layer.total for layer in layers if layer.total]
        if not known:
            return Progress(info="Fetching the image")
        average = sum(known) / len(known)
        size = sum(layer.total or (0 if layer.done else average) for layer in layers)
        moved = sum(layer.fetched + layer.unpacked for layer in layers)
        self._fraction = max(self._fraction, min(1.0, moved / (2 * size)))
        fetched = sum(layer.fetched for layer in layers)
        if all(layer.done or (layer.total and layer.fetched >= layer.total) for layer in layers):
            return Progress(info="Unpacking the image", fraction=self._fraction)
        about = "" if len(known) == len(layers) else "about "
        info = f"Fetching the image: {memory_text(fetched)} of {about}{memory_text(int(size))}"
        return Progress(info=info, fraction=self._fraction)


async def fetch(
    engine: Engine, image: str, limits: Limits, logins: RegistryLogins
) -> AsyncGenerator[Progress, None]:
    """Have ``image`` here. An id (``sha256:…``) is never fetched: it was loaded, or it is not here.

    :raises UnknownImage, RegistryError, DiskFull: it can't be had.
    :raises EngineError: the engine does not answer.
    """
    repository, digest = parse_image(image)
    if not repository or await is_here(engine, image):
        return
    login = await _registry_login_for_pull(logins, repository)
    _log.info("fetching %s", image)
    layers = Layers()
    loop = asyncio.get_running_loop()
    told, end = float("-inf"), loop.time() + limits.pull_s
    try:
        async with aclosing(engine.pull(repository, digest, login)) as lines:
            while True:
                left_s = min(limits.pull_silence_s, end - loop.time())
                async with asyncio.timeout(max(0.0, left_s)):
                    said = await anext(lines, None)
                if said is None:
                    break
                layers.heard(said)
                if loop.time() - told >= _TELL_EVERY_S:
                    told = loop.time()
                    yield layers.progress()
    except TimeoutError:
        raise RegistryError(
            f"the image did not come in time: {_registry(repository)} is too slow, or silent",
            hint="try again later",
        ) from None
    except NotFound as error:
        raise _unknown_pulled_image(image, repository, str(error)) from None
    except EngineSaid as error:
        raise pull_failure_in_words(image, repository, error.words) from None
    _log.info("fetched %s", image)


async def resolve_tag(engine: Engine, repository: str, tag: str, logins: RegistryLogins) -> str:
    """What a tag means now at its registry, as ``repository@sha256:…``.

    By the engine (Docker Engine API, ``GET /distribution/{name}/json``): it knows how a registry is
    spoken to.

    :raises UnknownImage, RegistryError: the registry does not say.
    """
    login, name = await _registry_login_for_pull(logins, repository), f"{repository}:{tag}"
    headers = {} if login is None else {"X-Registry-Auth": login}
    try:
        said = await engine.request_json(f"distribution/{name}/json", headers=headers)
    except NotFound as error:
        raise _unknown_pulled_image(name, repository, str(error)) from None
    except EngineSaid as error:
        raise pull_failure_in_words(name, repository, error.words) from None
    image = f"{repository}@{(said.get('Descriptor') or {}).get('digest')}"
    if split_image(image) is None:
        raise RegistryError(f"{_registry(repository)} does not serve the image: {_NO_REASON}")
    return image


async def _registry_login_for_pull(logins: RegistryLogins, repository: str) -> str | None:
    try:
        return await asyncio.to_thread(logins.of, registry_of(repository))
    except ConfigError as error:
        _log.error("no image is fetched: %s", error.one_line())
        raise RegistryError(
            "the machine it was to run on can't read its logins for registries",
            hint="its owner finds in its log what to do",
        ) from None


async def is_here(engine: Engine, image: str) -> bool:
    """Whether the engine has the image."""
    try:
        await engine.image(image)
    except NotFound:
        return False
    return True


def pull_failure_in_words(image: str, repository: str, words: str) -> NodeFailure:
    """What its user is told of an image that can't be fetched; the engine's words are logged."""
    lower = words.lower()
    if "no space left on device" in lower:
        return DiskFull(
            "the disk of the machine it was to run on is full, so the image can't be stored",
            hint="its owner can make room, or try another tool",
        )
    if any(absent in lower for absent in _ABSENT):
        return _unknown_pulled_image(image, repository, words)
    _log.warning("%s: %s", image, words[:_MAX_LOGGED_CHARS])
    reason = next((reason for mark, reason in _REASONS if mark in lower), _NO_REASON)
    hint = "try again later"
    if reason is _NOT_LET_IN:
        hint = "the owner of the machine it was to run on has to give it a login there"
    return RegistryError(f"{_registry(repository)} does not serve the image: {reason}", hint=hint)


def _unknown_pulled_image(image: str, repository: str, words: str) -> UnknownImage:
    _log.info("%s: %s", image, words[:_MAX_LOGGED_CHARS])
    return UnknownImage(
        f"{_registry(repository)} has no image {short_image(image)}, or not for everybody",
        hint="was it removed, or is its name wrong?",
    )


def _registry(repository: str) -> str:
    host = registry_of(repository)
    return "Docker Hub" if host == DOCKER_HUB else f"the registry {host}"
