"""The layers in an image archive as an engine writes it (``GET /images/{id}/get``), while it comes.

Docker before 25 writes ``<id>/layer.tar``, later ones an OCI layout; engines with the containerd
image store may have compressed layers, which are unpacked. Which layer is which, its digest tells
once it has been read.
"""

import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import zstandard

from dit4c_p2p.errors import DitError
from dit4c_p2p.oci.manifest import MAX_CONFIG_BYTES

_READ_BYTES = 1024**2
BLOCK_BYTES = 4 * 1024**2
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BLOBS = "blobs/sha256/"
_TAR_MAGIC_AT = 257
_BROKEN = (tarfile.TarError, EOFError, zlib.error, zstandard.ZstdError)


class ArchiveBroken(DitError):
    """The engine's archive ended early, or is none."""

    code = "archive_broken"


@dataclass(frozen=True)
class Member:
    """A file of the archive. ``digest`` is told by its name, or empty; ``size`` in bytes.

    ``content`` gives its bytes once, unpacked if they are compressed; ``is_layer`` is False for the
    small files, which may be configurations.
    """

    digest: str
    size: int
    is_layer: bool
    content: Iterator[bytes]


def archive_members(stream: IO[bytes]) -> Iterator[Member]:
    """Every layer and every small JSON file; one that is not read is passed over.

    :raises ArchiveBroken: it ended early, or is none.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_READ_BYTES) as archive:
            for entry in archive:
                if entry.isreg():
                    file: Any = archive.extractfile(entry)
                    yield from _member_for_archive(entry, file)
    except _BROKEN as error:
        raise _broken_for_archive(error) from None


def _member_for_archive(entry: tarfile.TarInfo, file: IO[bytes]) -> Iterator[Member]:
    name = entry.name.removeprefix("./")
    named = name.startswith(_BLOBS)
    digest = f"sha256:{name.removeprefix(_BLOBS)}" if named else ""
    if name.endswith("/layer.tar"):
        yield Member("", entry.size, True, _told_for_archive(_blocks_for_archive(file, b"")))
        return
    if not named and not name.endswith(".json"):
        return
    first = file.read(512)
    if first.startswith(_GZIP):
        yield Member(
            "",
            entry.size,
            True,
            _told_for_archive(_gunzipped_for_archive(_blocks_for_archive(file, first))),
        )
    elif first.startswith(_ZSTD):
        joined: Any = _Joined(first, file)
        unpacked = zstandard.ZstdDecompressor().stream_reader(joined)
        yield Member("", entry.size, True, _told_for_archive(_blocks_for_archive(unpacked, b"")))
    elif first[_TAR_MAGIC_AT:].startswith(b"ustar"):
        yield Member(digest, entry.size, True, _told_for_archive(_blocks_for_archive(file, first)))
    elif entry.size <= MAX_CONFIG_BYTES:
        yield Member(digest, entry.size, False, _told_for_archive(_blocks_for_archive(file, first)))


def _told_for_archive(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same; who reads a member is told that the archive is broken."""
    try:
        yield from blocks
    except _BROKEN as error:
        raise _broken_for_archive(error) from None


def _broken_for_archive(error: Exception) -> ArchiveBroken:
    return ArchiveBroken(f"the engine's archive can't be read: {error}")


def _blocks_for_archive(file: Any, first: bytes) -> Iterator[bytes]:
    block = bytearray(first)
    while data := file.read(_READ_BYTES):
        block += data
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _gunzipped_for_archive(blocks: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    for block in blocks:
        rest = block
        while rest:
            if data := unpacker.decompress(rest, BLOCK_BYTES):
                yield data
            rest = unpacker.unconsumed_tail
    if data := unpacker.flush():
        yield data
    if not unpacker.eof:
        raise ArchiveBroken("a compressed layer in the engine's archive ended early")


class _Joined(io.RawIOBase):
    """What was read already, and then the rest."""

    def __init__(self, first: bytes, file: IO[bytes]) -> None:
        super().__init__()
        self._first, self._file = first, file

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes."""
        if self._first:
            data, self._first = self._first, b""
            return data
        return self._file.read(size)
