"""What the engine says, however it comes."""

import asyncio

import pytest
from aiohttp import web

from dit4c_p2p.node.engine.client import _MAX_EVENT_BYTES, Engine, _stream_lines
from dit4c_p2p.node.errors import EngineError, NotFound


async def lines_of(*parts):
    stream = asyncio.StreamReader()
    for part in parts:
        stream.feed_data(part)
    stream.feed_eof()

    class Content:
        async def iter_any(self):
            while part := await stream.read(1000):
                yield part

    return [line async for line in _stream_lines(Content())]


async def test_events_come_in_any_pieces():
    assert await lines_of(b'{"a"', b":1}\n{", b'"b":2}\n') == [b'{"a":1}', b'{"b":2}']


async def test_an_event_that_is_too_long_is_passed_over_and_what_follows_is_not():
    """An image's labels come with each event of its containers: they end nothing."""
    long = b'{"labels":"' + b"x" * (3 * _MAX_EVENT_BYTES) + b'"}\n'
    assert await lines_of(b"first\n", long, b"next\n") == [b"first", b"", b"next"]


@pytest.mark.parametrize(
    ("text", "error"), [("", NotFound), ("null", NotFound), ('{"cut', EngineError)]
)
async def test_an_answer_that_says_nothing_is_an_error_of_the_engine(aiohttp_server, text, error):
    """A container's figures are so while it is removed; the agent must not end by it."""

    async def answer(request):
        if request.path == "/version":
            return web.json_response({"ApiVersion": "1.41"})
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    server = await aiohttp_server(app)
    async with Engine(f"tcp://127.0.0.1:{server.port}") as engine:
        with pytest.raises(error):
            await engine.request_json("containers/gone/stats")
