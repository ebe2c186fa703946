"""The shorter way for channel data: the same bytes as asyncssh's own, whatever it meets."""

import asyncio
import logging
import os
from typing import Any

import pytest
import uvloop
from systems.ssh_pair import (
    MIB,
    Collect,
    PlainServer,
    Server,
    connected,
    echoed,
    pieces_of,
)

from dit4c_p2p.overlay.asyncssh_ext import fastpath


@pytest.mark.parametrize("server", [Server, PlainServer])
async def test_bytes_arrive_whole_and_in_order(server: type[Server]) -> None:
    pieces = pieces_of(12 * MIB)
    async with connected(server) as connection:
        assert await echoed(connection, pieces) == b"".join(pieces)


async def test_key_exchanges_in_the_middle_of_streams() -> None:
    async with connected(rekey_bytes=300_000) as connection:
        streams = [pieces_of(3 * MIB, seed) for seed in range(3)]
        answers = await asyncio.gather(*(echoed(connection, pieces) for pieces in streams))
        assert answers == [b"".join(pieces) for pieces in streams]


async def test_compression_is_left_to_asyncssh() -> None:
    pieces = pieces_of(MIB)
    async with connected(compression_algs=["zlib@openssh.com"]) as connection:
        assert await echoed(connection, pieces) == b"".join(pieces)


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-ctr"])
async def test_other_ciphers_are_left_to_asyncssh(cipher: str) -> None:
    pieces = pieces_of(2 * MIB)
    async with connected(encryption_algs=[cipher]) as connection:
        assert await echoed(connection, pieces) == b"".join(pieces)


async def test_a_connection_in_single_bytes() -> None:
    """Whatever way TCP cuts packets in pieces."""
    servers = []

    async def through(port: int) -> int:
        async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1000):
                for start in range(len(data)):
                    writer.write(data[start : start + 1])
                    await asyncio.sleep(0)
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(trickle(reader, far_writer), trickle(far_reader, writer))

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return int(servers[0].sockets[0].getsockname()[1])

    pieces = [os.urandom(size) for size in (1, 7, 300, 1300)]
    async with connected(through=through) as connection:
        assert await echoed(connection, pieces) == b"".join(pieces)
    servers[0].close()


async def test_a_changed_byte_ends_the_connection() -> None:
    """security.md 1, someone on the wire: can't forge."""
    servers = []
    meddle = asyncio.Event()

    async def through(port: int) -> int:
        async def copy(reader: Any, writer: Any, meddling: bool) -> None:
            while data := await reader.read(65536):
                if meddling and meddle.is_set() and len(data) > 40:
                    data = data[:20] + bytes([data[20] ^ 1]) + data[21:]
                writer.write(data)
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, far_writer, False), copy(far_reader, writer, True))

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return int(servers[0].sockets[0].getsockname()[1])

    async with connected(through=through) as connection:
        assert await echoed(connection, [b"before"]) == b"before"
        channel, session = await connection.create_connection(Collect, "node-a", 22)
        meddle.set()
        fastpath.fast_writer(channel)(b"after" * 100)
        async with asyncio.timeout(5):
            await connection.wait_closed()
        assert session.received == b""
    servers[0].close()


async def test_a_reader_that_stops_holds_the_writer_up() -> None:
    async with connected() as connection:
        channel, session = await connection.create_connection(
            Collect, "node-a", 22, window=256 * 1024, max_pktsize=64 * 1024
        )
        write = fastpath.fast_writer(channel)
        channel.pause_reading()
        sent = 0
        while session.writable.is_set():
            write(bytes(65536))
            sent += 65536
            await asyncio.sleep(0)
            assert sent < 64 * MIB
        assert not session.received
        channel.write_eof()
        channel.resume_reading()
        async with asyncio.timeout(10):
            await session.ended.wait()
        assert len(session.received) == sent


async def test_writing_to_a_closed_channel_raises() -> None:
    async with connected() as connection:
        channel, _ = await connection.create_connection(Collect, "node-a", 22)
        write = fastpath.fast_writer(channel)
        channel.write_eof()
        with pytest.raises(OSError):
            write(b"late")


def test_the_installed_release_is_one_that_was_looked_at() -> None:
    assert fastpath.DOUBT == ""


async def test_an_unknown_release_is_left_alone_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fastpath, "DOUBT", "another release")
    monkeypatch.setattr(fastpath, "_doubt_said", False)
    pieces = pieces_of(MIB)
    async with connected() as connection:
        channel, _ = await connection.create_connection(Collect, "node-a", 22)
        assert fastpath.fast_writer(channel) == channel.write
        assert await echoed(connection, pieces) == b"".join(pieces)
    said = [record for record in caplog.records if "another release" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]


def test_the_same_on_the_other_loop() -> None:
    """Components run on uvloop, which reads into buffers in its own way."""

    async def all_of_it() -> None:
        await test_bytes_arrive_whole_and_in_order(Server)
        await test_bytes_arrive_whole_and_in_order(PlainServer)
        await test_key_exchanges_in_the_middle_of_streams()
        await test_a_connection_in_single_bytes()
        await test_a_changed_byte_ends_the_connection()
        await test_a_reader_that_stops_holds_the_writer_up()

    uvloop.run(all_of_it())
