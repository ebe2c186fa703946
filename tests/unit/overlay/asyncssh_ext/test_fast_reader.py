"""The receiving half of the shorter way, beside asyncssh's own at the other end."""

import asyncio
from typing import Any

import asyncssh
import pytest
from asyncssh import constants
from asyncssh.packet import String, UInt32
from lib.waiting import until
from systems.ssh_pair import Pair, pair

from dit4c_p2p.overlay.asyncssh_ext import fast_reader, fastpath

SIZES = [1, 5, 6, 7, 15, 16, 17, 1000, 4096, 70_000]


def why(ends: Pair) -> list[Exception | None]:
    """Filled with the reason when the far end's connection ends."""
    reasons: list[Exception | None] = []
    ends.session.connection_lost = reasons.append  # type: ignore[method-assign,assignment]
    return reasons


def send_data(ends: Pair, content: bytes, channel: int | None = None) -> None:
    """A packet of channel data, whatever is in it, without regard to windows and states."""
    number = ends.far_channel._recv_chan if channel is None else channel
    ends.near.send_packet(constants.MSG_CHANNEL_DATA, UInt32(number) + content)


async def test_both_ends_count_alike() -> None:
    async with pair(near=False, far=True) as ends:
        for size in SIZES:
            ends.near_channel.write(bytes(size))
        await ends.arrived(sum(SIZES))
        assert ends.far._recv_seq == ends.near._send_seq
        assert ends.far_channel._recv_window == ends.near_channel._send_window
        assert ends.far_channel._recv_window == ends.far_channel._init_recv_window - sum(SIZES)
        cipher = ends.far._recv_encryption._cipher
        assert cipher._iv == ends.near._send_encryption._cipher._iv


async def test_the_shorter_way_is_taken() -> None:
    async with pair(near=True, far=True) as ends:

        def longer(data: bytes) -> None:
            raise AssertionError("asyncssh's way was taken")

        ends.far.data_received = longer
        write = fastpath.fast_writer(ends.near_channel)
        for size in SIZES:
            write(bytes(size))
        await ends.arrived(sum(SIZES))


async def test_the_shorter_way_is_taken_again_with_new_keys() -> None:
    async with pair(near=True, far=True) as ends:
        write = fastpath.fast_writer(ends.near_channel)
        write(b"old ")
        await ends.arrived(4)
        old = ends.far._recv_encryption
        ends.near._rekey_bytes = ends.near._rekey_bytes_sent
        ends.near.send_packet(constants.MSG_IGNORE, String(b""))
        ends.near._rekey_bytes = 1 << 30
        await until(lambda: ends.near._kex_complete and ends.far._recv_encryption is not old)

        def longer(data: bytes) -> None:
            raise AssertionError("asyncssh's way was taken")

        ends.far.data_received = longer
        write(b"new")
        await ends.arrived(7)


async def test_windows_are_given_anew() -> None:
    async with pair(near=False, far=True, window=64 * 1024) as ends:
        for _ in range(50):
            ends.near_channel.write(bytes(10_000))
        await ends.arrived(500_000)
        await until(lambda: ends.near_channel._send_window == ends.far_channel._recv_window)


async def test_more_than_the_window_ends_the_connection() -> None:
    """RFC 4254 section 5.2: and what is over is not delivered."""
    async with pair(near=False, far=True, window=32 * 1024) as ends:
        reasons = why(ends)
        ends.far_channel.pause_reading()
        send_data(ends, String(bytes(32 * 1024)))
        send_data(ends, String(b"x"))
        await ends.cut()
        assert "Window exceeded" in str(reasons)
        assert ends.far_channel._recv_window >= 0


async def test_data_after_the_end_ends_the_connection() -> None:
    async with pair(near=False, far=True) as ends:
        reasons = why(ends)
        ends.near_channel.write(b"before")
        ends.near_channel.write_eof()
        send_data(ends, String(b"after"))
        await ends.cut()
        assert "not open for sending" in str(reasons)
        assert ends.session.received == b"before"


async def test_data_for_no_channel_ends_the_connection() -> None:
    async with pair(near=False, far=True) as ends:
        reasons = why(ends)
        send_data(ends, String(b"whose?"), channel=77)
        await ends.cut()
        assert "Invalid channel number" in str(reasons)


