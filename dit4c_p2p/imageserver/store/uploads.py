"""Uploads of whole blobs: begun, added to, resumed after a break, finished with a digest.

An upload's bytes are in a file. Its SHA-256 is kept in memory while they come, and is computed from
the file where the server was restarted in between. Two requests never write to one upload at once.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from dit4c_p2p.imageserver.store.errors import (
    InUse,
    NoSuchUpload,
    TooLarge,
    TooMany,
    WrongDigest,
    WrongOffset,
)
from dit4c_p2p.imageserver.store.files import (
    Files,
    disk_errors,
    new_name,
    put_in_place,
    write_all,
)
from dit4c_p2p.imageserver.store.index import (
    Index,
    Transaction,
    ensure_repository,
    repository_id,
)
from dit4c_p2p.oci.digests import Digest

MAX_UPLOADS_IN_REPOSITORY = 256
_READ_BYTES = 1024 * 1024
# The room on the disk is looked at again after so many bytes.
_LOOK_BYTES = 64 * 1024 * 1024


class _Progress:
    """An upload that is in memory: its SHA-256 so far, and whether somebody writes to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.hashed = 0
        self.busy = False


class Uploads:
    """All uploads of a store.

    :param max_bytes: of one blob.
    """

    def __init__(
        self, index: Index, files: Files, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._index, self._files, self._max_bytes, self._clock = index, files, max_bytes, clock
        self._known: dict[str, _Progress] = {}

    async def begin(self, repository: str) -> str:
        """A new upload's id.

        :raises DiskFull: there is no room for uploads.
        :raises TooMany: the repository has as many as it may have.
        """
        self._files.check_room()
        name = new_name()

        def work(at: Transaction) -> None:
            found = ensure_repository(at, repository)
            (count,) = at.execute(
                "SELECT count(*) FROM upload WHERE repository = ?", (found,)
            ).fetchone()
            if count >= MAX_UPLOADS_IN_REPOSITORY:
                raise TooMany(
                    f"the repository has {count} uploads that are not finished",
                    hint="cancel some, or wait until they are removed",
                )
            at.execute("INSERT INTO upload VALUES (?, ?, ?)", (name, found, self._clock()))
            with disk_errors():
                os.close(
                    os.open(self._files.incoming(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                )

        await self._index.write(work)
        self._known[name] = _Progress()
        return name

    async def offset(self, repository: str, name: str) -> int:
        """How many bytes an upload has.

        :raises NoSuchUpload: there is no such upload in the repository.
        """
        await self._find(repository, name)
        try:
            return self._files.incoming(name).stat().st_size
        except FileNotFoundError:
            raise _unknown_for_store_uploads() from None

    async def append(
        self, repository: str, name: str, start: int | None, parts: AsyncIterator[bytes]
    ) -> int:
        """Add ``parts`` at ``start``, or at the end; the size is returned.

        What has come before ``parts`` breaks off stays, so that the upload can be resumed.

        :raises NoSuchUpload: there is no such upload in the repository.
        :raises WrongOffset: it does not end at ``start``.
        :raises InUse: another request writes to it.
        :raises TooLarge: it would get over the limit; it is given up.
        :raises DiskFull: there is no room; what was there stays.
        """
        await self._find(repository, name)
        progress = self._enter(name)
        try:
            path = self._files.incoming(name)
            descriptor = await asyncio.to_thread(_open_for_store_uploads, path)
            try:
                size = os.fstat(descriptor).st_size
                if start is not None and start != size:
                    raise WrongOffset(size)
                if progress.hashed != size:
                    progress.sha256, progress.hashed = hashlib.sha256(), 0
                    await asyncio.to_thread(_hash_file_for_store_uploads, path, progress, size)
                looked = size
                async for part in parts:
                    if size + len(part) > self._max_bytes:
                        raise TooLarge(f"a blob may have {self._max_bytes} bytes at the most")
                    if size - looked >= _LOOK_BYTES or looked == size:
                        self._files.check_room(len(part))
                        looked = size
                    await asyncio.to_thread(_add_for_store_uploads, descriptor, part, progress)
                    size += len(part)
                return size
            finally:
                os.close(descriptor)
                await self._touch(name)
        except TooLarge:
            await self._remove(name)
            raise
        finally:
            progress.busy = False

    async def finish(self, repository: str, name: str, digest: Digest) -> None:
        """Make the upload a blob of the repository; once it returns it outlives a power cut.

        :raises NoSuchUpload: there is no such upload in the repository.
        :raises WrongDigest: it has another digest; it is given up.
        :raises InUse: another request writes to it.
        """
        await self._find(repository, name)
        progress = self._enter(name)
        try:
            path = self._files.incoming(name)
            size = await asyncio.to_thread(_sync_for_store_uploads, path)
            if progress.hashed != size:
                progress.sha256, progress.hashed = hashlib.sha256(), 0
                await asyncio.to_thread(_hash_file_for_store_uploads, path, progress, size)
            if progress.sha256.digest() != digest.raw:
                await self._remove(name)
                raise WrongDigest("what was uploaded has another digest", hint="upload it again")
            await self._index.write(lambda at: self._keep(at, repository, name, digest, size))
            self._known.pop(name, None)
        finally:
            progress.busy = False

    async def cancel(self, repository: str, name: str) -> None:
        """Give an upload up.

        :raises NoSuchUpload: there is no such upload in the repository.
        :raises InUse: another request writes to it.
        """
        await self._find(repository, name)
        progress = self._enter(name)
        try:
            await self._remove(name)
        finally:
            progress.busy = False

    async def remove_older(self, than: float) -> int:
        """Give up those that nobody has written to since ``than``; how many."""

        def work(at: Transaction) -> list[str]:
            return [
                str(row[0])
                for row in at.execute("SELECT id FROM upload WHERE touched < ?", (than,))
            ]

        old = [name for name in await self._index.read(work) if not self.is_busy(name)]
        for name in old:
            await self._remove(name)
        return len(old)

    def is_busy(self, name: str) -> bool:
        """Whether a request writes to it now."""
        return name in self._known and self._known[name].busy

    def _enter(self, name: str) -> _Progress:
        progress = self._known.setdefault(name, _Progress())
        if progress.busy:
            raise InUse(
                "another request is writing to this upload", hint="wait for it, or start another"
            )
        progress.busy = True
        return progress

    async def _find(self, repository: str, name: str) -> None:
        def work(at: Transaction) -> bool:
            found = repository_id(at, repository)
            query = "SELECT 1 FROM upload WHERE id = ? AND repository = ?"
            return at.execute(query, (name, found)).fetchone() is not None

        if not await self._index.read(work):
            raise _unknown_for_store_uploads()

    async def _touch(self, name: str) -> None:
        now = self._clock()
        await self._index.write(
            lambda at: at.execute("UPDATE upload SET touched = ? WHERE id = ?", (now, name))
        )

    async def _remove(self, name: str) -> None:
        def work(at: Transaction) -> None:
            at.execute("DELETE FROM upload WHERE id = ?", (name,))
            path = self._files.incoming(name)
            self._index.once_committed(lambda: path.unlink(missing_ok=True))

        await self._index.write(work)
        self._known.pop(name, None)

    def _keep(self, at: Transaction, repository: str, name: str, digest: Digest, size: int) -> None:
        """In the index's writer: the file gets its name, and the repository its blob."""
        row = at.execute("SELECT id FROM blob WHERE digest = ?", (digest.raw,)).fetchone()
        source = self._files.incoming(name)
        if row is None:
            put_in_place(source, self._files.blob(digest.hex))
            blob = at.execute(
                "INSERT INTO blob (digest, size) VALUES (?, ?)", (digest.raw, size)
            ).lastrowid
        else:
            blob = row[0]
            self._index.once_committed(lambda: source.unlink(missing_ok=True))
        link_blob(at, ensure_repository(at, repository), int(blob or 0), self._clock())
        at.execute("DELETE FROM upload WHERE id = ?", (name,))


def link_blob(at: Transaction, repository: int, blob: int, now: float) -> None:
    """Have a repository hold a blob, as of ``now``."""
    at.execute(
        "INSERT INTO repository_blob VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET touched = excluded.touched",
        (repository, blob, now),
    )


def _unknown_for_store_uploads() -> NoSuchUpload:
    return NoSuchUpload("there is no such upload", hint="begin a new one")


def _open_for_store_uploads(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        raise _unknown_for_store_uploads() from None


def _add_for_store_uploads(descriptor: int, part: bytes, progress: _Progress) -> None:
    write_all(descriptor, part)
    progress.sha256.update(part)
    progress.hashed += len(part)


def _sync_for_store_uploads(path: Path) -> int:
    try:
        with path.open("rb") as file, disk_errors():
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise _unknown_for_store_uploads() from None


def _hash_file_for_store_uploads(path: Path, progress: _Progress, size: int) -> None:
    """Bring an upload's SHA-256 up to ``size`` bytes of its file."""
    with path.open("rb") as file:
        file.seek(progress.hashed)
        while progress.hashed < size and (
            data := file.read(min(_READ_BYTES, size - progress.hashed))
        ):
            progress.sha256.update(data)
            progress.hashed += len(data)
