"""Cutting by content, and lists of chunks."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit4c_p2p.oci.chunks import (
    AVERAGE_CHUNK_BYTES,
    ENTRY_BYTES,
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    Chunk,
    Cutter,
    cut,
    decode_chunks,
    encode_chunks,
)
from dit4c_p2p.oci.errors import InvalidChunks

MIB = 1024 * 1024


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def cut_in_parts(data: bytes, sizes: list[int]) -> list[bytes]:
    cutter, pieces, start = Cutter(), [], 0
    for size in sizes:
        pieces += cutter.feed(data[start : start + size])
        start += size
    return [*pieces, *cutter.feed(data[start:]), *cutter.finish()]


@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(0, 6 * MIB),
    parts=st.lists(st.integers(0, 2 * MIB), max_size=8),
)
def test_chunks_depend_on_the_content_and_not_on_how_it_arrives(
    size: int, parts: list[int]
) -> None:
    data = content(1, size)
    assert cut_in_parts(data, parts) == cut(data)


def test_chunks_have_the_sizes_of_the_protocol() -> None:
    pieces = cut(content(2, 32 * MIB))
    assert b"".join(pieces) == content(2, 32 * MIB)
    assert all(MIN_CHUNK_BYTES <= len(piece) <= MAX_CHUNK_BYTES for piece in pieces[:-1])
    average = 32 * MIB / len(pieces)
    assert AVERAGE_CHUNK_BYTES / 2 < average < AVERAGE_CHUNK_BYTES * 2


def test_zeros_give_the_largest_chunks() -> None:
    assert [len(piece) for piece in cut(bytes(3 * MIB + 1))] == [MIB, MIB, MIB, 1]


def test_an_inserted_byte_changes_the_chunks_around_it_only() -> None:
    before = content(3, 16 * MIB)
    after = before[: 8 * MIB] + b"x" + before[8 * MIB :]
    assert len(set(cut(after)) - set(cut(before))) <= 2


def test_the_cut_points_are_part_of_the_protocol() -> None:
    """A release of the library that cuts elsewhere would send everything again."""
    pieces = cut(content(4, 2 * MIB))
    assert [len(piece) for piece in pieces] == EXPECTED


EXPECTED = [195521, 203255, 219803, 265966, 331753, 187420, 619655, 73779]


def test_a_list_of_chunks_is_read_as_it_was_written() -> None:
    chunks = [Chunk.of(piece) for piece in cut(content(5, 2 * MIB))]
    assert decode_chunks(encode_chunks(chunks)) == chunks
    assert decode_chunks(b"") == []


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        bytes(ENTRY_BYTES),
        bytes(32) + (MAX_CHUNK_BYTES + 1).to_bytes(4, "big"),
        (bytes(32) + (1).to_bytes(4, "big")) * 3,
    ],
    ids=["half an entry", "an empty chunk", "too large a chunk", "more than asked for"],
)
def test_a_malformed_list_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidChunks):
        decode_chunks(data, limit=2)
