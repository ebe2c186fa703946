"""Blobs of repositories: whether they are there, their bytes, mounting and deleting them."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from io import FileIO
from typing import NamedTuple

from dit4c_p2p.imageserver.store.chunks import Chunks
from dit4c_p2p.imageserver.store.errors import InUse, NotThere
from dit4c_p2p.imageserver.store.files import Files
from dit4c_p2p.imageserver.store.index import (
    Index,
    Transaction,
    ensure_repository,
    repository_id,
)
from dit4c_p2p.imageserver.store.parts import ChunkPart, FilePart, Part, add_file_part
from dit4c_p2p.imageserver.store.uploads import link_blob
from dit4c_p2p.oci.chunks import Chunk, iterate_chunks
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.exchange import Coding, content_of_packed_chunk

_READ_BYTES = 1024 * 1024
# Chunks that are found in one go: 16 MB as a rule.
_PARTS_AT_ONCE = 64
_READ_AT_ONCE = 4
# A blob's last use is written down when the one before is so long ago.
_TOUCH_S = 600.0


class Blob(NamedTuple):
    """A blob; ``size`` in bytes. ``is_chunked``: it is kept in chunks, and is no file."""

    id: int
    digest: Digest
    size: int
    is_chunked: bool


class Blobs:
    """The blobs of a store."""

    def __init__(
        self,
        index: Index,
        files: Files,
        chunks: Chunks,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._index, self._files, self._chunks, self._clock = index, files, chunks, clock

    async def find(self, repository: str, digest: Digest) -> Blob:
        """A blob of the repository; one that was asked for is not collected for a while.

        :raises NotThere: the repository has no such blob.
        """
        blob, touched = await self._index.read(
            lambda at: _find_for_blob_store(at, repository, digest)
        )
        now = self._clock()
        if now - touched > _TOUCH_S:

            def work(at: Transaction) -> Blob:
                again, _ = _find_for_blob_store(at, repository, digest)
                link_blob(at, ensure_repository(at, repository), again.id, now)
                return again

            return await self._index.write(work)
        return blob

    async def recipe(self, repository: str, digest: Digest) -> bytes:
        """The list of a blob's chunks.

        :raises NotThere: the repository has no such blob, or it is kept as a file.
        """
        blob = await self.find(repository, digest)
        recipe = await self._index.read(lambda at: _recipe_for_blob_store(at, blob))
        if recipe is None:
            raise NotThere("the blob is not kept in chunks", hint="get it whole")
        return recipe

    async def content(self, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` to before ``stop``, in pieces of a megabyte or less.

        :raises NotThere: it was deleted.
        """
        if blob.is_chunked:
            return self._from_chunks(await self._recipe(blob), start, stop)
        return _from_file_for_blob_store(await self._open(blob), start, stop)

    async def parts(self, blob: Blob, start: int, stop: int) -> AsyncGenerator[list[Part], None]:
        """Where the same bytes lie, some at a time; files are open until the next are asked for.

        :raises NotThere: it was deleted.
        """
        if not blob.is_chunked:
            file = await self._open(blob)
            with file:
                yield [FilePart(file.fileno(), start, stop - start)]
            return
        left = stop - start
        for window, skip in _windows_for_blob_store(
            await self._recipe(blob), start, stop, _PARTS_AT_ONCE
        ):
            places, packs = await self._chunks.open_places(window)
            try:
                parts: list[Part] = []
                for head, pack, begin in places:
                    size = min(head.chunk.size - skip, left)
                    if head.coding is Coding.PLAIN:
                        add_file_part(parts, packs[pack], begin + skip, size)
                    else:
                        parts.append(ChunkPart(packs[pack], begin, head, skip, size))
                    skip, left = 0, left - size
                yield parts
            finally:
                for descriptor in packs.values():
                    os.close(descriptor)

    async def whole(self, repository: str, digest: Digest, limit: int) -> bytes:
        """A small blob's content.

        :raises NotThere: the repository has no such blob, or it is larger than ``limit``.
        """
        blob = await self.find(repository, digest)
        if blob.size > limit:
            raise NotThere(f"the blob has more than {limit} bytes")
        return b"".join([part async for part in await self.content(blob, 0, blob.size)])

    async def mount(self, repository: str, source: str, digest: Digest) -> bool:
        """Have the repository hold a blob of ``source`` as well; False: it has none such."""

        def work(at: Transaction) -> bool:
            try:
                blob, _ = _find_for_blob_store(at, source, digest)
            except NotThere:
                return False
            link_blob(at, ensure_repository(at, repository), blob.id, self._clock())
            return True

        return await self._index.write(work)

    async def delete(self, repository: str, digest: Digest) -> None:
        """Have the repository hold the blob no more.

        :raises NotThere: it does not.
        :raises InUse: a manifest of the repository names it.
        """

        def work(at: Transaction) -> None:
            blob, _ = _find_for_blob_store(at, repository, digest)
            found = repository_id(at, repository)
            named = at.execute(
                "SELECT 1 FROM manifest_blob b JOIN manifest m ON m.id = b.manifest "
                "WHERE b.blob = ? AND m.repository = ?",
                (blob.id, found),
            ).fetchone()
            if named is not None:
                raise InUse("a manifest names this blob", hint="delete the manifest first")
            at.execute(
                "DELETE FROM repository_blob WHERE repository = ? AND blob = ?", (found, blob.id)
            )

        await self._index.write(work)

    async def _open(self, blob: Blob) -> FileIO:
        try:
            return await asyncio.to_thread(FileIO, self._files.blob(blob.digest.hex), "rb")
        except FileNotFoundError:
            raise NotThere("there is no such blob") from None

    async def _recipe(self, blob: Blob) -> bytes:
        recipe = await self._index.read(lambda at: _recipe_for_blob_store(at, blob))
        if recipe is None:
            raise NotThere("there is no such blob")
        return recipe

    async def _from_chunks(
        self, recipe: bytes, start: int, stop: int
    ) -> AsyncGenerator[bytes, None]:
        left = stop - start
        for window, skip in _windows_for_blob_store(recipe, start, stop, _READ_AT_ONCE):
            for packed in await self._chunks.read_batch(window):
                part = await asyncio.to_thread(content_of_packed_chunk, packed)
                part = part[skip : skip + left]
                skip, left = 0, left - len(part)
                yield part


