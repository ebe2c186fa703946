"""Image archives, as ``docker save`` and OCI tools write them, checked before they are sent.

An engine reports a bad archive by internal errors; this module says what is wrong with the file. An
OCI archive (image-spec, "Image Layout") gets Docker's list of contents, which engines before
version 25 need; a compressed file is sent uncompressed.
"""

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit4c_p2p.errors import DitError

_CHUNK_BYTES = 1 << 20
# Lists of contents have some hundred bytes for each layer.
_MAX_LIST_BYTES = 4 << 20
_BLOCK_BYTES = 512
_DOCKERS_LIST, _OCIS_LIST = "manifest.json", "index.json"
# As in the OCI's annotations: the whole name, or the tag alone.
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")

_Members = Mapping[str, tarfile.TarInfo]


class NotAnArchive(DitError):
    """The file is no archive of images."""

    code = "not_an_archive"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}", hint="Make one with: docker save --output FILE NAME…")


class CutOff(DitError):
    """The end of the file, or a part of it, is missing."""

    code = "archive_cut_off"

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is cut off, or damaged", hint="Copy it here once more.")


@dataclass(frozen=True)
class Archive:
    """A file that is whole. ``added`` is the list of contents that it lacks for Docker, or empty.

    ``members_bytes`` is how long it is, unpacked, without the mark at its end.
    """

    path: Path
    members_bytes: int
    added: bytes = b""

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes to send to an engine.

        :raises CutOff: the file is shorter than it was.
        """
        left = self.members_bytes
        with tarfile.open(self.path) as archive:
            stream: Any = archive.fileobj
            stream.seek(0)
            while left:
                chunk = stream.read(min(_CHUNK_BYTES, left))
                if not chunk:
                    raise CutOff(self.path)
                left -= len(chunk)
                yield chunk
        if self.added:
            entry = tarfile.TarInfo(_DOCKERS_LIST)
            entry.size = len(self.added)
            yield entry.tobuf() + self.added + bytes(-len(self.added) % _BLOCK_BYTES)
        yield bytes(2 * _BLOCK_BYTES)


def read_archive(path: Path, architecture: str) -> Archive:
    """Check that the archive is complete; unpack nothing to the disk.

    :param architecture: the image to take from a multi-platform index, such as ``amd64``.
    :raises NotAnArchive, CutOff: the file is invalid.
    :raises OSError: the file can't be read.
    """
    try:
        archive = tarfile.open(path)  # noqa: SIM115
    except tarfile.ReadError:
        raise NotAnArchive(path, "is no archive of images") from None
    except EOFError:
        raise CutOff(path) from None
    with archive:
        try:
            members = {member.name.removeprefix("./"): member for member in archive}
            end, stream = archive.offset, archive.fileobj
            if stream is None or not _archive_ends_at(stream, end):
                raise CutOff(path)
            if _DOCKERS_LIST in members:
                images, added = _read_archive_list(archive, members, path, _DOCKERS_LIST), b""
            elif _OCIS_LIST in members:
                images = _images_of_archive(archive, members, path, architecture)
                added = json.dumps(images).encode()
            else:
                raise NotAnArchive(path, "is an archive, but not of images")
        except (tarfile.ReadError, EOFError, zlib.error, lzma.LZMAError):
            raise CutOff(path) from None
    if not _all_archive_files_there(images, members):
        raise CutOff(path)
    return Archive(path, end, added)


def _archive_ends_at(stream: Any, end: int) -> bool:
    """Whether the end-of-archive mark is there; without it the end is missing."""
    stream.seek(end)
    block: bytes = stream.read(_BLOCK_BYTES)
    return len(block) == _BLOCK_BYTES and not any(block)


def _read_archive_list(archive: tarfile.TarFile, members: _Members, path: Path, name: str) -> Any:
    """A JSON file of the archive."""
    member = members.get(name)
    if member is None:
        raise CutOff(path)
    # A link would be followed to whatever it names, of any size, or to itself.
    stream = archive.extractfile(member) if member.isreg() else None
    if stream is None or member.size > _MAX_LIST_BYTES:
        raise NotAnArchive(path, f"has no list of images in {name}")
    try:
        return json.loads(stream.read())
    except (ValueError, RecursionError):
        raise NotAnArchive(path, f"has no list of images in {name}") from None


def _all_archive_files_there(images: Any, members: _Members) -> bool:
    """Check that every file in Docker's list is in the archive."""
    try:
        return bool(images) and all(
            name in members for image in images for name in (image["Config"], *image["Layers"])
        )
    except (TypeError, KeyError):
        return False


def _images_of_archive(
    archive: tarfile.TarFile, members: _Members, path: Path, architecture: str
) -> list[dict[str, Any]]:
    """Return Docker's list of contents, made from the OCI index."""
    try:
        index = _read_archive_list(archive, members, path, _OCIS_LIST)
        images = []
        for named in index["manifests"]:
            manifest = _read_archive_list(
                archive, members, path, _archive_blob_path(named["digest"])
            )
            if "manifests" in manifest:
                chosen = _manifest_for_architecture(manifest["manifests"], architecture)
                if chosen is None:
                    raise NotAnArchive(path, f"has no image for {architecture} machines")
                manifest = _read_archive_list(
                    archive, members, path, _archive_blob_path(chosen["digest"])
                )
            notes = named.get("annotations") or {}
            name = next((notes[note] for note in _NAME_ANNOTATIONS if note in notes), "")
            images.append(
                {
                    "Config": _archive_blob_path(manifest["config"]["digest"]),
                    "RepoTags": [name] if ":" in name else None,
                    "Layers": [_archive_blob_path(layer["digest"]) for layer in manifest["layers"]],
                }
            )
        return images
    except (TypeError, KeyError, AttributeError):
        raise NotAnArchive(path, f"has no list of images in {_OCIS_LIST}") from None


def _manifest_for_architecture(manifests: Any, architecture: str) -> Any:
    """Return the image of this architecture; other entries are signatures and the like."""
    for one in manifests:
        platform = one.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
            return one
    return None


def _archive_blob_path(digest: str) -> str:
    """Return the path of a blob within the archive."""
    return f"blobs/{digest.replace(':', '/', 1)}"
