"""Chunks: which a repository has, taking them in, handing them out, putting blobs together.

A chunk is there for a caller if a blob of the repository (or of a source that the caller may read)
has it, or if it is pinned: promised to the repository for a time. Each chunk is kept once.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

from dit4c_p2p.imageserver.store.errors import MissingChunks, NotThere, TooMany, WrongDigest
from dit4c_p2p.imageserver.store.files import Files, put_in_place
from dit4c_p2p.imageserver.store.index import (
    MAX_PARAMETERS,
    Index,
    Transaction,
    ensure_repository,
    in_batches,
    marks,
    repository_id,
)
from dit4c_p2p.imageserver.store.packs import PackWriter, Place, locate, open_packs, read_places
from dit4c_p2p.imageserver.store.uploads import link_blob
from dit4c_p2p.oci.chunks import MAX_CHUNKS_IN_REQUEST, Chunk, windows_of_chunks
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import InvalidChunks
from dit4c_p2p.oci.exchange import BundleReader, Packed, content_of_packed_chunk, unpack_chunk
from dit4c_p2p.one_behind import OneBehind

_log = logging.getLogger(__name__)

# Read, verified and sent together, for each client: a megabyte as a rule, four at the most.
_AT_ONCE = 4
_TRIES = 5
MAX_ASSEMBLIES = 64
_ASSEMBLIES_AT_ONCE = 2
# Named in one answer; when these have been sent, the next are.
_MOST_MISSING = 16_384

T = TypeVar("T")
IdsByDigest = dict[bytes, int]


class Assembly:
    """A blob on its way to be put together; ``done`` bytes of ``size`` have been verified."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.done = 0
        self.task: asyncio.Task[None] | None = None