@pytest.mark.parametrize(
    "content", [String(b"data") + b"more", UInt32(1000) + b"short", b"\x00", b""]
)
async def test_malformed_data_ends_the_connection(content: bytes) -> None:
    async with pair(near=False, far=True) as ends:
        send_data(ends, content)
        await ends.cut()
        assert ends.session.received == b""


async def test_only_data_is_taken_for_data() -> None:
    """Extended data of an unknown sort, which has the same form by chance."""
    async with pair(near=False, far=True) as ends:
        reasons = why(ends)
        number = UInt32(ends.far_channel._recv_chan)
        sort, content = UInt32(5), String(b"x")
        ends.near.send_packet(constants.MSG_CHANNEL_EXTENDED_DATA, number + sort + content)
        await ends.cut()
        assert "Invalid extended data type" in str(reasons)
        assert ends.session.received == b""


async def test_a_packet_too_short_to_be_one_ends_the_connection() -> None:
    """Though it is sealed as it should be."""
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context))
    async with pair(near=False, far=True) as ends:
        encryption, head = ends.near._send_encryption, UInt32(4)
        packet, tag = encryption.encrypt_packet(ends.near._send_seq, head, bytes(4))
        ends.near._transport.write(packet + tag)
        await ends.cut()
        assert raised == []


@pytest.mark.parametrize("size", [1, 10, 16, 17, 30, 100])
async def test_a_packet_that_asyncssh_has_begun_is_left_to_it(size: int) -> None:
    """``size`` bytes of two packets are with asyncssh, and the rest comes afterwards."""
    async with pair(near=False, far=True) as ends:
        sealed: list[bytes] = []
        ends.near._send = sealed.append
        ends.near_channel.write(b"one ")
        ends.near_channel.write(b"two")
        stream = b"".join(sealed)
        ends.far.data_received(stream[:size])
        receiver: Any = ends.far._transport.get_protocol()
        rest = stream[size:]
        receiver.get_buffer(-1)[: len(rest)] = rest
        receiver.buffer_updated(len(rest))
        assert ends.session.received == b"one two"


async def test_nothing_overtakes_a_packet_that_takes_its_time() -> None:
    """asyncssh waits with all that follows while it looks into a key exchange, say."""
    async with pair(near=True, far=True) as ends:
        ready = ends.far._recv_handler
        ends.far._recv_handler = lambda: False
        fastpath.fast_writer(ends.near_channel)(b"data")
        await until(lambda: len(ends.far._inpbuf) > 4)
        assert ends.session.received == b""
        ends.far._recv_handler = ready
        ends.far._recv_data()
        assert ends.session.received == b"data"


async def test_compressed_packets_are_left_to_asyncssh() -> None:
    class Unpacker:
        used = 0

        def decompress(self, data: bytes) -> bytes:
            self.used += 1
            return data

    async with pair(near=True, far=True) as ends:
        ends.far._decompressor = Unpacker()
        fastpath.fast_writer(ends.near_channel)(b"data")
        await ends.arrived(4)
        assert ends.far._decompressor.used == 1


async def test_empty_data_is_nothing() -> None:
    async with pair(near=False, far=True) as ends:
        send_data(ends, String(b""))
        ends.near_channel.write(b"something")
        await ends.arrived(9)
        assert ends.far._recv_seq == ends.near._send_seq


@pytest.mark.parametrize("length", [0, 1, 15, 1 << 20, 0xFFFFFFFF])
async def test_a_length_out_of_bounds_ends_the_connection(length: int) -> None:
    """And no room is made for it."""
    async with pair(near=False, far=True) as ends:
        ends.near._transport.write(UInt32(length) + bytes(64))
        await ends.cut()


async def test_being_heard_puts_the_next_keepalive_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_reader, "_KEEPALIVE_GRAIN_S", 0)
    async with pair(near=True, far=True, keepalive_interval=50) as ends:
        write = fastpath.fast_writer(ends.near_channel)
        before = ends.far._keepalive_timer.when()
        await asyncio.sleep(0.01)
        write(b"still here")
        await ends.arrived(10)
        assert ends.far._keepalive_timer.when() > before


