"""Removing what nobody needs: broken uploads, blobs and chunks that no image names, dead packs.

Everything is decided and done in the index's writer, a little at a time, so that uploads go on
between the steps and can't be missed: what an upload has been told to be there has been touched or
pinned by it, and stays for ``unfinished_s``.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dit4c_p2p.imageserver.store.errors import DiskFull
from dit4c_p2p.imageserver.store.files import Files, put_in_place
from dit4c_p2p.imageserver.store.index import Index, Transaction, marks
from dit4c_p2p.imageserver.store.packs import PackWriter, Place, locate, read_places
from dit4c_p2p.imageserver.store.uploads import Uploads
from dit4c_p2p.oci.chunks import Chunk
from dit4c_p2p.oci.digests import Digest

_log = logging.getLogger(__name__)

# In one transaction: a few milliseconds.
_AT_ONCE = 200
# A pack is written anew when less than this part of it is needed.
_WORTH_KEEPING = 0.5
_COPIED_AT_ONCE = 16

Step = Callable[[Transaction], int]


class Garbage:
    """The collection of a store."""

    def __init__(
        self,
        index: Index,
        files: Files,
        uploads: Uploads,
        unfinished_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._index, self._files, self._uploads = index, files, uploads
        self._unfinished_s, self._clock = unfinished_s, clock
        self._one_at_a_time = asyncio.Lock()

    async def collect(self) -> Counter[str]:
        """Remove what nobody needs; how many of what.

        :raises DiskFull: there is no room for the index to go on.
        """
        async with self._one_at_a_time:
            removed: Counter[str] = Counter()
            before = self._clock() - self._unfinished_s
            removed["uploads"] = await self._uploads.remove_older(before)
            removed["files"] = await self._remove_strays(before)
            for what, step in (
                ("referrers", lambda at: _referrers_for_garbage(at, before)),
                ("links", lambda at: _links_for_garbage(at, before)),
                ("blobs", self._blobs),
                ("pins", lambda at: _pins_for_garbage(at, self._clock())),
                ("chunks", _chunks_for_garbage),
                ("packs", self._empty_packs),
                ("repositories", _repositories_for_garbage),
            ):
                removed[what] = await self._repeat(step)
            removed["packs"] += await self._rewrite_packs()
            return removed

    async def remove_unfinished_packs(self) -> None:
        """At the start: packs that were being written when the server ended."""
        await self._index.write(lambda at: self._strays(at, self._files.all_incoming()))

    async def _repeat(self, step: Step) -> int:
        total = 0
        while done := await self._index.write(step):
            total += done
        return total

    async def _remove_strays(self, before: float) -> int:
        """Files that the index does not know: a crash may leave them."""
        total = 0
        incoming = await asyncio.to_thread(self._files.all_incoming)
        old = [path for path in incoming if _older_for_garbage(path, before)]
        total += await self._index.write(lambda at: self._strays(at, old))
        for kind in ("blobs", "packs"):
            paths = await asyncio.to_thread(self._files.all_of, kind)
            for start in range(0, len(paths), _AT_ONCE):
                batch = paths[start : start + _AT_ONCE]
                total += await self._index.write(
                    partial(_unknown_files_for_garbage, kind=kind, paths=batch)
                )
        return total

    def _strays(self, at: Transaction, paths: Sequence[Path]) -> int:
        removed = 0
        for path in paths:
            known = at.execute("SELECT 1 FROM upload WHERE id = ?", (path.name,)).fetchone()
            if known is None:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _blobs(self, at: Transaction) -> int:
        rows = at.execute(
            "SELECT b.id, b.digest FROM blob b WHERE NOT EXISTS "
            "(SELECT 1 FROM repository_blob l WHERE l.blob = b.id) LIMIT ?",
            (_AT_ONCE,),
        ).fetchall()
        for blob, digest in rows:
            at.execute("DELETE FROM blob_chunk WHERE blob = ?", (blob,))
            at.execute("DELETE FROM blob WHERE id = ?", (blob,))
            self._index.once_committed(
                _unlink_for_garbage(self._files.blob(Digest.of_raw(digest).hex))
            )
        return len(rows)

    def _empty_packs(self, at: Transaction) -> int:
        rows = at.execute(
            "SELECT p.id, p.name FROM pack p WHERE NOT EXISTS "
            "(SELECT 1 FROM chunk c WHERE c.pack = p.id) LIMIT ?",
            (_AT_ONCE,),
        ).fetchall()
        for pack, name in rows:
            at.execute("DELETE FROM pack WHERE id = ?", (pack,))
            self._index.once_committed(_unlink_for_garbage(self._files.pack(name)))
        return len(rows)

    async def _rewrite_packs(self) -> int:
        """Take what is needed out of packs that are mostly not."""

        def sparse(at: Transaction) -> list[tuple[int, str]]:
            return at.execute(
                "SELECT p.id, p.name FROM pack p JOIN chunk c ON c.pack = p.id "
                "GROUP BY p.id HAVING sum(c.stored) < p.size * ?",
                (_WORTH_KEEPING,),
            ).fetchall()

        found = await self._index.read(sparse)
        for pack, name in found:
            try:
                await self._rewrite(pack, name)
            except DiskFull:
                _log.warning("there is no room to write packs anew")
                return 0
        return len(found)

    async def _rewrite(self, pack: int, name: str) -> None:
        def needed(at: Transaction) -> list[Chunk]:
            rows = at.execute(
                "SELECT digest, size FROM chunk WHERE pack = ? ORDER BY start", (pack,)
            )
            return [Chunk(digest, size) for digest, size in rows]

        chunks = await self._index.read(needed)
        places = list((await self._index.read(lambda at: locate(at, chunks))).values())
        with PackWriter(self._files) as target:
            for start in range(0, len(places), _COPIED_AT_ONCE):
                batch = places[start : start + _COPIED_AT_ONCE]
                await asyncio.to_thread(self._copy, batch, target)
            await asyncio.to_thread(target.sync)

            def move(at: Transaction) -> None:
                put_in_place(target.path, self._files.pack(target.name))
                made = at.execute(
                    "INSERT INTO pack (name, size) VALUES (?, ?)", (target.name, target.size)
                ).lastrowid
                at.executemany(
                    "UPDATE chunk SET pack = ?, start = ? WHERE digest = ? AND pack = ?",
                    [(made, place.start, place.head.chunk.digest, pack) for place in target.places],
                )
                left = at.execute("SELECT 1 FROM chunk WHERE pack = ?", (pack,)).fetchone()
                if left is None:
                    at.execute("DELETE FROM pack WHERE id = ?", (pack,))
                    self._index.once_committed(_unlink_for_garbage(self._files.pack(name)))

            await self._index.write(move)

    def _copy(self, places: Sequence[Place], target: PackWriter) -> None:
        for packed in read_places(self._files, places):
            target.add(packed)


def _unlink_for_garbage(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)


def _older_for_garbage(path: Path, than: float) -> bool:
    try:
        return path.stat().st_mtime < than
    except FileNotFoundError:
        return False


def _unknown_files_for_garbage(at: Transaction, kind: str, paths: Sequence[Path]) -> int:
    """Remove those that the index does not name; nothing else puts files there meanwhile."""
    names = [path.name for path in paths]
    if kind == "packs":
        query = f"SELECT name FROM pack WHERE name IN ({marks(names)})"
        known = {str(row[0]) for row in at.execute(query, names)}
    else:
        query = f"SELECT digest FROM blob WHERE recipe IS NULL AND digest IN ({marks(names)})"
        digests = [_raw_for_garbage(name) for name in names]
        known = {row[0].hex() for row in at.execute(query, digests)}
    unknown = [path for path in paths if path.name not in known]
    for path in unknown:
        path.unlink(missing_ok=True)
    return len(unknown)


def _raw_for_garbage(name: str) -> bytes:
    try:
        return bytes.fromhex(name)
    except ValueError:
        return b""


def _referrers_for_garbage(at: Transaction, before: float) -> int:
    """Manifests about a manifest that is not there any more, which nothing else names."""
    return at.execute(
        "DELETE FROM manifest WHERE id IN (SELECT m.id FROM manifest m "
        "WHERE m.subject IS NOT NULL AND m.touched < ? "
        "AND NOT EXISTS (SELECT 1 FROM manifest s "
        "WHERE s.repository = m.repository AND s.digest = m.subject) "
        "AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.manifest = m.id) "
        "AND NOT EXISTS (SELECT 1 FROM manifest_child c WHERE c.child = m.id) LIMIT ?)",
        (before, _AT_ONCE),
    ).rowcount


def _links_for_garbage(at: Transaction, before: float) -> int:
    """Blobs of repositories that no manifest there names, and that nobody has asked about."""
    return at.execute(
        "DELETE FROM repository_blob WHERE (repository, blob) IN ("
        "SELECT l.repository, l.blob FROM repository_blob l WHERE l.touched < ? "
        "AND NOT EXISTS (SELECT 1 FROM manifest_blob b JOIN manifest m ON m.id = b.manifest "
        "WHERE b.blob = l.blob AND m.repository = l.repository) LIMIT ?)",
        (before, _AT_ONCE),
    ).rowcount


def _pins_for_garbage(at: Transaction, now: float) -> int:
    return at.execute(
        "DELETE FROM pin WHERE (repository, chunk) IN "
        "(SELECT repository, chunk FROM pin WHERE until < ? LIMIT ?)",
        (now, _AT_ONCE),
    ).rowcount


def _chunks_for_garbage(at: Transaction) -> int:
    return at.execute(
        "DELETE FROM chunk WHERE id IN (SELECT c.id FROM chunk c "
        "WHERE NOT EXISTS (SELECT 1 FROM blob_chunk b WHERE b.chunk = c.id) "
        "AND NOT EXISTS (SELECT 1 FROM pin p WHERE p.chunk = c.id) LIMIT ?)",
        (_AT_ONCE,),
    ).rowcount


def _repositories_for_garbage(at: Transaction) -> int:
    return at.execute(
        "DELETE FROM repository WHERE id IN (SELECT r.id FROM repository r "
        "WHERE NOT EXISTS (SELECT 1 FROM repository_blob x WHERE x.repository = r.id) "
        "AND NOT EXISTS (SELECT 1 FROM manifest x WHERE x.repository = r.id) "
        "AND NOT EXISTS (SELECT 1 FROM tag x WHERE x.repository = r.id) "
        "AND NOT EXISTS (SELECT 1 FROM upload x WHERE x.repository = r.id) "
        "AND NOT EXISTS (SELECT 1 FROM pin x WHERE x.repository = r.id) LIMIT ?)",
        (_AT_ONCE,),
    ).rowcount
