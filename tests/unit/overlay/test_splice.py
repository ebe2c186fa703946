"""The ends of a forwarded stream, where asyncio's transports need care."""

import asyncio
import socket
import ssl
from types import SimpleNamespace

import pytest
from lib.certificates import Authority

from dit4c_p2p.net.reset import reset
from dit4c_p2p.overlay.splice import ChannelEnd, StreamEnd


class Accepted(asyncio.Protocol):
    def __init__(self, made):
        self._made = made

    def connection_made(self, transport):
        self._made.set_result(transport)


class Channel:
    """What the socket's end does to a channel that is open."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append(name)

    def get_connection(self):
        return SimpleNamespace(_send=None)

    def is_closing(self):
        return False


@pytest.fixture
async def tls_stream(tmp_path):
    """A server's transport with TLS, and the client's writer."""
    authority = Authority(tmp_path)
    files = authority.files("server", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    loop = asyncio.get_running_loop()
    made = loop.create_future()
    server = await loop.create_server(lambda: Accepted(made), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("localhost", port, ssl=authority.client())
    yield await made, writer
    writer.transport.abort()
    server.close()
    await server.wait_closed()


async def test_a_tls_stream_that_ended_in_order_can_be_reset(tls_stream):
    """A router that stops resets every visitor's connection, those that are ending included."""
    transport, _ = tls_stream
    end = ChannelEnd(transport)
    end.connection_made(SimpleNamespace(got_eof=True, set_write_buffer_limits=lambda high: None))
    end.eof_received()
    end.connection_lost(None)
    reset(transport)
    assert transport.is_closing()


async def test_an_end_of_file_that_is_read_twice_is_passed_on_once():
    """asyncio reads it again when reading was paused and resumed after it."""
    near, far = socket.socketpair()
    channel = Channel()
    with far:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        end = StreamEnd(transport, channel, 60, lambda moved: None)
        assert end.eof_received() and end.eof_received()
        assert channel.calls.count("write_eof") == 1
        end.connection_lost(None)
        transport.abort()
