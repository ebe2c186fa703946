"""A layer to a real image server and back: what has travelled once does not travel again."""

import asyncio
import hashlib
import random
from contextlib import asynccontextmanager

import pytest
from lib.cut_line import CutLine
from systems.docker_registry import ImageRegistry
from systems.image_server import ImageServerAtWork

from dit4c_p2p.helpers.upload.retry import Retry
from dit4c_p2p.helpers.upload.stream_upload import Tally, upload_chunks, upload_whole
from dit4c_p2p.node.saved_images.chunk_cache import ChunkCache
from dit4c_p2p.node.saved_images.layer_source import layer_bytes
from dit4c_p2p.oci.chunks import MAX_CHUNK_BYTES, Chunk, cut
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


@pytest.mark.parametrize("killed", [False, True], ids=["cut", "killed"])
async def test_an_upload_that_was_cut_at_half_sends_one_chunk_again(tmp_path, killed):
    """By the bytes on the line: the line breaks, or the helper dies there and another begins."""
    async with ImageServerAtWork(tmp_path / "images") as work:
        work.portal.bearer = "all"
        async with CutLine(work.address, len(LAYER) // 2) as line:
            if killed:
                async with client_of(line.address) as client:
                    first = asyncio.create_task(send(client, LAYER))
                    async with asyncio.timeout(20):
                        while not line.cuts:
                            await asyncio.sleep(0.001)
                    first.cancel()
                    await asyncio.gather(first, return_exceptions=True)
            async with client_of(line.address) as client:
                await send(client, LAYER)
            assert line.cuts == 1
            # Names of chunks and heads of requests are not content.
            assert line.sent <= len(LAYER) + MAX_CHUNK_BYTES + 64 * 1024
            print(f"{line.sent - len(LAYER)} bytes more than the layer has")


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
