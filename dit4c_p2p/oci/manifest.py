"""Manifests and indexes of the OCI image specification 1.1, and their Docker forerunners.

A document is read once, into what the image server and a node need of it: which blobs and manifests
it names, what it is a referrer of, and how large an image it declares. Everything is checked here;
unknown fields are let through, as the specification demands.
"""

import re
from enum import StrEnum
from typing import Any

import msgspec

from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import ImageTooLarge, InvalidImage

GIB = 1024**3
MAX_IMAGE_BYTES = 20 * GIB
MAX_LAYERS = 128
MAX_ENTRIES = 1_000_000
# The distribution-spec asks registries for at least 4 MiB.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_CONFIG_BYTES = 4 * 1024 * 1024
_MAX_DEPTH_HINT = "see https://github.com/opencontainers/image-spec"
_MAX_INDEX_ENTRIES = 1000
_MAX_TYPE_CHARS = 255
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}", re.ASCII
)


class MediaType(StrEnum):
    """The media types that mean something here."""

    MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    INDEX = "application/vnd.oci.image.index.v1+json"
    CONFIG = "application/vnd.oci.image.config.v1+json"
    LAYER = "application/vnd.oci.image.layer.v1.tar"
    LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    EMPTY = "application/vnd.oci.empty.v1+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


MANIFEST_TYPES = frozenset({MediaType.MANIFEST, MediaType.DOCKER_MANIFEST})
INDEX_TYPES = frozenset({MediaType.INDEX, MediaType.DOCKER_LIST})
# Kept by whoever made the image, and not in the registry (Windows base layers).
_FOREIGN_LAYERS = ("application/vnd.docker.image.rootfs.foreign.diff", "nondistributable")


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a document says of other content; ``size`` in bytes (image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] = {}

    @property
    def is_elsewhere(self) -> bool:
        """Whether the content is a layer that registries do not hold."""
        return any(word in self.media_type for word in _FOREIGN_LAYERS)


class _ManifestDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields of a manifest and of an index together."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest or an index that has been checked.

    ``config`` and ``layers`` belong to a manifest, ``manifests`` to an index. ``artifact_type`` is
    what the referrers API reports: the document's own, or its configuration's media type.
    """

    media_type: str
    digest: Digest
    size: int
    artifact_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: dict[str, str]

    @property
    def is_index(self) -> bool:
        """Whether it is an index (a list of manifests)."""
        return self.config is None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The blobs that have to be there before the manifest may be."""
        own = () if self.config is None else (self.config,)
        return own + tuple(layer for layer in self.layers if not layer.is_elsewhere)

    @property
    def content_bytes(self) -> int:
        """The declared size of configuration and layers together."""
        return sum(blob.size for blob in self.blobs)


def parse_manifest(body: bytes, content_type: str) -> Manifest:
    """Read and check a manifest or an index.

    :param content_type: the ``Content-Type`` it came with; without parameters.
    :raises ImageTooLarge: it is over :data:`MAX_MANIFEST_BYTES`, :data:`MAX_LAYERS` or
        :data:`MAX_IMAGE_BYTES`.
    :raises InvalidImage: it is not such a document.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise ImageTooLarge(f"a manifest may have {MAX_MANIFEST_BYTES} bytes at the most")
    try:
        document = msgspec.json.decode(body, type=_ManifestDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidImage(f"this is not a manifest: {error}", hint=_MAX_DEPTH_HINT) from None
    if document.schema_version != 2:
        raise InvalidImage(
            f"manifests of schema version {document.schema_version} are not taken",
            hint="push it with a client of this decade",
        )
    media_type = document.media_type or content_type
    if document.media_type and content_type and document.media_type != content_type:
        raise InvalidImage(
            f"the manifest calls itself {document.media_type[:100]!r} "
            f"and is sent as {content_type[:100]!r}"
        )
    if media_type in MANIFEST_TYPES:
        _check_image_manifest(document)
    elif media_type in INDEX_TYPES:
        _check_index_manifest(document)
    else:
        raise InvalidImage(f"{media_type[:100]!r} is not the media type of a manifest or an index")
    for one in _manifest_descriptors(document):
        _check_descriptor(one)
    artifact_type = document.artifact_type
    if not artifact_type and document.config is not None:
        artifact_type = document.config.media_type
    return Manifest(
        media_type=media_type,
        digest=Digest.of(body),
        size=len(body),
        artifact_type=artifact_type,
        config=document.config,
        layers=tuple(document.layers or ()),
        manifests=tuple(document.manifests or ()),
        subject=document.subject,
        annotations=document.annotations,
    )


def _check_image_manifest(document: _ManifestDocument) -> None:
    if document.config is None or document.layers is None:
        raise InvalidImage("the manifest of an image names its config and its layers")
    if document.manifests is not None:
        raise InvalidImage("a document is a manifest or an index, and never both")
    if len(document.layers) > MAX_LAYERS:
        raise ImageTooLarge(
            f"an image may have {MAX_LAYERS} layers at the most, and this one has "
            f"{len(document.layers)}",
            hint="flatten it first",
        )
    if sum(max(one.size, 0) for one in document.layers) > MAX_IMAGE_BYTES:
        raise ImageTooLarge(f"an image may have {MAX_IMAGE_BYTES // GIB} GiB at the most")


def _check_index_manifest(document: _ManifestDocument) -> None:
    if document.manifests is None:
        raise InvalidImage("an index names its manifests")
    if document.config is not None or document.layers is not None:
        raise InvalidImage("a document is a manifest or an index, and never both")
    if len(document.manifests) > _MAX_INDEX_ENTRIES:
        raise ImageTooLarge(f"an index may name {_MAX_INDEX_ENTRIES} manifests at the most")


def _manifest_descriptors(document: _ManifestDocument) -> list[Descriptor]:
    found = [one for one in (document.config, document.subject) if one is not None]
    return found + list(document.layers or ()) + list(document.manifests or ())


def _check_descriptor(one: Descriptor) -> None:
    Digest.parse(one.digest)
    if len(one.media_type) > _MAX_TYPE_CHARS or not _MEDIA_TYPE.fullmatch(one.media_type):
        raise InvalidImage(f"{one.media_type[:100]!r} is not a media type")
    if not 0 <= one.size <= MAX_IMAGE_BYTES:
        raise ImageTooLarge(f"a size of {one.size} bytes is not one that an image may have")


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed of an image's configuration (image-spec, config.md)."""

    architecture: str
    os: str
    diff_ids: tuple[Digest, ...]


def parse_config(body: bytes) -> ImageConfig:
    """Read an image's configuration: the digests of its uncompressed layers, lowest first.

    :raises InvalidImage: it is not such a document.
    """
    try:
        document: Any = msgspec.json.decode(body)
        rootfs = document["rootfs"]
        if rootfs["type"] != "layers":
            raise InvalidImage("the configuration's rootfs is not made of layers")
        return ImageConfig(
            architecture=str(document["architecture"]),
            os=str(document["os"]),
            diff_ids=tuple(Digest.parse(str(one)) for one in rootfs["diff_ids"]),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise InvalidImage(f"this is not an image's configuration: {error}") from None
