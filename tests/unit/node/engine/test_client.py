"""What the engine says, however it comes."""

import asyncio

from dit4c_p2p.node.engine.client import _MAX_EVENT_BYTES, _stream_lines


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