def _windows_for_blob_store(
    recipe: bytes, start: int, stop: int, count: int
) -> Iterator[tuple[list[Chunk], int]]:
    """The chunks that have the bytes from ``start`` to before ``stop``, ``count`` at a time, and
    how many bytes of the first of them are before ``start``.

    The list of a large blob is not taken apart as a whole: each of its chunks would take ten times
    the memory.
    """
    window: list[Chunk] = []
    skip = end = 0
    for chunk in iterate_chunks(recipe):
        begin, end = end, end + chunk.size
        if end <= start:
            continue
        if begin >= stop:
            break
        if not window:
            skip = max(start - begin, 0)
        window.append(chunk)
        if len(window) == count:
            yield window, skip
            window = []
    if window:
        yield window, skip


def _find_for_blob_store(at: Transaction, repository: str, digest: Digest) -> tuple[Blob, float]:
    row = at.execute(
        "SELECT b.id, b.size, b.recipe IS NOT NULL, l.touched FROM blob b "
        "JOIN repository_blob l ON l.blob = b.id JOIN repository r ON r.id = l.repository "
        "WHERE b.digest = ? AND r.name = ?",
        (digest.raw, repository),
    ).fetchone()
    if row is None:
        raise NotThere("there is no such blob in this repository")
    return Blob(int(row[0]), digest, int(row[1]), bool(row[2])), float(row[3])


def _recipe_for_blob_store(at: Transaction, blob: Blob) -> bytes | None:
    row = at.execute("SELECT recipe FROM blob WHERE digest = ?", (blob.digest.raw,)).fetchone()
    return None if row is None else row[0]


async def _from_file_for_blob_store(
    file: FileIO, start: int, stop: int
) -> AsyncGenerator[bytes, None]:
    with file:
        place = start
        while place < stop:
            wanted = min(_READ_BYTES, stop - place)
            part = await asyncio.to_thread(os.pread, file.fileno(), wanted, place)
            if not part:
                raise OSError("a blob's file is shorter than the index says")
            place += len(part)
            yield part
