"""Bodies of requests and answers: read in pieces and in time, sent as fast as they are taken."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from aiohttp import StreamReader, web
from aiohttp.client_exceptions import ClientError

from dit4c_p2p.imageserver.http_errors import Refused

# Pieces are gathered to this before they are hashed and written in a thread.
PART_BYTES = 1024 * 1024


if "_buffer" not in StreamReader.__slots__:
    raise ImportError("aiohttp keeps what has arrived somewhere else now: see _arrived")


class Cut(Refused):
    """A body ended before its end, or nothing of it came for too long."""

    code = "cut"

    def __init__(self) -> None:
        super().__init__(400, "BLOB_UPLOAD_INVALID", "the body was cut", hint="go on from there")


async def parts_of_registry_body(request: web.Request, silence_s: float) -> AsyncIterator[bytes]:
    """The body in pieces of about :data:`PART_BYTES`.

    :raises Cut: after the piece that came last.
    """
    gathered: list[bytes] = []
    size = 0
    cut = False
    while True:
        try:
            async with asyncio.timeout(silence_s):
                data = await request.content.readany()
        except (TimeoutError, OSError, ClientError, web.RequestPayloadError):
            cut, data = True, _arrived_for_registry_body(request.content)
        gathered.append(data)
        size += len(data)
        if size >= PART_BYTES or (size and (cut or not data)):
            yield b"".join(gathered)
            gathered, size = [], 0
        if cut:
            raise Cut
        if not data:
            return


def _arrived_for_registry_body(content: StreamReader) -> bytes:
    """What arrived of a body before it was cut, and was not read yet.

    aiohttp has no public way to it once the connection is lost.
    """
    return b"".join(content._buffer)


async def small_body(request: web.Request, limit: int, silence_s: float) -> bytes:
    """A whole body.

    :raises Refused: it is larger than ``limit``, or was cut.
    """
    if (request.content_length or 0) > limit:
        raise _too_large_for_registry_body(limit)
    body = bytearray()
    async for part in parts_of_registry_body(request, silence_s):
        body += part
        if len(body) > limit:
            raise _too_large_for_registry_body(limit)
    return bytes(body)


async def send_registry_body(
    request: web.Request, response: web.StreamResponse, parts: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send a head and what ``parts`` gives; a client that goes away ends it."""
    await response.prepare(request)
    async with aclosing(parts) as pieces:
        async for part in pieces:
            await response.write(part)
    await response.write_eof()
    return response


def _too_large_for_registry_body(limit: int) -> Refused:
    return Refused(413, "SIZE_INVALID", f"the body may have {limit} bytes at the most")
