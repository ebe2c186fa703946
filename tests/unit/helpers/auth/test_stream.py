"""One stream poured into another: all of it, no more than the other end takes."""

import asyncio
import socket

import pytest

from dit4c_p2p.helpers.auth.stream import READ_HIGH_BYTES, WRITE_HIGH_BYTES, BufferedStream

# Far more than both ends' buffers and the kernel's together.
MANY = bytes(range(256)) * (32 * 4096)


class Pair:
    """A wire, and the other end of its stream in the test's hands."""

    async def __aenter__(self):
        near, far = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, self.wire = await loop.create_connection(BufferedStream, sock=near)
        self.reader, self.writer = await asyncio.open_connection(sock=far)
        return self

    async def __aexit__(self, *error):
        self.wire.abort()
        self.writer.close()


async def test_a_slow_reader_holds_back_the_sender_and_gets_all():
    async with Pair() as source, Pair() as sink, asyncio.timeout(30), asyncio.TaskGroup() as group:
        pouring = group.create_task(source.wire.pour_into(sink.wire, 30))
        source.writer.write(MANY)
        source.writer.write_eof()
        await sink.reader.readexactly(1)
        while not sink.wire.is_behind:
            await asyncio.sleep(0)
        held = sink.wire.transport.get_write_buffer_size()
        assert held <= WRITE_HIGH_BYTES + 2 * READ_HIGH_BYTES
        assert await sink.reader.readexactly(len(MANY) - 1) == MANY[1:]
        await pouring


async def test_what_came_before_is_poured_first():
    async with Pair() as source, Pair() as sink, asyncio.timeout(10):
        source.writer.write(b"abc")
        assert await source.wire.read_exactly(1, 5) == b"a"
        pouring = asyncio.create_task(source.wire.pour_into(sink.wire, 5))
        assert await sink.reader.readexactly(2) == b"bc"
        source.writer.write(b"d")
        assert await sink.reader.readexactly(1) == b"d"
        source.writer.close()
        await pouring


async def test_a_reader_that_has_gone_ends_it():
    async with Pair() as source, Pair() as sink, asyncio.timeout(10):
        pouring = asyncio.create_task(source.wire.pour_into(sink.wire, 5))
        sink.wire.abort()
        while not sink.wire.lost:
            await asyncio.sleep(0)
        source.writer.write(b"abc")
        with pytest.raises(ConnectionResetError):
            await pouring


async def test_a_reader_that_takes_nothing_is_given_up():
    async with Pair() as source, Pair() as sink, asyncio.timeout(10):
        pouring = asyncio.create_task(source.wire.pour_into(sink.wire, 0.1))
        source.writer.write(MANY)
        with pytest.raises(TimeoutError):
            await pouring


async def test_a_wait_has_its_own_limit_whatever_was_waited_for_before():
    async with Pair() as pair, asyncio.timeout(10):
        loop = asyncio.get_running_loop()
        pair.writer.write(b"a")
        assert await pair.wire.read(0.05) == b"a"
        pair.writer.write(b"b")
        assert await pair.wire.read(5) == b"b"
        since = loop.time()
        with pytest.raises(TimeoutError):
            await pair.wire.read(0.2)
        assert loop.time() - since + 0.01 >= 0.2
        later = asyncio.create_task(pair.wire.read(5))
        done, _ = await asyncio.wait({later}, timeout=0.3)
        assert not done
        pair.writer.write(b"c")
        assert await later == b"c"
