"""Chunks packed, bundled, and taken apart again; hostile bundles."""

import os

import pytest
import zstandard

from dit4c_p2p.oci.chunks import MAX_CHUNK_BYTES, Chunk
from dit4c_p2p.oci.errors import InvalidChunks
from dit4c_p2p.oci.exchange import BundleReader, Coding, Head, Packed, pack_chunk, unpack_chunk

TEXT = b"the same words again " * 5000
NOISE = os.urandom(100_000)


def packed(content: bytes) -> Packed:
    return pack_chunk(Chunk.of(content), content)


def test_what_compresses_is_compressed_and_the_rest_is_sent_as_it_is() -> None:
    assert packed(TEXT).head.coding is Coding.ZSTD
    assert packed(TEXT).head.stored < len(TEXT) / 10
    assert packed(NOISE).head.coding is Coding.PLAIN
    assert unpack_chunk(packed(TEXT)) == TEXT
    assert unpack_chunk(packed(NOISE)) == NOISE


@pytest.mark.parametrize("step", [1, 7, 4096, 10**9])
def test_a_bundle_is_taken_apart_however_it_arrives(step: int) -> None:
    sent = [packed(TEXT), packed(NOISE[:5000]), packed(b"a")]
    wire = b"".join(one.wire for one in sent)
    reader, got = BundleReader(), []
    for start in range(0, len(wire), step):
        got += list(reader.feed(wire[start : start + step]))
    assert got == sent
    assert reader.is_between_chunks


def test_a_bundle_that_is_cut_gives_the_chunks_that_are_whole() -> None:
    wire = packed(TEXT).wire + packed(NOISE).wire
    reader = BundleReader()
    assert list(reader.feed(wire[:-1])) == [packed(TEXT)]
    assert not reader.is_between_chunks


def frame_of(content: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(content)


def said(chunk: Chunk, body: bytes, coding: Coding = Coding.ZSTD) -> Packed:
    return Packed(Head(chunk, len(body), coding), body)


@pytest.mark.parametrize(
    "hostile",
    [
        said(Chunk.of(TEXT), frame_of(NOISE)),
        said(Chunk.of(TEXT)._replace(size=10), frame_of(TEXT)),
        said(Chunk.of(TEXT), frame_of(TEXT, write_content_size=False)),
        said(Chunk.of(TEXT), frame_of(TEXT)[:-5]),
        said(Chunk.of(TEXT), frame_of(TEXT) + b"x"),
        said(Chunk.of(TEXT), frame_of(TEXT[:10]) + frame_of(TEXT[10:])),
        said(Chunk.of(TEXT), NOISE),
        said(Chunk.of(NOISE), NOISE[:-1] + b"?", Coding.PLAIN),
        said(Chunk.of(b"a"), frame_of(bytes(MAX_CHUNK_BYTES * 100))),
    ],
    ids=[
        "another content",
        "another size",
        "no declared size",
        "cut",
        "more behind the frame",
        "two frames",
        "no frame",
        "a byte changed",
        "a bomb",
    ],
)
def test_a_chunk_whose_bytes_do_not_match_is_refused(hostile: Packed) -> None:
    with pytest.raises(InvalidChunks):
        unpack_chunk(hostile)


@pytest.mark.parametrize(
    "head",
    [
        bytes(32) + (0).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\0",
        bytes(32) + (2**32 - 1).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\1",
        bytes(32) + (1).to_bytes(4, "big") + (2**32 - 1).to_bytes(4, "big") + b"\1",
        bytes(32) + (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\7",
        bytes(32) + (9).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\0",
    ],
    ids=["empty", "too large", "too many bytes", "unknown coding", "plain and shorter"],
)
def test_a_head_that_can_not_be_is_refused(head: bytes) -> None:
    with pytest.raises(InvalidChunks):
        list(BundleReader().feed(head))
