"""The messages of the chunk exchange between an image server and a node or an upload helper.

Paths below ``/v2/<repository>/_dit4c/`` (the OCI's scheme for extensions of the distribution API):

    POST chunks/missing       <list>   → 200 Missing         which of these are missing?
    POST chunks/bundle        <bundle> → 200 Stored          here they are
    POST chunks/fetch         <list>   → 200 <bundle>        give me these
    GET  blobs/<digest>                → 200 <list>          what is this blob made of?
    POST blobs/<digest>       <list>   → 201 Assembled       put these together
                                         202 Assembling      not done yet: ask again
                                         409 Missing         these first

A <list> is made by :func:`dit4c_p2p.oci.chunks.encode_chunks`; a <bundle> is what
:func:`pack_chunk` makes, one after another; the rest is JSON. ``docs/image-server.md`` has the
whole.
"""

import hashlib
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import zstandard

from dit4c_p2p.messages.codec import Record
from dit4c_p2p.oci.chunks import MAX_CHUNK_BYTES, Chunk
from dit4c_p2p.oci.errors import InvalidChunks

EXTENSION = "_dit4c"
LIST_TYPE = "application/vnd.dit4c.chunk-list.v1"
BUNDLE_TYPE = "application/vnd.dit4c.chunk-bundle.v1"

# A client ends a bundle there: what a server that is killed can lose.
BUNDLE_TARGET_BYTES = 8 * 1024 * 1024
MAX_BUNDLE_BYTES = 256 * 1024 * 1024
# Compresses half a gigabyte a second; higher ones gain a few per cent on real files.
ZSTD_LEVEL = 1

_HEAD = struct.Struct(">32sIIB")
HEAD_BYTES = _HEAD.size
# A frame of what can't be compressed is a little larger than its content.
MAX_STORED_BYTES = MAX_CHUNK_BYTES


class Missing(Record, frozen=True):
    """The places, from 0, in the list that was asked about, of those the server needs."""

    missing: list[int]


class Stored(Record, frozen=True):
    """How many chunks of a bundle are on disk; fewer than were sent if the bundle was cut."""

    stored: int


class Assembled(Record, frozen=True):
    """The blob is in the repository; ``size`` in bytes."""

    digest: str
    size: int


class Assembling(Record, frozen=True):
    """The blob is being put together and verified; bytes of bytes."""

    digest: str
    done: int
    size: int


class Coding(IntEnum):
    """How a chunk's bytes are written."""

    PLAIN = 0
    ZSTD = 1


class Head(NamedTuple):
    """What stands before a chunk's bytes in a bundle: ``stored`` of them follow."""

    chunk: Chunk
    stored: int
    coding: Coding

    def encode(self) -> bytes:
        """The 41 bytes of it."""
        return _HEAD.pack(self.chunk.digest, self.chunk.size, self.stored, self.coding)

    @classmethod
    def decode(cls, data: bytes) -> "Head":
        """Read one.

        :raises InvalidChunks: a size or a coding that can't be.
        """
        digest, size, stored, coding = _HEAD.unpack(data)
        if not 0 < size <= MAX_CHUNK_BYTES or not 0 < stored <= MAX_STORED_BYTES:
            raise InvalidChunks(f"a chunk has 1 to {MAX_CHUNK_BYTES} bytes")
        if coding not in list(Coding) or (coding == Coding.PLAIN and stored != size):
            raise InvalidChunks("a chunk is sent plain or as one frame of zstd")
        return cls(Chunk(digest, size), stored, Coding(coding))


class Packed(NamedTuple):
    """A chunk as it travels and as it lies on disk."""

    head: Head
    body: bytes

    @property
    def wire(self) -> bytes:
        """Head and body."""
        return self.head.encode() + self.body


def pack_chunk(chunk: Chunk, content: bytes) -> Packed:
    """A chunk ready to be sent: compressed if that makes it smaller."""
    body = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(content)
    if len(body) >= len(content):
        return Packed(Head(chunk, len(content), Coding.PLAIN), content)
    return Packed(Head(chunk, len(body), Coding.ZSTD), body)


def unpack_chunk(packed: Packed) -> bytes:
    """A chunk's content, verified; it allocates the chunk's declared size at the most.

    :raises InvalidChunks: it can't be decompressed, or has another size or digest.
    """
    head, content = packed.head, content_of_packed_chunk(packed)
    if len(content) != head.chunk.size or hashlib.sha256(content).digest() != head.chunk.digest:
        raise InvalidChunks(f"the bytes of the chunk {head.chunk} have another digest")
    return content


def content_of_packed_chunk(packed: Packed) -> bytes:
    """A chunk's content, of what was verified when it came; the size is checked only.

    :raises InvalidChunks: it can't be decompressed.
    """
    head, body = packed
    return body if head.coding is Coding.PLAIN else decompress_chunk(body, head.chunk.size)


def decompress_chunk(body: bytes, size: int) -> bytes:
    """The content of one frame that says to have ``size`` bytes; nothing is verified.

    :raises InvalidChunks: it is no such frame.
    """
    try:
        parameters = zstandard.get_frame_parameters(body)
        if parameters.content_size != size or parameters.dict_id:
            raise InvalidChunks("a chunk's frame does not say the chunk's size")
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidChunks(f"a chunk can't be decompressed: {error}") from None


class BundleReader:
    """Takes a bundle apart while it arrives; keeps one unfinished chunk at the most."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Head | None = None

    def feed(self, data: bytes) -> Iterator[Packed]:
        """The chunks that are whole by now, nothing of them verified.

        :raises InvalidChunks: what was fed is not a bundle.
        """
        self._buffer += data
        start = 0
        try:
            while True:
                if self._head is None:
                    if len(self._buffer) - start < HEAD_BYTES:
                        return
                    self._head = Head.decode(bytes(self._buffer[start : start + HEAD_BYTES]))
                    start += HEAD_BYTES
                if len(self._buffer) - start < self._head.stored:
                    return
                body = bytes(self._buffer[start : start + self._head.stored])
                start += self._head.stored
                head, self._head = self._head, None
                yield Packed(head, body)
        finally:
            del self._buffer[:start]

    @property
    def is_between_chunks(self) -> bool:
        """Whether the bundle may end here."""
        return self._head is None and not self._buffer
