"""The listener's end of a channel, over a real SSH connection, against a scripted auth helper."""

import asyncio

import asyncssh
import pytest

from dit4c_p2p.helpers.listener import auth_socket
from dit4c_p2p.helpers.listener.auth_socket import AuthSocketSplicer
from dit4c_p2p.identity.keys import generate
from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.overlay.asyncssh_ext.backpressure import install_backpressure
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, PACKET_BYTES, SERVER_OPTIONS, WINDOW_BYTES

MiB = 1024 * 1024


class Forward(asyncssh.SSHListener):
    """What a router returns for a reverse forward."""

    def get_port(self):
        return 80

    def close(self):
        """Nothing is held."""

    async def wait_closed(self):
        """Nothing is held."""


class Tunnel:
    """A router with one tunnel, whose other end is the listener's."""

    def __init__(self, path):
        self.splicer = AuthSocketSplicer(path)
        self.path = path
        self.headers = []
        self.auth = None

    async def start(self):
        tunnel, key, client_key = self, generate(), generate()
        self.connected = asyncio.get_running_loop().create_future()

        class Router(asyncssh.SSHServer):
            def connection_made(self, conn):
                tunnel.router = conn

            def public_key_auth_supported(self):
                return True

            def validate_public_key(self, username, key):
                return True

            def server_requested(self, host, port):
                return Forward()

        self.acceptor = await asyncssh.listen(
            "127.0.0.1", 0, server_factory=Router, server_host_keys=[key], **SERVER_OPTIONS
        )
        self.connection = await asyncssh.connect(
            "127.0.0.1",
            self.acceptor.get_port(),
            username="instance-abc",
            client_keys=[client_key],
            known_hosts=([key.convert_to_public()], [], []),
            **CLIENT_OPTIONS,
        )
        install_backpressure(self.connection)
        await self.connection.create_server(
            self.splicer.accept,
            "instance-abc",
            80,
            encoding=None,
            window=WINDOW_BYTES,
            max_pktsize=PACKET_BYTES,
        )

    async def stop(self):
        self.splicer.stop()
        self.connection.abort()
        self.acceptor.close()
        await self.acceptor.wait_closed()
        if self.auth is not None:
            self.auth.close()

    async def serve(self, script):
        """Be the auth helper."""

        async def run(reader, writer):
            fixed = await reader.readexactly(proxy_protocol.FIXED_BYTES)
            rest = await reader.readexactly(proxy_protocol.proxy_header_length(fixed) - len(fixed))
            self.headers.append(proxy_protocol.decode_proxy_header(fixed + rest))
            await script(reader, writer)

        self.auth = await asyncio.start_unix_server(run, str(self.path))

    async def open(self, host="203.0.113.7", port=40123):
        """A browser comes in."""
        return await self.router.open_connection(
            "instance-abc", 80, host, port, encoding=None, window=WINDOW_BYTES
        )


@pytest.fixture
async def tunnel(tmp_path):
    tunnel = Tunnel(tmp_path / "auth.sock")
    await tunnel.start()
    yield tunnel
    await tunnel.stop()


async def until_none_are_open(tunnel):
    async with asyncio.timeout(5):
        while tunnel.splicer.open:
            await asyncio.sleep(0.01)


async def test_bytes_both_ways_and_the_clients_address(tunnel):
    async def script(reader, writer):
        while data := await reader.read(65536):
            writer.write(data.upper())
        writer.close()

    await tunnel.serve(script)
    for host, port, expected in (
        ("203.0.113.7", 40123, ("203.0.113.7", 40123)),
        ("2001:db8::7", 1, ("2001:db8::7", 1)),
        ("", 0, None),
    ):
        reader, writer = await tunnel.open(host, port)
        writer.write(b"hello")
        async with asyncio.timeout(5):
            assert await reader.readexactly(5) == b"HELLO"
        assert tunnel.headers[-1] == expected
        writer.close()
    await until_none_are_open(tunnel)


