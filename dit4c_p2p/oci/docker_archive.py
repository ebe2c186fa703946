"""An image as an archive in Docker's form, as a list of segments: bytes, and blobs in between.

``docker load``, ``podman load`` and ``skopeo`` (``docker-archive:``) take it, and so does every
release of the engine's API. The same image gives the same bytes, so that a part of the archive can
be had by its range.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dit4c_p2p.oci.manifest import Descriptor

_BLOCK = 512


@dataclass(frozen=True)
class ArchiveSegment:
    """A part of the archive: ``content``, or the bytes of a ``blob``."""

    content: bytes = b""
    blob: Descriptor | None = None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.content) if self.blob is None else self.blob.size


def docker_archive(
    config: bytes, image: str, name: str, layers: Sequence[Descriptor], present: int = 0
) -> list[ArchiveSegment]:
    """The archive of an image whose layers are uncompressed.

    :param image: the digest of ``config``, which is the image's id at an engine.
    :param name: what the image is called, with a tag.
    :param present: how many of the lowest layers are left out: an engine that has them does not
        look for their files.
    """
    file = f"{image.removeprefix('sha256:')}.json"
    paths = [f"{number}-{layer.digest[7:19]}/layer.tar" for number, layer in enumerate(layers)]
    listed = [{"Config": file, "RepoTags": [name], "Layers": paths}]
    segments = [ArchiveSegment(_tar_member("manifest.json", json.dumps(listed).encode()))]
    segments.append(ArchiveSegment(_tar_member(file, config)))
    for path, layer in list(zip(paths, layers, strict=True))[present:]:
        segments.append(ArchiveSegment(_tar_head(path, layer.size)))
        segments.append(ArchiveSegment(blob=layer))
        segments.append(ArchiveSegment(bytes(-layer.size % _BLOCK)))
    segments.append(ArchiveSegment(bytes(2 * _BLOCK)))
    return segments


def archive_parts_from(
    segments: Sequence[ArchiveSegment], start: int, end: int
) -> Iterator[tuple[ArchiveSegment, int, int]]:
    """The segments that the bytes ``start`` to ``end`` (not included) are in.

    Each with where in it to begin, and how many of its bytes are wanted.
    """
    offset = 0
    for segment in segments:
        first, last = max(start, offset), min(end, offset + segment.size)
        if first < last:
            yield segment, first - offset, last - first
        offset += segment.size


def _tar_head(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def _tar_member(name: str, content: bytes) -> bytes:
    return _tar_head(name, len(content)) + content + bytes(-len(content) % _BLOCK)