class Chunks:
    """The chunks of a store.

    :param pinned_s: for how long a chunk stays that was promised or sent.
    """

    def __init__(
        self, index: Index, files: Files, pinned_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._index, self._files, self._pinned_s, self._clock = index, files, pinned_s, clock
        self._assemblies: dict[tuple[str, str, bytes], Assembly] = {}
        self._turns = asyncio.Semaphore(_ASSEMBLIES_AT_ONCE)

    async def missing(
        self, repository: str, sources: Sequence[str], chunks: Sequence[Chunk]
    ) -> list[int]:
        """The places in ``chunks`` of those that are not there; each is named once.

        Those that are there will stay for ``pinned_s``.
        """

        def work(at: Transaction) -> list[int]:
            found = ensure_repository(at, repository)
            there = _visible_for_chunk_store(at, found, sources, chunks, self._clock())
            self._pin(at, found, there.values())
            return _places_of_missing(chunks, there)

        return await self._index.write(work)

    async def store(self, repository: str, parts: AsyncIterator[bytes]) -> int:
        """Take a bundle in; how many chunks are on disk and pinned for the repository.

        Chunks that came whole before ``parts`` broke off, or before one was bad, are kept as well.

        :raises InvalidChunks: the bundle is malformed, or a chunk's bytes have another digest.
        :raises DiskFull: there is no room.
        """
        self._files.check_room()
        reader = BundleReader()
        with PackWriter(self._files) as pack:
            try:
                async with OneBehind() as taking:
                    async for part in parts:
                        await taking.begin(partial(_take_in_for_chunk_store, reader, part, pack))
                    await taking.finish()
                if not reader.is_between_chunks:
                    raise InvalidChunks("the bundle ends inside a chunk", hint="send it again")
            except asyncio.CancelledError:
                raise
            except BaseException:
                await self._keep(repository, pack)
                raise
            return await self._keep(repository, pack)

    async def fetch(self, repository: str, chunks: Sequence[Chunk]) -> AsyncGenerator[Packed, None]:
        """The chunks, in this order, as they lie on disk.

        :raises NotThere: one of them is not there, or is not the repository's; before the first.
        """

        def work(at: Transaction) -> bool:
            found = repository_id(at, repository)
            if found is None:
                return False
            there = _visible_for_chunk_store(at, found, (), chunks, self._clock())
            return all(chunk.digest in there for chunk in chunks)

        if not await self._index.read(work):
            raise NotThere("one of the chunks is not there")
        return self.read(chunks)

    async def read(self, chunks: Sequence[Chunk]) -> AsyncGenerator[Packed, None]:
        """Chunks, in this order, wherever they are from.

        :raises NotThere: one is not there any more.
        """
        for start in range(0, len(chunks), _AT_ONCE):
            batch = chunks[start : start + _AT_ONCE]
            for packed in await self.read_batch(batch):
                yield packed

    async def assemble(
        self, repository: str, sources: Sequence[str], digest: Digest, recipe: bytes, size: int
    ) -> Assembly:
        """Begin to put a blob of ``size`` bytes together, or find that it has been begun.

        :param recipe: the list of its chunks, checked. It is looked through a part at a time: taken
            apart, that of 20 GiB has ten times its size.
        :raises MissingChunks: some are not there; of very many, the first of them.
        :raises TooMany: too many are being put together.
        """
        key = (repository, str(digest), hashlib.sha256(recipe).digest())
        running = self._assemblies.get(key)
        if running is None:
            await self._check_all_there(repository, sources, recipe)
            running = self._assemblies.get(key)
        if running is None:
            if len(self._assemblies) >= MAX_ASSEMBLIES:
                raise TooMany("too many blobs are being put together", hint="try again soon")
            running = self._assemblies[key] = Assembly(size)
            running.task = asyncio.create_task(
                self._assemble(running, repository, digest, recipe), name=f"assembling {digest}"
            )
            running.task.add_done_callback(lambda task: self._ended(key, task))
        return running

    async def close(self) -> None:
        """Give up what is being put together; it can be begun again."""
        tasks = [one.task for one in self._assemblies.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- inside

    def _ended(self, key: tuple[str, str, bytes], task: "asyncio.Task[None]") -> None:
        self._assemblies.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("a blob of %s was not put together: %s", key[0], error)

    async def _check_all_there(
        self, repository: str, sources: Sequence[str], recipe: bytes
    ) -> None:
        missing: list[int] = []
        first = 0
        for window in windows_of_chunks(recipe, MAX_CHUNKS_IN_REQUEST):
            places = await self.missing(repository, sources, window)
            missing += [first + place for place in places]
            first += len(window)
            if len(missing) >= _MOST_MISSING:
                break
        if missing:
            raise MissingChunks(missing)

    async def _assemble(
        self, progress: Assembly, repository: str, digest: Digest, recipe: bytes
    ) -> None:
        async with self._turns:
            sha256, ready = hashlib.sha256(), list[bytes]()
            for window in chain(windows_of_chunks(recipe, _AT_ONCE), [[]]):
                # Each chunk was verified when it came: here the digest of the whole is enough.
                contents, size = await asyncio.gather(
                    self._located(
                        window, lambda places: _contents_for_chunk_store(self._files, places)
                    ),
                    asyncio.to_thread(_hash_for_chunk_store, sha256, ready),
                )
                progress.done += size
                ready = contents
            if sha256.digest() != digest.raw:
                raise WrongDigest("the chunks together have another digest")
            now = self._clock()
            await self._index.write(
                lambda at: _keep_blob_for_chunk_store(
                    at, repository, digest, progress.size, recipe, now
                )
            )

    async def open_places(self, batch: Sequence[Chunk]) -> tuple[list[Place], dict[str, int]]:
        """Where chunks are, in this order, and the packs, opened; the caller closes them.

        :raises NotThere: one is not there any more.
        """
        return await self._located(batch, lambda places: (places, open_packs(self._files, places)))

    async def read_batch(self, batch: Sequence[Chunk]) -> list[Packed]:
        """Chunks, in this order, as they lie on disk.

        :raises NotThere: one is not there any more.
        """
        return await self._located(batch, lambda places: read_places(self._files, places))

    async def _located(self, batch: Sequence[Chunk], use: Callable[[list[Place]], T]) -> T:
        """What ``use`` makes in a thread of where the chunks are."""
        for _ in range(_TRIES):
            there = await self._index.read(lambda at: locate(at, batch))
            if any(chunk.digest not in there for chunk in batch):
                raise NotThere("a chunk is not there any more")
            places = [there[chunk.digest] for chunk in batch]
            try:
                return await asyncio.to_thread(use, places)
            except FileNotFoundError:
                continue  # the garbage collection has moved it: the index knows where to
        raise OSError("a pack that the index names is not there")

    async def _keep(self, repository: str, pack: PackWriter) -> int:
        """Have the pack's chunks outlive a power cut, without those that there are already."""
        if not pack.places:
            return 0
        count = len(pack.places)
        held = await self._index.write(lambda at: self._pin_held(at, repository, pack.places))
        if held:
            with PackWriter(self._files) as smaller:
                await asyncio.to_thread(_copy_others_for_chunk_store, pack, smaller, held)
                await self._place(repository, smaller)
        else:
            await self._place(repository, pack)
        return count

    async def _place(self, repository: str, pack: PackWriter) -> None:
        if not pack.places:
            return
        await asyncio.to_thread(pack.sync)

        def work(at: Transaction) -> None:
            put_in_place(pack.path, self._files.pack(pack.name))
            write_pack(at, pack)
            found = ensure_repository(at, repository)
            digests = [place.head.chunk.digest for place in pack.places]
            self._pin(at, found, _ids_for_chunk_store(at, digests).values())

        await self._index.write(work)

    def _pin_held(self, at: Transaction, repository: str, places: Sequence[Place]) -> set[bytes]:
        """Those that are in a pack already: whoever sent them has shown to have them."""
        held = _ids_for_chunk_store(at, [place.head.chunk.digest for place in places])
        self._pin(at, ensure_repository(at, repository), held.values())
        return set(held)

    def _pin(self, at: Transaction, repository: int, chunks: Iterable[int]) -> None:
        until = self._clock() + self._pinned_s
        at.executemany(
            "INSERT INTO pin VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = excluded.until",
            [(repository, chunk, until) for chunk in chunks],
        )


def write_pack(at: Transaction, pack: PackWriter) -> None:
    """Write down a pack and where its chunks are; those that another pack has stay there."""
    made = at.execute(
        "INSERT INTO pack (name, size) VALUES (?, ?)", (pack.name, pack.size)
    ).lastrowid
    at.executemany(
        "INSERT OR IGNORE INTO chunk (digest, size, pack, start, stored, coding) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            (head.chunk.digest, head.chunk.size, made, start, head.stored, int(head.coding))
            for head, _, start in pack.places
        ],
    )


def _take_in_for_chunk_store(reader: BundleReader, part: bytes, pack: PackWriter) -> None:
    for packed in reader.feed(part):
        unpack_chunk(packed)
        pack.add(packed)


def _copy_others_for_chunk_store(pack: PackWriter, target: PackWriter, held: set[bytes]) -> None:
    for place in pack.places:
        if place.head.chunk.digest not in held:
            target.add(pack.read(place))


def _contents_for_chunk_store(files: Files, places: Sequence[Place]) -> list[bytes]:
    return [content_of_packed_chunk(packed) for packed in read_places(files, places)]


def _hash_for_chunk_store(sha256: "hashlib._Hash", contents: Sequence[bytes]) -> int:
    for content in contents:
        sha256.update(content)
    return sum(map(len, contents))


def _places_of_missing(chunks: Sequence[Chunk], there: IdsByDigest) -> list[int]:
    seen, places = set(there), []
    for place, chunk in enumerate(chunks):
        if chunk.digest not in seen:
            seen.add(chunk.digest)
            places.append(place)
    return places


def _visible_for_chunk_store(
    at: Transaction,
    repository: int,
    sources: Sequence[str],
    chunks: Sequence[Chunk],
    now: float,
) -> IdsByDigest:
    """Those of ``chunks`` that are there for a caller who may read repository and sources."""
    readable = [repository]
    readable += [found for name in sources if (found := repository_id(at, name)) is not None]
    sizes = {chunk.digest: chunk.size for chunk in chunks}
    there = {}
    for batch in in_batches(list(sizes), MAX_PARAMETERS - len(readable) - 2):
        rows = at.execute(
            f"SELECT c.digest, c.id, c.size FROM chunk c WHERE c.digest IN ({marks(batch)}) AND ("
            "EXISTS (SELECT 1 FROM pin p WHERE p.chunk = c.id AND p.repository = ? AND p.until > ?)"
            " OR EXISTS (SELECT 1 FROM blob_chunk b JOIN repository_blob r ON r.blob = b.blob "
            f"WHERE b.chunk = c.id AND r.repository IN ({marks(readable)})))",
            (*batch, repository, now, *readable),
        )
        there.update({digest: id for digest, id, size in rows if size == sizes[digest]})
    return there


def _ids_for_chunk_store(at: Transaction, digests: Sequence[bytes]) -> IdsByDigest:
    found: IdsByDigest = {}
    for batch in in_batches(list(set(digests))):
        query = f"SELECT digest, id FROM chunk WHERE digest IN ({marks(batch)})"
        found.update(at.execute(query, batch).fetchall())
    return found


def _keep_blob_for_chunk_store(
    at: Transaction, repository: str, digest: Digest, size: int, recipe: bytes, now: float
) -> None:
    found = ensure_repository(at, repository)
    row = at.execute("SELECT id FROM blob WHERE digest = ?", (digest.raw,)).fetchone()
    if row is None:
        made = at.execute(
            "INSERT INTO blob (digest, size, recipe) VALUES (?, ?, ?)", (digest.raw, size, recipe)
        ).lastrowid
        blob = int(made or 0)
    else:
        blob = int(row[0])
    for window in windows_of_chunks(recipe, MAX_CHUNKS_IN_REQUEST):
        ids = _ids_for_chunk_store(at, [chunk.digest for chunk in window])
        if places := _places_of_missing(window, ids):
            raise MissingChunks(places)
        if row is None:
            at.executemany(
                "INSERT OR IGNORE INTO blob_chunk VALUES (?, ?)",
                [(id, blob) for id in ids.values()],
            )
        at.executemany(
            "DELETE FROM pin WHERE repository = ? AND chunk = ?",
            [(found, id) for id in ids.values()],
        )
    link_blob(at, found, blob, now)
