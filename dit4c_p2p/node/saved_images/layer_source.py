"""A layer's bytes from the image server: chunk by chunk where that is known, or whole."""

import asyncio
from collections.abc import AsyncIterator, Callable

from dit4c_p2p.node.saved_images.chunk_cache import ChunkCache
from dit4c_p2p.oci.chunks import MAX_CHUNKS_IN_BLOB, Chunk, decode_chunks
from dit4c_p2p.oci.errors import InvalidChunks, InvalidImage
from dit4c_p2p.oci.exchange import Packed, content_of_packed_chunk
from dit4c_p2p.oci.manifest import Descriptor
from dit4c_p2p.oci.registry_client import RegistryClient

# Fetched in one request; two of them are held in memory.
_GROUP_BYTES = 8 * 1024**2
_BLOCK_BYTES = 1024**2


async def layer_bytes(
    client: RegistryClient,
    repository: str,
    layer: Descriptor,
    cache: ChunkCache,
    wire: Callable[[int], None],
) -> AsyncIterator[bytes]:
    """A layer's bytes in order; whoever takes them verifies the whole.

    The next chunks are fetched while these are taken.

    :param wire: told how many bytes came from the server.
    :raises InvalidImage: what the server says is not a layer of that size.
    """
    listed = await client.chunks_of(repository, layer.digest)
    if listed is None:
        async for data in client.read_blob(repository, layer.digest):
            wire(len(data))
            yield data
        return
    try:
        chunks = decode_chunks(listed, MAX_CHUNKS_IN_BLOB)
    except InvalidChunks as error:
        raise InvalidImage(f"a layer's list of chunks can't be read: {error}") from None
    if sum(chunk.size for chunk in chunks) != layer.size:
        raise InvalidImage("a layer's chunks have another size than the layer")
    coming: asyncio.Task[list[bytes]] | None = None
    try:
        for group in [*_groups_for_layer_source(chunks), None]:
            contents = await coming if coming is not None else []
            coming = None
            if group is not None:
                work = _group_for_layer_source(client, repository, group, cache, wire)
                coming = asyncio.create_task(work, name="fetch chunks of a layer")
            for block in contents:
                yield block
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _groups_for_layer_source(chunks: list[Chunk]) -> list[list[Chunk]]:
    groups: list[list[Chunk]] = []
    size = _GROUP_BYTES
    for chunk in chunks:
        if size + chunk.size > _GROUP_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(chunk)
        size += chunk.size
    return groups


async def _group_for_layer_source(
    client: RegistryClient,
    repository: str,
    group: list[Chunk],
    cache: ChunkCache,
    wire: Callable[[int], None],
) -> list[bytes]:
    """A group's bytes, in blocks.

    :raises InvalidImage: the server lacks a chunk, or sent another.
    """
    contents = await asyncio.to_thread(_kept_for_layer_source, cache, group)
    missing = [chunk for chunk in dict.fromkeys(group) if chunk not in contents]
    fetched: list[Packed] = []
    if missing:
        async for packed in client.fetch_chunks(repository, missing):
            wire(len(packed.body))
            fetched.append(packed)
    try:
        contents |= await asyncio.to_thread(_unpacked_for_layer_source, cache, fetched)
    except InvalidChunks as error:
        raise InvalidImage(str(error)) from None
    if any(chunk not in contents for chunk in missing):
        raise InvalidImage("the image server lacks a part of a layer")
    return await asyncio.to_thread(_blocks_for_layer_source, [contents[chunk] for chunk in group])


def _blocks_for_layer_source(contents: list[bytes]) -> list[bytes]:
    """The same bytes, in fewer pieces."""
    blocks: list[list[bytes]] = []
    size = _BLOCK_BYTES
    for content in contents:
        if size + len(content) > _BLOCK_BYTES:
            blocks.append([])
            size = 0
        blocks[-1].append(content)
        size += len(content)
    return [b"".join(block) for block in blocks]


def _kept_for_layer_source(cache: ChunkCache, group: list[Chunk]) -> dict[Chunk, bytes]:
    found = ((chunk, cache.get(chunk)) for chunk in dict.fromkeys(group))
    return {chunk: content for chunk, content in found if content is not None}


def _unpacked_for_layer_source(cache: ChunkCache, fetched: list[Packed]) -> dict[Chunk, bytes]:
    """Have their contents, of which the layer's digest is verified and no chunk's.

    :raises InvalidChunks: they can't be decompressed.
    """
    contents = {packed.head.chunk: content_of_packed_chunk(packed) for packed in fetched}
    cache.put(fetched)
    return contents
