"""The chunk exchange beside the Distribution API; stated in ``docs/image-server.md``."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from aiohttp import web

from dit4c_p2p.imageserver import http_body
from dit4c_p2p.imageserver.http_api import Handler
from dit4c_p2p.imageserver.http_errors import Refused
from dit4c_p2p.imageserver.http_request import Call
from dit4c_p2p.imageserver.routing import RegistryEndpoint
from dit4c_p2p.imageserver.store.errors import TooLarge
from dit4c_p2p.messages.codec import Record, encode
from dit4c_p2p.oci.chunks import (
    ENTRY_BYTES,
    MAX_CHUNKS_IN_BLOB,
    MAX_CHUNKS_IN_REQUEST,
    Chunk,
    check_chunks,
    decode_chunks,
)
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.exchange import (
    BUNDLE_TYPE,
    LIST_TYPE,
    MAX_BUNDLE_BYTES,
    Assembled,
    Assembling,
    Missing,
    Packed,
    Stored,
)
from dit4c_p2p.oci.names import is_repository

# Proxies cut what says nothing for a minute.
_ASSEMBLY_ANSWER_S = 20.0
_MAX_SOURCES = 16


def chunk_api_handlers() -> dict[RegistryEndpoint, Handler]:
    """Who answers what; the caller has been found to be allowed to."""
    return {
        RegistryEndpoint.CHUNKS_MISSING: answer_missing_chunks_request,
        RegistryEndpoint.CHUNKS_BUNDLE: answer_bundle_request,
        RegistryEndpoint.CHUNKS_FETCH: answer_fetch_chunks_request,
        RegistryEndpoint.CHUNKED_BLOB: answer_chunked_blob_request,
    }


async def answer_missing_chunks_request(call: Call) -> web.StreamResponse:
    """Which of these are missing?"""
    chunks = await _list_for_chunk_api(call, MAX_CHUNKS_IN_REQUEST)
    sources = await _sources_for_chunk_api(call)
    return _record_for_chunk_api(
        Missing(missing=await call.store.chunks.missing(call.repository, sources, chunks))
    )


async def answer_bundle_request(call: Call) -> web.StreamResponse:
    """Here they are."""
    if (call.request.content_length or 0) > MAX_BUNDLE_BYTES:
        raise _too_large_a_bundle()
    return _record_for_chunk_api(
        Stored(stored=await call.store.chunks.store(call.repository, _counted_for_chunk_api(call)))
    )


async def answer_fetch_chunks_request(call: Call) -> web.StreamResponse:
    """Give me these."""
    chunks = await _list_for_chunk_api(call, MAX_CHUNKS_IN_REQUEST)
    packed = await call.store.chunks.fetch(call.repository, chunks)
    response = web.StreamResponse(headers={"Content-Type": BUNDLE_TYPE})
    return await http_body.send_registry_body(
        call.request, response, _wire_for_chunk_api(call, packed)
    )


async def answer_chunked_blob_request(call: Call) -> web.StreamResponse:
    """What is this blob made of? Put these together."""
    digest = Digest.parse(call.last)
    if call.method == "GET":
        recipe = await call.store.blobs.recipe(call.repository, digest)
        return web.Response(body=recipe, content_type=LIST_TYPE)
    limit = MAX_CHUNKS_IN_BLOB * ENTRY_BYTES
    body = await http_body.small_body(call.request, limit, call.limits.silence)
    size = await asyncio.to_thread(check_chunks, body, MAX_CHUNKS_IN_BLOB)
    if size > call.limits.blob:
        raise TooLarge(f"a blob may have {call.limits.blob} bytes at the most")
    sources = await _sources_for_chunk_api(call)
    running = await call.store.chunks.assemble(call.repository, sources, digest, body, size)
    if running.task is not None:
        await asyncio.wait([running.task], timeout=_ASSEMBLY_ANSWER_S)
        if not running.task.done():
            return _record_for_chunk_api(
                Assembling(digest=str(digest), done=running.done, size=size), 202
            )
        running.task.result()
    return _record_for_chunk_api(Assembled(digest=str(digest), size=size), 201)


async def _list_for_chunk_api(call: Call, limit: int) -> list[Chunk]:
    body = await http_body.small_body(call.request, limit * ENTRY_BYTES, call.limits.silence)
    return decode_chunks(body, limit)


async def _sources_for_chunk_api(call: Call) -> list[str]:
    """Those of the query that the caller may read; what it may not read counts as empty."""
    names = call.request.query.getall("from", [])
    if len(names) > _MAX_SOURCES or not all(is_repository(name) for name in names):
        raise Refused(400, "NAME_INVALID", f"from names up to {_MAX_SOURCES} repositories")
    return await call.access.readable(call.credentials, names)


async def _counted_for_chunk_api(call: Call) -> AsyncIterator[bytes]:
    size = 0
    async for part in http_body.parts_of_registry_body(call.request, call.limits.silence):
        size += len(part)
        if size > MAX_BUNDLE_BYTES:
            raise _too_large_a_bundle()
        call.metrics.received(len(part))
        yield part


async def _wire_for_chunk_api(
    call: Call, packed: AsyncIterator[Packed]
) -> AsyncGenerator[bytes, None]:
    async for one in packed:
        wire = one.wire
        call.metrics.sent(len(wire))
        yield wire


def _record_for_chunk_api(record: Record, status: int = 200) -> web.Response:
    return web.Response(body=encode(record), status=status, content_type="application/json")


def _too_large_a_bundle() -> TooLarge:
    return TooLarge(f"a bundle may have {MAX_BUNDLE_BYTES} bytes at the most")
