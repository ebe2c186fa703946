"""Peers that are logged in and mean ill: what they can make the router hold, and for how long."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from lib.waiting import until
from systems.router import House, a_house, hello

from dit4c_p2p.overlay.asyncssh_ext import backpressure
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, PACKET_BYTES, Identity
from dit4c_p2p.router import Limits

MIB = 1024 * 1024
ENDLESS = 0xFFFFFFFF
CIPHERS = ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"]


@pytest.fixture
async def impatient_house(tmp_path: Path) -> AsyncIterator[House]:
    """A router that soon cuts who takes nothing."""
    async with a_house(tmp_path, Limits(stalled_s=2)) as it:
        yield it


class Swallow(asyncssh.SSHTCPSession[bytes]):
    """Takes what comes."""

    def data_received(self, data: bytes, datatype: Any) -> None:
        pass

    def eof_received(self) -> bool:
        return True


class Keep(Swallow):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.received = bytearray()

    def data_received(self, data: bytes, datatype: Any) -> None:
        self.received += data


async def rogue(house: House, identity: Identity, **options: Any) -> asyncssh.SSHClientConnection:
    """A connection that does as asyncssh does, without a guard of its own."""
    connection = await asyncssh.connect(
        "127.0.0.1",
        house.router.ssh_port,
        username=str(identity.name),
        client_keys=[identity.key],
        known_hosts=([house.host_key.convert_to_public()], [], []),
        **{**CLIENT_OPTIONS, "keepalive_interval": 0, **options},
    )
    house.stack.callback(connection.abort)
    return connection


@asynccontextmanager
async def chattering(connection: Any) -> AsyncIterator[None]:
    """Packets that are to be ignored go out all the time: the peer lives."""

    async def chatter() -> None:
        while not connection.is_closed():
            connection.send_packet(asyncssh.constants.MSG_IGNORE, bytes(4))
            await asyncio.sleep(0.2)

    task = asyncio.create_task(chatter())
    try:
        yield
    finally:
        task.cancel()


async def swallowed(writer: asyncio.StreamWriter, most: int) -> int:
    """How much is taken of ``most`` bytes until nothing more is for half a second."""
    sent = 0
    while sent < most:
        writer.write(bytes(256 * 1024))
        sent += 256 * 1024
        try:
            async with asyncio.timeout(0.5):
                await writer.drain()
        except TimeoutError:
            break
    return sent


async def upload(house: House, instance: str) -> asyncio.StreamWriter:
    """An upload that has begun."""
    _, writer = await house.visit()
    head = f"POST / HTTP/1.1\r\nHost: {instance}.localhost\r\nContent-Length: {1 << 40}\r\n\r\n"
    writer.write(head.encode())
    await writer.drain()
    return writer


async def held_up(house: House, name: str) -> None:
    """Wait until the router has told that peer's writers to stop."""
    server = house.holder(name)
    await until(lambda: any(each._send_paused for each in server.conn._channels.values()))


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_an_unbounded_window_is_not_filled_for_a_peer_that_does_not_read(
    impatient_house: House, cipher: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The router holds a few MiB, not what the peer's window allows; then the peer is cut."""
    house = impatient_house
    connection: Any = await rogue(house, house.peer("instance-abc"), encryption_algs=[cipher])
    await connection.create_server(
        lambda *_: Swallow(), "instance-abc", 80, encoding=None, window=ENDLESS
    )
    writer = await upload(house, "abc")
    await until(lambda: bool(connection._channels))
    connection._transport.pause_reading()
    async with chattering(connection):
        await swallowed(writer, 64 * MIB)
        await held_up(house, "instance-abc")
        server = house.holder("instance-abc")
        kept = server.conn._transport.get_write_buffer_size()
        kept += sum(each._send_buf_len for each in server.conn._channels.values())
        assert kept < 8 * MIB
        since = time.monotonic()
        await until(lambda: house.holder("instance-abc") is None, 15)
    assert time.monotonic() - since < house.router.config.limits.stalled_s + 2
    assert "it has taken nothing for 2 s" in caplog.text


async def test_an_unfinished_key_exchange_pauses_writers(
    impatient_house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house = impatient_house
    connection: Any = await rogue(house, house.peer("instance-abc"))
    await connection.create_server(
        lambda *_: Swallow(), "instance-abc", 80, encoding=None, window=ENDLESS
    )
    writer = await upload(house, "abc")
    await until(lambda: bool(connection._channels))
    connection.data_received = lambda *_: None  # it answers nothing any more
    connection._send_kexinit()
    async with chattering(connection):
        server = house.holder("instance-abc")
        await until(lambda: not server.conn._kex_complete)
        await swallowed(writer, 64 * MIB)
        kept = sum(len(b"".join(args)) for _, args in server.conn._deferred_packets)
        kept += sum(each._send_buf_len for each in server.conn._channels.values())
        assert kept < 8 * MIB
        await until(lambda: house.holder("instance-abc") is None, 15)
    assert "it has taken nothing for 2 s" in caplog.text


async def test_unread_answers_do_not_accumulate(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backpressure, "_MOST_UNSENT_BYTES", 2 * MIB)
    connection: Any = await rogue(house, house.peer("instance-abc"))
    await connection.create_server(lambda *_: Swallow(), "instance-abc", 80, encoding=None)
    server = house.holder("instance-abc")
    connection._transport.pause_reading()
    async with asyncio.timeout(60):
        while house.holder("instance-abc") is not None:
            for _ in range(2000):
                connection._send_global_request(b"what", want_reply=True)
            await asyncio.sleep(0.05)
    assert server.conn.is_closed()
    assert "it asks and asks" in caplog.text


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_a_peer_that_reads_again_gets_everything_in_order(house: House, cipher: str) -> None:
    """Several streams of one connection are held up together, and each goes on."""
    ends: list[Keep] = []

    def keep(*_: Any) -> Keep:
        ends.append(Keep())
        return ends[-1]

    connection: Any = await rogue(house, house.peer("instance-abc"), encryption_algs=[cipher])
    await connection.create_server(
        keep,
        "instance-abc",
        80,
        encoding=None,
        window=64 * MIB,
        max_pktsize=PACKET_BYTES,
    )
    writers = [await upload(house, "abc") for _ in range(5)]
    await until(lambda: len(ends) == 5)
    connection._transport.pause_reading()
    bodies = [bytes([number]) * 3 * MIB for number in range(5)]
    for writer, body in zip(writers, bodies, strict=True):
        writer.write(body)
        writer.write_eof()
    await held_up(house, "instance-abc")
    connection._transport.resume_reading()
    total = sum(len(body) for body in bodies)

    def arrived() -> bool:
        return sum(len(end.received.partition(b"\r\n\r\n")[2]) for end in ends) >= total

    await until(arrived, 20)
    assert sorted(end.received.partition(b"\r\n\r\n")[2] for end in ends) == bodies


async def test_a_relayed_stream_is_held_up_as_well(house: House) -> None:
    """A node that reads nothing stops the scheduler's stream, not just its own."""
    node: Any = await rogue(house, house.peer("node-home", "main"))
    await node.create_server(lambda *_: Swallow(), "node-home", 22, encoding=None, window=ENDLESS)
    scheduler = await house.connect(house.peer("scheduler-main"))
    channel, session = await scheduler.create_connection(Stopped, "node-home", 22)
    node._transport.pause_reading()
    sent = 0
    async with asyncio.timeout(20):
        while not session.stopped and sent < 64 * MIB:
            channel.write(bytes(256 * 1024))
            sent += 256 * 1024
            await asyncio.sleep(0.005)
        await asyncio.sleep(0)
    assert sent < 32 * MIB
    server = house.holder("node-home", 22)
    assert server.conn._transport.get_write_buffer_size() < 8 * MIB


class Stopped(Swallow):
    """Notes that it is to stop."""

    stopped = False

    def pause_writing(self) -> None:
        self.stopped = True


# ---- tiny packets


@pytest.mark.parametrize("size", [1, backpressure.LEAST_PACKET_BYTES - 1])
async def test_an_instance_that_takes_tiny_packets_is_disconnected(
    house: House, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It could make the router send a million packets for a megabyte."""
    caplog.set_level(logging.INFO)
    connection = await rogue(house, house.peer("instance-abc"))
    await connection.create_server(
        lambda *_: Swallow(), "instance-abc", 80, encoding=None, max_pktsize=size
    )
    house.portal.page_states["abc"] = {"state": "running", "title": "Lab"}
    assert (await house.get("abc.localhost")).status == 503
    async with asyncio.timeout(5):
        await connection.wait_closed()
    assert house.holder("instance-abc") is None
    assert f"maximum packet size {size} is below" in caplog.text


async def test_the_least_packet_size_is_served(house: House) -> None:
    connection = await rogue(house, house.peer("instance-abc"))
    await connection.start_server(
        lambda *_: hello,
        "instance-abc",
        80,
        encoding=None,
        max_pktsize=backpressure.LEAST_PACKET_BYTES,
    )
    assert (await house.get("abc.localhost", "/it")).body == b"/it"


async def test_a_caller_that_takes_tiny_packets_is_disconnected(house: House) -> None:
    target: Any = await rogue(house, house.peer("node-home", "main"))
    await target.create_server(lambda *_: Swallow(), "node-home", 22, encoding=None)
    connection = await rogue(house, house.peer("scheduler-main"))
    with pytest.raises(asyncssh.ChannelOpenError):
        await connection.create_connection(Swallow, "node-home", 22, max_pktsize=1)
    async with asyncio.timeout(5):
        await connection.wait_closed()
    assert not target.is_closed()
