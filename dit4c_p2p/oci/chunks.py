"""Chunks: a blob cut by its content, so that bytes that move in it give the same pieces.

The cutting is FastCDC (Xia et al., USENIX ATC 2016) as the ``fastcdc`` package does it. Both ends
have to cut alike, so the three sizes are part of the protocol.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import fastcdc

from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import InvalidChunks
from dit4c_p2p.oci.manifest import MAX_IMAGE_BYTES

MIN_CHUNK_BYTES = 64 * 1024
AVERAGE_CHUNK_BYTES = 256 * 1024
MAX_CHUNK_BYTES = 1024 * 1024

# A list that is asked about, fetched or sent in one request.
MAX_CHUNKS_IN_REQUEST = 4096
# A whole blob's list: every chunk but the last has the least size.
MAX_CHUNKS_IN_BLOB = MAX_IMAGE_BYTES // MIN_CHUNK_BYTES + 1

_ENTRY = struct.Struct(">32sI")
ENTRY_BYTES = _ENTRY.size


class Chunk(NamedTuple):
    """A chunk's name: the 32 bytes of its SHA-256, and its size in bytes."""

    digest: bytes
    size: int

    @classmethod
    def of(cls, content: bytes | memoryview) -> "Chunk":
        """The chunk that ``content`` is."""
        return cls(hashlib.sha256(content).digest(), len(content))

    def __str__(self) -> str:
        return str(Digest.of_raw(self.digest))


class Cutter:
    """Cuts a stream into chunks: :meth:`feed` it, then :meth:`finish` it.

    It holds :data:`MAX_CHUNK_BYTES` of what it was fed at the most, besides what is fed at once.
    The chunks depend on the content only, not on how it was divided among the calls.
    """

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The chunks that are certain by now, in order."""
        buffer = self._kept + data
        if len(buffer) <= MAX_CHUNK_BYTES:
            self._kept = buffer
            return []
        pieces, end = [], 0
        for piece in _cut_chunk(buffer):
            # A chunk that the buffer's end might have cut is not certain.
            if len(buffer) - end <= MAX_CHUNK_BYTES:
                break
            pieces.append(piece)
            end += len(piece)
        self._kept = buffer[end:]
        return pieces

    def finish(self) -> list[bytes]:
        """The last chunks; the cutter is as new."""
        buffer, self._kept = self._kept, b""
        return list(_cut_chunk(buffer))


def _cut_chunk(buffer: bytes) -> Iterator[bytes]:
    for found in fastcdc.fastcdc(buffer, MIN_CHUNK_BYTES, AVERAGE_CHUNK_BYTES, MAX_CHUNK_BYTES):
        yield buffer[found.offset : found.offset + found.length]


def cut(content: bytes) -> list[bytes]:
    """All chunks of what is in memory."""
    return list(_cut_chunk(content))


def encode_chunks(chunks: Iterable[Chunk]) -> bytes:
    """A list of chunks as bytes: for each 32 bytes of SHA-256 and 4 of size, big-endian."""
    return b"".join(_ENTRY.pack(chunk.digest, chunk.size) for chunk in chunks)


def decode_chunks(data: bytes, limit: int = MAX_CHUNKS_IN_REQUEST) -> list[Chunk]:
    """The inverse of :func:`encode_chunks`.

    :param limit: how many there may be.
    :raises InvalidChunks: malformed, more than ``limit``, or a size that no chunk can have.
    """
    check_chunks(data, limit)
    return list(iterate_chunks(data))


def check_chunks(data: bytes, limit: int) -> int:
    """Check a list as :func:`decode_chunks` does, without taking it apart; the size of the blob.

    :raises InvalidChunks: as there.
    """
    count, rest = divmod(len(data), ENTRY_BYTES)
    if rest:
        raise InvalidChunks(f"a list of chunks has {ENTRY_BYTES} bytes for each")
    if count > limit:
        raise InvalidChunks(f"{count} chunks are more than {limit}", hint="ask in several requests")
    total = 0
    for _, size in _ENTRY.iter_unpack(data):
        if not 0 < size <= MAX_CHUNK_BYTES:
            raise InvalidChunks(f"a chunk has 1 to {MAX_CHUNK_BYTES} bytes")
        total += size
    return total


def iterate_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a list that has been checked, one after another."""
    for entry in _ENTRY.iter_unpack(data):
        yield Chunk(*entry)


def windows_of_chunks(data: bytes, count: int) -> Iterator[list[Chunk]]:
    """The same, ``count`` at a time."""
    chunks = iterate_chunks(data)
    while window := list(islice(chunks, count)):
        yield window
