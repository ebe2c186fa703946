"""A stream of bytes → a blob of a repository, by chunks where the server has the exchange.

What the server has already is not sent again, so that an upload that was cut goes on by doing the
same once more. A server without the exchange (any registry) gets the whole blob, and goes on from
where it was cut if the upload's address is still known to it.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.upload.retry import Retry
from dit4c_p2p.oci.chunks import Chunk, Cutter
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.exchange import BUNDLE_TARGET_BYTES, Assembled, Assembling, Packed, pack_chunk
from dit4c_p2p.oci.registry_client import RegistryClient

_log = logging.getLogger(__name__)

# Held in memory until the server has said which of it it lacks, and has what it lacks. A batch is
# cut, the one before it compressed, and the one before that sent, at one time.
_BATCH_BYTES = 16 * 1024**2
_BATCHES_AHEAD = 1
_PACKERS = 4
_ASSEMBLY_PAUSE_S = 0.3


class UploadInterrupted(DitError):
    """The server has lost what it had; from the beginning it may go well."""

    code = "upload_interrupted"


@dataclass
class Tally:
    """How far it is, for whoever shows it; ``changed`` is called whenever it moves."""

    changed: Callable[[], None] = lambda: None
    done: int = 0
    sent: int = 0

    def add(self, done: int, sent: int) -> None:
        """So many more bytes are at the server, so many of them went by wire."""
        self.done += done
        self.sent += sent
        self.changed()


@dataclass(frozen=True)
class Blob:
    """A blob that is at the server."""

    digest: str
    size: int


@dataclass
class _Piece:
    chunk: Chunk
    content: bytes


@dataclass
class _Batch:
    """The chunks of some part of the blob, of ``size`` bytes, that no part before it has."""

    pieces: list[_Piece] = field(default_factory=list)
    size: int = 0


async def supports_chunks(client: RegistryClient, repository: str, retry: Retry) -> bool:
    """Whether the server has the chunk exchange."""
    return await retry(lambda: client.missing_chunks(repository, [])) is not None


async def upload_chunks(
    client: RegistryClient,
    repository: str,
    blocks: AsyncIterator[bytes],
    retry: Retry,
    tally: Tally,
    sources: Sequence[str] = (),
) -> Blob:
    """Upload by chunks.

    :param sources: further repositories whose chunks need not be sent.
    :raises UploadInterrupted: the server lacks at the end what it had, or was sent.
    """
    whole, size, chunks = hashlib.sha256(), 0, list[Chunk]()
    queue: asyncio.Queue[_Batch | None] = asyncio.Queue(_BATCHES_AHEAD)
    packed_queue: asyncio.Queue[tuple[_Batch, list[Packed]] | None] = asyncio.Queue(_BATCHES_AHEAD)

    async def cut() -> None:
        nonlocal size
        cutter, batch, met = Cutter(), _Batch(), set[Chunk]()

        def add(pieces: list[_Piece]) -> None:
            for piece in pieces:
                chunks.append(piece.chunk)
                batch.size += piece.chunk.size
                if piece.chunk not in met:
                    met.add(piece.chunk)
                    batch.pieces.append(piece)

        async for block in blocks:
            size += len(block)
            pieces, _ = await asyncio.gather(
                asyncio.to_thread(_cut_for_stream_upload, cutter, block),
                asyncio.to_thread(whole.update, block),
            )
            add(pieces)
            if batch.size >= _BATCH_BYTES:
                await queue.put(batch)
                batch = _Batch()
        add(await asyncio.to_thread(lambda: _named_for_stream_upload(cutter.finish())))
        await queue.put(batch)
        await queue.put(None)

    async def compress() -> None:
        while (batch := await queue.get()) is not None:
            missing = await _missing_for_stream_upload(client, repository, batch, retry, sources)
            await packed_queue.put((batch, await _pack_for_stream_upload(missing)))
        await packed_queue.put(None)

    async def send() -> None:
        while (item := await packed_queue.get()) is not None:
            batch, packed = item
            await _send_for_stream_upload(client, repository, packed, retry, tally)
            tally.add(batch.size, 0)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(cut(), name="cut the layer")
            group.create_task(compress(), name="compress the layer")
            group.create_task(send(), name="send the layer")
    except ExceptionGroup as group_error:
        raise _first_for_stream_upload(group_error) from None
    digest = str(Digest.of_raw(whole.digest()))
    await _assemble_for_stream_upload(client, repository, digest, chunks, retry, sources)
    return Blob(digest, size)


def _first_for_stream_upload(group: ExceptionGroup[Exception]) -> Exception:
    """The first of what went wrong: the rest came of it."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _cut_for_stream_upload(cutter: Cutter, block: bytes) -> list[_Piece]:
    return _named_for_stream_upload(cutter.feed(block))


