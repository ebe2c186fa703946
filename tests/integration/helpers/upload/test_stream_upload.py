"""A layer to a real image server and back: what has travelled once does not travel again."""

import hashlib
import random
from contextlib import asynccontextmanager

import pytest
from systems.docker_registry import ImageRegistry
from systems.image_server import ImageServerAtWork

from dit4c_p2p.helpers.upload.retry import Retry
from dit4c_p2p.helpers.upload.stream_upload import Tally, upload_chunks, upload_whole
from dit4c_p2p.node.saved_images.chunk_cache import ChunkCache
from dit4c_p2p.node.saved_images.layer_source import layer_bytes
from dit4c_p2p.oci.chunks import Chunk, cut
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.manifest import Descriptor, MediaType
from dit4c_p2p.oci.registry_client import RegistryAway, RegistryClient

MIB = 1 << 20
LAYER = random.Random(7).randbytes(24 * MIB)
CHANGED = LAYER[: 9 * MIB] + b"x" + LAYER[9 * MIB :]
REPOSITORY = "instances/one"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(content: bytes) -> Descriptor:
    return Descriptor(media_type=MediaType.LAYER, digest=digest(content), size=len(content))


async def blocks(content: bytes, cut_at: int | None = None):
    """The content in blocks of 4 MiB; what reads it breaks off at a place, if there is one."""
    for start in range(0, len(content), 4 * MIB):
        if cut_at is not None and start >= cut_at:
            raise RegistryAway("cut off")
        yield content[start : start + 4 * MIB]


@asynccontextmanager
async def client_of(address: str):
    async with RegistryClient(f"http://{address}", token=lambda repository: "one") as client:
        yield client


@pytest.fixture
async def client(tmp_path):
    async with ImageServerAtWork(tmp_path / "images") as work, client_of(work.address) as opened:
        work.portal.bearer = "all"
        yield opened


async def send(client, content: bytes, repository: str = REPOSITORY, sources=()) -> int:
    """Upload by chunks; how many bytes went by wire."""
    tally = Tally()
    blob = await upload_chunks(client, repository, blocks(content), Retry(), tally, sources)
    assert (blob.digest, blob.size) == (digest(content), len(content))
    assert await client.blob_size(repository, blob.digest) == len(content)
    assert tally.done == len(content)
    return tally.sent


async def test_only_changed_chunks_travel(client):
    assert await send(client, LAYER) >= len(LAYER)
    assert await send(client, LAYER) == 0
    assert await send(client, CHANGED) <= 2 * MIB
    assert await send(client, b"") == 0
    text = b"line after line\n" * 100_000
    assert await send(client, text) < len(text) // 10


async def test_what_another_repository_has_does_not_travel_if_it_is_named(client):
    await send(client, LAYER)
    assert await send(client, CHANGED, "instances/two", [REPOSITORY]) <= 2 * MIB
    assert await send(client, CHANGED, "instances/three") >= len(LAYER)


async def test_an_upload_that_was_cut_goes_on(client):
    tally = Tally()
    with pytest.raises(RegistryAway):
        await upload_chunks(client, REPOSITORY, blocks(LAYER, cut_at=12 * MIB), Retry(), tally)
    # The first batch of 32 MiB is not full by then: nothing may have been sent.
    sent = tally.sent
    assert await send(client, LAYER) <= len(LAYER) - sent + MIB


async def test_a_node_fetches_what_it_lacks_and_keeps_it(client, tmp_path):
    await send(client, LAYER)
    await send(client, CHANGED)
    cache = ChunkCache(tmp_path / "chunks")

    async def fetch(content: bytes, kept: ChunkCache = cache) -> int:
        came = []
        source = layer_bytes(client, REPOSITORY, descriptor(content), kept, came.append)
        assert b"".join([data async for data in source]) == content
        return sum(came)

    assert await fetch(LAYER) >= len(LAYER)
    assert await fetch(LAYER) == 0
    assert await fetch(CHANGED) <= 2 * MIB
    # What was damaged on disk is fetched again.
    first = Chunk.of(cut(LAYER)[0])
    path = cache._path(first)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert 0 < await fetch(LAYER) <= MIB
    # The cache has a limit, and goes on being of use.
    small = ChunkCache(tmp_path / "chunks", limit_bytes=8 * MIB)
    small.tidy()
    kept = sum(one.stat().st_size for one in (tmp_path / "chunks").rglob("*") if one.is_file())
    assert 4 * MIB < kept <= 8 * MIB
    assert 0 < await fetch(LAYER, small) < len(LAYER)


async def test_a_layer_of_another_size_is_not_taken(client, tmp_path):
    await send(client, LAYER)
    wrong = Descriptor(media_type=MediaType.LAYER, digest=digest(LAYER), size=5)
    source = layer_bytes(client, REPOSITORY, wrong, ChunkCache(tmp_path), lambda size: None)
    with pytest.raises(InvalidImage, match="another size"):
        async for _ in source:
            pass


async def test_a_stock_registry_gets_it_whole_and_goes_on_where_it_was_cut(tmp_path):
    async with ImageRegistry(tmp_path) as registry, client_of(registry.address) as client:
        assert await client.missing_chunks(REPOSITORY, []) is None
        memory, tally = tmp_path / "memory", Tally()
        with pytest.raises(RegistryAway):
            await upload_whole(
                client, REPOSITORY, blocks(LAYER, cut_at=12 * MIB), Retry(), tally, memory=memory
            )
        assert (tally.sent, memory.exists()) == (12 * MIB, True)
        blob = await upload_whole(client, REPOSITORY, blocks(LAYER), Retry(), tally, memory=memory)
        assert (tally.sent, memory.exists()) == (len(LAYER), False)
        assert blob.digest == digest(LAYER)
        source = layer_bytes(
            client, REPOSITORY, descriptor(LAYER), ChunkCache(tmp_path / "c"), lambda size: None
        )
        assert b"".join([data async for data in source]) == LAYER
