"""Packs: files in which chunks lie one after another, as they came: plain, or a frame of zstd.

A file for each chunk would cost a sync for each; a pack costs one. The index says where a chunk is.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from dit4c_p2p.imageserver.store.files import Files, disk_errors, new_name, write_all
from dit4c_p2p.imageserver.store.index import MAX_PARAMETERS, Transaction, in_batches, marks
from dit4c_p2p.oci.chunks import Chunk
from dit4c_p2p.oci.exchange import Coding, Head, Packed


class Place(NamedTuple):
    """Where a chunk is: ``head.stored`` bytes from ``start`` on in a pack."""

    head: Head
    pack: str
    start: int


class PackWriter:
    """A new pack, in ``incoming`` until :meth:`Packs.keep` gives it its place.

    Used as a context manager; a pack that was not kept is gone at its end.
    """

    def __init__(self, files: Files) -> None:
        self.name = new_name()
        self.places: list[Place] = []
        self.size = 0
        self._path = files.incoming(self.name)
        self._descriptor = -1

    def __enter__(self) -> Self:
        with disk_errors():
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    @property
    def path(self) -> Path:
        """Its file, for as long as it is not kept."""
        return self._path

    def add(self, packed: Packed) -> None:
        """Write a chunk that has been verified.

        :raises DiskFull: there is no room; what was there stays.
        """
        write_all(self._descriptor, packed.body)
        self.places.append(Place(packed.head, self.name, self.size))
        self.size += len(packed.body)

    def read(self, place: Place) -> Packed:
        """A chunk that was written."""
        return Packed(place.head, _read_for_packs(self._descriptor, place))

    def sync(self) -> None:
        """Have its bytes outlive a power cut.

        :raises DiskFull: there is no room for them.
        """
        with disk_errors():
            os.fsync(self._descriptor)


def locate(at: Transaction, chunks: Sequence[Chunk]) -> dict[bytes, Place]:
    """Where chunks are, by digest; those that are nowhere are left out."""
    found = {}
    for batch in in_batches(list({chunk.digest for chunk in chunks}), MAX_PARAMETERS):
        rows = at.execute(
            "SELECT c.digest, c.size, c.stored, c.coding, p.name, c.start "
            f"FROM chunk c JOIN pack p ON p.id = c.pack WHERE c.digest IN ({marks(batch)})",
            batch,
        )
        for digest, size, stored, coding, pack, start in rows:
            found[digest] = Place(Head(Chunk(digest, size), stored, Coding(coding)), pack, start)
    return found


def read_places(files: Files, places: Sequence[Place]) -> list[Packed]:
    """The chunks at ``places``, in this order.

    :raises FileNotFoundError: a pack has been replaced by another since the index was asked.
    """
    opened = open_packs(files, places)
    try:
        return [Packed(place.head, _read_for_packs(opened[place.pack], place)) for place in places]
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def open_packs(files: Files, places: Sequence[Place]) -> dict[str, int]:
    """The packs of ``places``, opened, by name; the caller closes them.

    :raises FileNotFoundError: a pack has been replaced by another since the index was asked.
    """
    opened: dict[str, int] = {}
    try:
        for place in places:
            if place.pack not in opened:
                opened[place.pack] = os.open(files.pack(place.pack), os.O_RDONLY)
    except OSError:
        for descriptor in opened.values():
            os.close(descriptor)
        raise
    return opened


def _read_for_packs(descriptor: int, place: Place) -> bytes:
    body = os.pread(descriptor, place.head.stored, place.start)
    if len(body) != place.head.stored:
        raise OSError(f"the pack {place.pack} is shorter than the index says")
    return body
