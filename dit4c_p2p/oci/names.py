"""Names of repositories and tags (OCI distribution-spec 1.1, section "Pulling manifests").

Two kinds of repositories are this system's own:

    instances/<id>            the images saved from one instance
    bases/sha256-<hex>        the layers of a tool's image, by the digest of its configuration,
                              which is the image's id at an engine
"""

import re
from dataclasses import dataclass

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.reference import is_digest

# The specification allows a longer name; with a host it has to stay under 255 for many clients.
MAX_REPOSITORY_CHARS = 200
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_INSTANCES, _BASES = "instances/", "bases/"
_BASE = re.compile(r"sha256-([0-9a-f]{64})", re.ASCII)


def is_repository(text: str) -> bool:
    """Whether ``text`` can be a repository's name."""
    return len(text) <= MAX_REPOSITORY_CHARS and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether ``text`` can be a tag."""
    return _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class InstanceRepository:
    """``instances/<id>``; ``str()`` gives the name."""

    instance: str

    def __str__(self) -> str:
        return f"{_INSTANCES}{self.instance}"


@dataclass(frozen=True, slots=True)
class BaseRepository:
    """``bases/sha256-<hex>``; ``image`` is the digest of the image's configuration."""

    image: Digest

    def __str__(self) -> str:
        return f"{_BASES}sha256-{self.image.hex}"


def parse_repository(text: str) -> InstanceRepository | BaseRepository:
    """One of this system's two kinds of repositories.

    :raises InvalidImage: neither of the two.
    :raises InvalidName: ``instances/`` and what is not an id.
    """
    if text.startswith(_INSTANCES):
        return InstanceRepository(PeerName(Kind.INSTANCE, text.removeprefix(_INSTANCES)).id)
    if text.startswith(_BASES) and (base := _BASE.fullmatch(text.removeprefix(_BASES))):
        return BaseRepository(Digest(f"sha256:{base[1]}"))
    raise InvalidImage(
        f"{text[:80]!r} is no repository of this system",
        hint="there are instances/<id> and bases/sha256-<hex>",
    )


def split_reference(text: str) -> tuple[str, Digest | None]:
    """A manifest's reference: a tag and None, or an empty tag and a digest.

    :raises InvalidImage: neither.
    """
    if is_digest(text):
        return "", Digest(text)
    if is_tag(text):
        return text, None
    raise InvalidImage("this is neither a tag nor a digest")
