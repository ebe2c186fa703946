"""The shorter way for channel data: the same bytes as asyncssh's own, whatever it meets."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest
import uvloop

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.overlay import quick
from dit4c_p2p.overlay.guard import guard
from dit4c_p2p.overlay.ssh import CLIENT_OPTIONS, PACKET_BYTES, SERVER_OPTIONS, WINDOW_BYTES

MIB = 1024 * 1024


class Echo(asyncssh.SSHTCPSession[bytes]):
    """Sends back what comes, as slowly as it is read."""

    def connection_made(self, chan: Any) -> None:
        self.chan = chan
        self.write = quick.writer(chan)

    def data_received(self, data: bytes, datatype: Any) -> None:
        self.write(data)

    def eof_received(self) -> bool:
        self.chan.write_eof()
        return True

    def pause_writing(self) -> None:
        self.chan.pause_reading()

    def resume_writing(self) -> None:
        self.chan.resume_reading()


class Collect(asyncssh.SSHTCPSession[bytes]):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def data_received(self, data: bytes, datatype: Any) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.ended.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


class Server(asyncssh.SSHServer):
    """Echoes on every stream."""

    quickened = True

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.conn = conn
        guard(conn)

    def auth_completed(self) -> None:
        if self.quickened:
            quick.quicken(self.conn)

    def connection_requested(self, *args: Any) -> Any:
        return self.conn.create_tcp_channel(window=WINDOW_BYTES, max_pktsize=PACKET_BYTES), Echo()


class PlainServer(Server):
    """As asyncssh does it."""

    quickened = False


class Client(asyncssh.SSHClient):
    """Watched over, as all of ours."""

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        guard(conn)


Through = Callable[[int], Awaitable[int]]


@asynccontextmanager
async def connected(
    server: type[Server] = Server, through: Through | None = None, **options: Any
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A quickened client connection to a server of its own.

    :param through: given the server's port, returns the port to connect to.
    :param options: for both ends.
    """
    host_key, user_key = generate(), generate()
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=server,
        server_host_keys=[host_key],
        authorized_client_keys=asyncssh.import_authorized_keys(public_line(user_key)),
        **{**SERVER_OPTIONS, **options},
    )
    port = acceptor.get_port()
    if through is not None:
        port = await through(port)
    async with acceptor:
        async with await asyncssh.connect(
            "127.0.0.1",
            port,
            client_factory=Client,
            username="peer",
            client_keys=[user_key],
            known_hosts=([host_key.convert_to_public()], [], []),
            **{**CLIENT_OPTIONS, **options},
        ) as connection:
            quick.quicken(connection)
            yield connection


async def echoed(connection: asyncssh.SSHClientConnection, pieces: list[bytes]) -> bytes:
    """What comes back when ``pieces`` are written."""
    channel, session = await connection.create_connection(
        Collect, "node-a", 22, window=WINDOW_BYTES, max_pktsize=PACKET_BYTES
    )
    write = quick.writer(channel)
    for piece in pieces:
        await session.writable.wait()
        write(piece)
    channel.write_eof()
    async with asyncio.timeout(20):
        await session.ended.wait()
    return bytes(session.received)


def pieces_of(total: int, seed: int = 1) -> list[bytes]:
    """Random bytes in pieces from one byte to a megabyte."""
    choose = random.Random(seed)
    pieces: list[bytes] = []
    while total > 0:
        size = min(total, choose.choice([1, 2, 15, 16, 17, 100, 1300, 32768, 262144, MIB]))
        pieces.append(os.urandom(size))
        total -= size
    return pieces


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
        quick.writer(channel)(b"after" * 100)
        async with asyncio.timeout(5):
            await connection.wait_closed()
        assert session.received == b""
    servers[0].close()


async def test_a_reader_that_stops_holds_the_writer_up() -> None:
    async with connected() as connection:
        channel, session = await connection.create_connection(
            Collect, "node-a", 22, window=256 * 1024, max_pktsize=64 * 1024
        )
        write = quick.writer(channel)
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
        write = quick.writer(channel)
        channel.write_eof()
        with pytest.raises(OSError):
            write(b"late")


async def test_an_unknown_release_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "DOUBT", "another release")
    pieces = pieces_of(MIB)
    async with connected() as connection:
        channel, _ = await connection.create_connection(Collect, "node-a", 22)
        assert quick.writer(channel) == channel.write
        assert await echoed(connection, pieces) == b"".join(pieces)


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
