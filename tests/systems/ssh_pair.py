"""Two ends of an SSH connection, each on the shorter way for channel data or as asyncssh has it."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh
from lib.waiting import until

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.overlay.asyncssh_ext import fastpath
from dit4c_p2p.overlay.asyncssh_ext.backpressure import install_backpressure
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, PACKET_BYTES, SERVER_OPTIONS, WINDOW_BYTES

MIB = 1024 * 1024


class Echo(asyncssh.SSHTCPSession[bytes]):
    """Sends back what comes, as slowly as it is read."""

    def connection_made(self, chan: Any) -> None:
        self.chan = chan
        self.write = fastpath.fast_writer(chan)

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
        install_backpressure(conn)

    def auth_completed(self) -> None:
        if self.quickened:
            fastpath.enable_fast_path(self.conn)

    def connection_requested(self, *args: Any) -> Any:
        return self.conn.create_tcp_channel(window=WINDOW_BYTES, max_pktsize=PACKET_BYTES), Echo()


class PlainServer(Server):
    """As asyncssh does it."""

    quickened = False


class Client(asyncssh.SSHClient):
    """Watched over, as all of ours."""

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        install_backpressure(conn)


Through = Callable[[int], Awaitable[int]]


@asynccontextmanager
async def connected(
    server: Callable[[], asyncssh.SSHServer] = Server,
    through: Through | None = None,
    quickened: bool = True,
    **options: Any,
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A client connection to a server of its own.

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
            if quickened:
                fastpath.enable_fast_path(connection)
            yield connection


async def echoed(connection: asyncssh.SSHClientConnection, pieces: list[bytes]) -> bytes:
    """What comes back when ``pieces`` are written."""
    channel, session = await connection.create_connection(
        Collect, "node-a", 22, window=WINDOW_BYTES, max_pktsize=PACKET_BYTES
    )
    write = fastpath.fast_writer(channel)
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


class Far(asyncssh.SSHTCPSession[bytes]):
    """The far end of a stream: keeps the pieces as they come."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = False
        self.on_data: Callable[[bytes], None] = lambda data: None

    def connection_made(self, chan: Any) -> None:
        self.chan = chan

    def data_received(self, data: bytes, datatype: Any) -> None:
        self.pieces.append(data)
        self.on_data(data)

    def eof_received(self) -> bool:
        self.ended = True
        return True

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Pair:
    """Both ends of a connection, and of one stream from ``near`` to ``far``."""

    near: Any
    far: Any
    near_channel: Any
    far_channel: Any
    session: Far

    async def arrived(self, size: int) -> None:
        """Wait until the far end has so many bytes."""
        await until(lambda: len(self.session.received) >= size)

    async def cut(self) -> None:
        """Wait until the far end has ended the connection."""
        async with asyncio.timeout(5):
            await self.far.wait_closed()


@asynccontextmanager
async def pair(
    *, near: bool, far: bool, window: int = WINDOW_BYTES, packet: int = PACKET_BYTES, **options: Any
) -> AsyncIterator[Pair]:
    """A stream, with what it runs over within reach.

    :param near: whether the sending end takes the shorter way.
    :param far: whether the receiving end does.
    :param window: of the receiving end.
    :param packet: the largest that the receiving end takes.
    :param options: for both ends' connections.
    """
    servers: list[Server] = []
    session = Far()

    class FarServer(Server):
        quickened = far

        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            super().connection_made(conn)
            servers.append(self)

        def connection_requested(self, *args: Any) -> Any:
            return self.conn.create_tcp_channel(window=window, max_pktsize=packet), session

    # What asyncssh says of itself now and then would be counted as well.
    still = {"keepalive_interval": 0, **options}
    async with connected(FarServer, quickened=near, **still) as connection:
        channel, _ = await connection.create_connection(Collect, "node-a", 22)
        await until(lambda: hasattr(session, "chan"))
        await asyncio.sleep(0)
        yield Pair(connection, servers[0].conn, channel, session.chan, session)