def _named_for_stream_upload(contents: list[bytes]) -> list[_Piece]:
    return [_Piece(Chunk.of(content), content) for content in contents]


async def _missing_for_stream_upload(
    client: RegistryClient, repository: str, batch: _Batch, retry: Retry, sources: Sequence[str]
) -> list[_Piece]:
    """Those of a batch that the server lacks."""
    if not batch.pieces:
        return []
    asked = [piece.chunk for piece in batch.pieces]
    places = await retry(lambda: client.missing_chunks(repository, asked, sources))
    return [batch.pieces[n] for n in places or ()]


async def _send_for_stream_upload(
    client: RegistryClient, repository: str, packed: list[Packed], retry: Retry, tally: Tally
) -> None:
    """Send chunks in bundles; after a break the server is asked which of them have arrived."""
    left, broken = packed, False

    async def once() -> None:
        nonlocal left, broken
        if broken:
            asked = [one.head.chunk for one in left]
            left = [left[n] for n in await client.missing_chunks(repository, asked) or ()]
        broken = True
        while left:
            count, weight = 0, 0
            while count < len(left) and weight < BUNDLE_TARGET_BYTES:
                weight += len(left[count].body)
                count += 1
            await client.send_chunks(repository, left[:count])
            tally.add(0, weight)
            left = left[count:]

    await retry(once)


async def _pack_for_stream_upload(pieces: list[_Piece]) -> list[Packed]:
    """Compressing gives other threads the interpreter meanwhile."""

    def some(share: list[_Piece]) -> list[Packed]:
        return [pack_chunk(piece.chunk, piece.content) for piece in share]

    share = max(1, -(-len(pieces) // _PACKERS))
    packed = await asyncio.gather(
        *(
            asyncio.to_thread(some, pieces[start : start + share])
            for start in range(0, len(pieces), share)
        )
    )
    return [one for part in packed for one in part]


async def _assemble_for_stream_upload(
    client: RegistryClient,
    repository: str,
    digest: str,
    chunks: list[Chunk],
    retry: Retry,
    sources: Sequence[str],
) -> None:
    while True:
        answer = await retry(lambda: client.assemble(repository, digest, chunks, sources))
        if isinstance(answer, Assembled):
            return
        if not isinstance(answer, Assembling):
            raise UploadInterrupted("the image server lost a part of what it was sent")
        await asyncio.sleep(_ASSEMBLY_PAUSE_S)


async def upload_whole(
    client: RegistryClient,
    repository: str,
    blocks: AsyncIterator[bytes],
    retry: Retry,
    tally: Tally,
    *,
    memory: Path | None = None,
) -> Blob:
    """Upload the whole blob.

    :param memory: a file that keeps the upload's address for the next try with the same bytes.
    :raises UploadInterrupted: the server does not know the upload any more.
    """
    location, skip = await _begin_for_stream_upload(client, repository, retry, memory)
    whole, size = hashlib.sha256(), 0
    async for block in blocks:
        await asyncio.to_thread(whole.update, block)
        start, size = size, size + len(block)
        if size > skip:
            location = await _append_for_stream_upload(
                client, repository, location, max(start, skip), block[max(0, skip - start) :], retry
            )
            tally.add(0, size - max(start, skip))
            if memory is not None:
                memory.write_text(location)
        tally.add(len(block), 0)
    digest = str(Digest.of_raw(whole.digest()))
    if await retry(lambda: client.blob_size(repository, digest)) is None:
        await retry(lambda: client.finish(repository, location, digest))
    if memory is not None:
        memory.unlink(missing_ok=True)
    return Blob(digest, size)


async def _begin_for_stream_upload(
    client: RegistryClient, repository: str, retry: Retry, memory: Path | None
) -> tuple[str, int]:
    """Where to send the bytes, and how many have arrived."""
    if memory is not None and memory.exists():
        known = memory.read_text()
        found = await retry(lambda: client.received(repository, known))
        if found is not None:
            _log.info("going on after %d bytes", found[0])
            return found[1], found[0]
    return await retry(lambda: client.begin(repository)), 0


async def _append_for_stream_upload(
    client: RegistryClient, repository: str, location: str, offset: int, data: bytes, retry: Retry
) -> str:
    end, place, tried = offset + len(data), location, False

    async def once() -> str:
        nonlocal place, tried
        start = offset
        if tried:
            found = await client.received(repository, place)
            if found is None or not offset <= found[0] <= end:
                raise UploadInterrupted("the image server does not know the upload any more")
            start, place = found
            if start == end:
                return place
        tried = True
        return await client.append(repository, place, start, data[start - offset :])

    return await retry(once)
