"""Where the bytes of a blob lie, so that they can be sent without being read first."""

from typing import NamedTuple

from dit4c_p2p.oci.exchange import Head


class FilePart(NamedTuple):
    """``size`` bytes from ``start`` on in an open file, as they are sent."""

    file: int
    start: int
    size: int


class ChunkPart(NamedTuple):
    """``size`` bytes of a chunk's content, after ``skip``; the chunk is written as ``head`` says,
    from ``start`` on in an open file.
    """

    file: int
    start: int
    head: Head
    skip: int
    size: int


Part = FilePart | ChunkPart


def add_file_part(parts: list[Part], file: int, start: int, size: int) -> None:
    """Add a part to those before it, or to the last of them if it goes on from there."""
    last = parts[-1] if parts else None
    if isinstance(last, FilePart) and last.file == file and last.start + last.size == start:
        parts[-1] = FilePart(file, last.start, last.size + size)
    else:
        parts.append(FilePart(file, start, size))