async def test_after_a_cut_nothing_more_is_delivered() -> None:
    """Though more lies in the same buffer, or still comes."""
    async with pair(near=True, far=True) as ends:
        ends.session.on_data = lambda data: ends.far.abort()
        receiver: Any = ends.far._transport.get_protocol()
        write = fastpath.fast_writer(ends.near_channel)
        write(b"one")
        write(b"two")
        await ends.cut()
        assert ends.session.pieces == [b"one"]
        assert len(receiver.get_buffer(-1)) > 100
        receiver.get_buffer(-1)[:100] = bytes(100)
        receiver.buffer_updated(100)
        receiver.eof_received()
        assert ends.session.pieces == [b"one"]


@pytest.mark.parametrize("error", [ValueError("a bug"), asyncssh.ProtocolError("a breach")])
async def test_a_session_that_raises_ends_its_connection(error: Exception) -> None:
    """And the loop hears nothing of it."""
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context))
    async with pair(near=True, far=True) as ends:
        reasons = why(ends)

        def fail(data: bytes) -> None:
            raise error

        ends.session.on_data = fail
        write = fastpath.fast_writer(ends.near_channel)
        write(b"one")
        write(b"two")
        await ends.cut()
        assert reasons == [error]
        assert ends.session.pieces == [b"one"]
        assert raised == []


async def test_the_buffer_grows_for_a_large_packet_and_keeps_what_is_there() -> None:
    async with pair(near=True, far=True) as ends:
        write = fastpath.fast_writer(ends.near_channel)
        content = [bytes([number]) * size for number, size in enumerate((10, 200_000, 3, 250_000))]
        for piece in content:
            write(piece)
        await ends.arrived(450_013)
        assert ends.session.received == b"".join(content)


def sealed(ends: Pair, *pieces: bytes) -> bytes:
    """What the near end would send for these, which it doesn't."""
    kept: list[bytes] = []
    send, ends.near._send = ends.near._send, kept.append
    for piece in pieces:
        ends.near_channel.write(piece)
    ends.near._send = send
    return b"".join(kept)


def arrive(ends: Pair, data: bytes) -> None:
    """Have the far end's loop read ``data``, in as many turns as it takes."""
    receiver = receiver_of(ends)
    while data:
        room = receiver.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        receiver.buffer_updated(size)
        data = data[size:]


def receiver_of(ends: Pair) -> fast_reader.Receiver:
    """What the far end reads by."""
    receiver = ends.far._transport.get_protocol()
    assert isinstance(receiver, fast_reader.Receiver)
    return receiver


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20, 999, 1000, 300_000])
async def test_a_partial_packet_survives_reads_of_other_connections(cut: int) -> None:
    """All that a thread reads is read into one place."""
    big = {"packet": 256 * 1024, "window": 4 * 1024 * 1024}
    async with pair(near=False, far=True, **big) as one, pair(near=False, far=True, **big) as other:
        first, second = bytes([1]) * 200_000, bytes([2]) * 200_000
        ones, others = sealed(one, first, first), sealed(other, second, second)
        arrive(one, ones[:cut])
        arrive(other, others[:cut])
        arrive(one, ones[cut:])
        arrive(other, others[cut:])
        assert one.session.received == first * 2
        assert other.session.received == second * 2


async def test_only_connections_with_a_partial_packet_keep_a_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(near=False, far=True) as ends:
        receiver, stream = receiver_of(ends), sealed(ends, bytes(1000), b"x", b"y")
        arrive(ends, stream[:500])
        assert receiver._view is not fast_reader._shared.view
        arrive(ends, stream[500:-10])
        arrive(ends, stream[-10:])
        assert ends.session.received == bytes(1000) + b"xy"
        assert receiver._view is not fast_reader._shared.view, "it is likely to be needed again"
        monkeypatch.setattr(fast_reader, "_KEEPALIVE_GRAIN_S", 0.0)
        arrive(ends, sealed(ends, b"z"))
        assert receiver._view is fast_reader._shared.view


async def test_an_idle_connection_makes_no_cipher_of_its_own() -> None:
    async with pair(near=True, far=True) as ends:
        ends.near_channel.abort()
        await until(lambda: not ends.far._channels)
        receiver = receiver_of(ends)
        receiver._sealer = fast_reader.Sealer(None)
        seen = ends.far._recv_seq
        ends.near.send_packet(constants.MSG_IGNORE, String(b""))
        await until(lambda: ends.far._recv_seq != seen)
        assert receiver._sealer.encryption is ends.far._recv_encryption
        assert receiver._sealer.aead is None
