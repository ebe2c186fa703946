"""How an image is called wherever one is asked for: by its id, or by a reference with its digest.

    sha256:9f86d0…                                       an id: it is at the engine already
    registry.example.org:5000/lab/tool@sha256:9f86d0…    to be had from a registry

A tag is not taken beside the digest, where it would count for nothing. Alone it is taken only where
it is resolved to a digest at once (:func:`split_tag`).
"""

import re

DOCKER_HUB = "docker.io"

_MAX_CHARS = 400
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
# A registry's host and port, a repository, the digest of the manifest (the OCI's distribution-spec
# and Docker's reference grammar).
_REGISTRY = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?", re.ASCII)
_REPOSITORY = (
    rf"(?:{_REGISTRY.pattern}/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
)
_IMAGE = re.compile(rf"(?:(?P<repository>{_REPOSITORY})@)?(?P<digest>{_DIGEST.pattern})", re.ASCII)
_TAGGED = re.compile(
    rf"(?P<repository>{_REPOSITORY}):(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})", re.ASCII
)


def split_image(text: str) -> tuple[str, str] | None:
    """The repository, empty for an image's id, and the digest; None: it is neither of the two."""
    found = _IMAGE.fullmatch(text) if len(text) <= _MAX_CHARS else None
    return None if found is None else (found["repository"] or "", found["digest"])


def split_tag(text: str) -> tuple[str, str] | None:
    """The repository and the tag of ``registry.example.org/lab/tool:1.2``; None for all else."""
    found = _TAGGED.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if found is None or found["repository"] == "sha256":
        return None
    return found["repository"], found["tag"]


def registry_of(repository: str) -> str:
    """The host, with its port if there is one, that a repository is at; :data:`DOCKER_HUB` if it
    names none.

    Docker's rule: the first part is a host if it has a dot or a port, or is localhost.
    """
    host, slash, _ = repository.partition("/")
    named = slash and ("." in host or ":" in host or host == "localhost")
    return host.lower() if named else DOCKER_HUB


def is_registry(text: str) -> bool:
    """Whether it can be a registry's host, with its port if there is one."""
    return len(text) <= _MAX_CHARS and _REGISTRY.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether it is a digest, and nothing beside it."""
    return _DIGEST.fullmatch(text) is not None