async def test_a_half_close_is_passed_on_both_ways(tunnel):
    async def script(reader, writer):
        data = await reader.read()  # until the browser's half-close
        writer.write(data[::-1])
        writer.write_eof()
        await reader.read()

    await tunnel.serve(script)
    reader, writer = await tunnel.open()
    writer.write(b"abc")
    writer.write_eof()
    async with asyncio.timeout(5):
        assert await reader.read() == b"cba"
    await until_none_are_open(tunnel)


@pytest.mark.parametrize("upwards", [True, False])
async def test_whoever_does_not_read_stops_whoever_sends(tunnel, upwards):
    go, sent, received = asyncio.Event(), [], []
    total = 64

    async def send(writer):
        for _ in range(total):
            writer.write(b"x" * MiB)
            await writer.drain()
            sent.append(1)
        writer.write_eof()

    async def receive(reader):
        await go.wait()
        while data := await reader.read(MiB):
            received.append(len(data))

    done = asyncio.Event()

    async def script(reader, writer):
        await (receive(reader) if upwards else send(writer))
        done.set()
        await reader.read()
        writer.close()

    await tunnel.serve(script)
    reader, writer = await tunnel.open()
    work = asyncio.create_task(send(writer) if upwards else receive(reader))
    seen = -1
    while seen != len(sent):
        seen = len(sent)
        await asyncio.sleep(0.2)
    assert seen < 24, f"{seen} MiB were taken for a reader that reads nothing"
    go.set()
    async with asyncio.timeout(20):
        await asyncio.gather(work, done.wait())
    assert sum(received) == total * MiB
    writer.close()


async def test_a_browser_that_goes_away_ends_the_pair(tunnel):
    gone = asyncio.Event()

    async def script(reader, writer):
        try:
            while True:
                writer.write(b"x" * MiB)
                await writer.drain()
        except ConnectionError:
            gone.set()

    await tunnel.serve(script)
    reader, writer = await tunnel.open()
    await reader.readexactly(MiB)
    writer.channel.abort()
    await asyncio.wait_for(gone.wait(), 5)
    await until_none_are_open(tunnel)


async def test_an_auth_helper_that_goes_away_ends_the_channel(tunnel, monkeypatch):
    monkeypatch.setattr(auth_socket, "FINISHED_LIMIT_S", 0.1)

    async def script(reader, writer):
        writer.write(b"last words")
        await writer.drain()
        writer.close()

    await tunnel.serve(script)
    reader, _ = await tunnel.open()
    async with asyncio.timeout(5):
        assert await reader.read() == b"last words"
    await until_none_are_open(tunnel)


async def test_without_an_auth_helper_a_channel_is_refused_and_the_tunnel_stays(tunnel):
    for _ in range(3):
        with pytest.raises(asyncssh.ChannelOpenError, match="auth helper"):
            await tunnel.open()

    async def script(reader, writer):
        writer.write(b"here now")
        writer.write_eof()

    await tunnel.serve(script)
    reader, _ = await tunnel.open()
    async with asyncio.timeout(5):
        assert await reader.read() == b"here now"


async def test_channels_are_capped(tunnel, monkeypatch):
    monkeypatch.setattr(auth_socket, "MAX_CHANNELS", 3)

    async def script(reader, writer):
        await reader.read()
        writer.close()

    await tunnel.serve(script)
    writers = [(await tunnel.open())[1] for _ in range(3)]
    with pytest.raises(asyncssh.ChannelOpenError, match="too many"):
        await tunnel.open()
    writers[0].close()
    async with asyncio.timeout(5):
        while tunnel.splicer.open == 3:
            await asyncio.sleep(0.01)
    await tunnel.open()


async def test_the_end_of_the_tunnel_ends_every_pair(tunnel):
    ended = []

    async def script(reader, writer):
        await reader.read()
        ended.append(1)
        writer.close()

    await tunnel.serve(script)
    for _ in range(5):
        await tunnel.open()
    tunnel.router.abort()
    await until_none_are_open(tunnel)
    async with asyncio.timeout(5):
        while len(ended) < 5:
            await asyncio.sleep(0.01)
