"""The sending half of the shorter way, beside asyncssh's own at the other end."""

import time
from typing import Any

import asyncssh
import pytest
from asyncssh import constants
from lib.waiting import until
from systems.ssh_pair import Pair, pair

from dit4c_p2p.overlay.asyncssh_ext import fastpath

SIZES = [1, 5, 6, 7, 15, 16, 17, 1000, 4096, 70_000]


def only_quick(ends: Pair) -> Any:
    """The shorter way of writing, and no other."""

    def longer(data: bytes) -> None:
        raise AssertionError("asyncssh's way was taken")

    ends.near_channel.write = longer
    return fastpath.fast_writer(ends.near_channel)


async def test_both_ends_count_alike() -> None:
    async with pair(near=True, far=False) as ends:
        write = only_quick(ends)
        for size in SIZES:
            write(bytes(size))
        await ends.arrived(sum(SIZES))
        assert ends.near._send_seq == ends.far._recv_seq
        assert ends.near_channel._send_window == ends.far_channel._recv_window
        assert ends.far_channel._recv_window == ends.far_channel._init_recv_window - sum(SIZES)
        cipher = ends.near._send_encryption._cipher
        assert cipher._iv == ends.far._recv_encryption._cipher._iv


async def test_as_many_bytes_as_of_a_plain_twin_until_the_next_keys() -> None:
    async with pair(near=False, far=False) as plain, pair(near=True, far=False) as quicker:
        write = only_quick(quicker)
        for size in SIZES:
            before = plain.near._rekey_bytes_sent
            plain.near.send_packet(constants.MSG_IGNORE, bytes(4))
            ignored = plain.near._rekey_bytes_sent - before
            before = plain.near._rekey_bytes_sent
            plain.near_channel.write(bytes(size))
            wanted = plain.near._rekey_bytes_sent - before - ignored
            before = quicker.near._rekey_bytes_sent
            write(bytes(size))
            assert quicker.near._rekey_bytes_sent - before == wanted > size


async def test_packets_are_well_formed_and_padded_at_random() -> None:
    """RFC 4253 section 6: a whole number of blocks, 4 to 255 bytes of random padding."""
    async with pair(near=True, far=False) as ends:
        opened: list[bytes] = []
        encryption = ends.far._recv_encryption
        decrypt = encryption.decrypt_packet

        def noting(*args: Any) -> bytes:
            opened.append(decrypt(*args))
            return opened[-1]

        encryption.decrypt_packet = noting
        write = only_quick(ends)
        for size in range(1, 40):
            write(bytes(size))
        await ends.arrived(sum(range(1, 40)))
    packets = [packet for packet in opened if packet[1] == constants.MSG_CHANNEL_DATA]
    assert len(packets) == 39
    paddings = [packet[len(packet) - packet[0] :] for packet in packets]
    assert all(len(packet) % 16 == 0 and packet[0] >= 4 for packet in packets)
    assert all(any(padding) for padding in paddings)
    assert len(set(paddings)) == len(paddings)


async def test_pieces_are_as_long_as_the_far_end_takes() -> None:
    async with pair(near=True, far=False, packet=4096) as ends:
        only_quick(ends)(bytes(range(256)) * 50)
        await ends.arrived(12800)
        assert [len(piece) for piece in ends.session.pieces] == [4096, 4096, 4096, 512]
        assert ends.session.received == bytes(range(256)) * 50


async def test_no_more_than_the_window_is_sent() -> None:
    async with pair(near=True, far=True, window=64 * 1024) as ends:
        ends.far_channel.pause_reading()
        write = fastpath.fast_writer(ends.near_channel)
        for _ in range(10):
            write(bytes(10_000))
        assert ends.near_channel._send_window == 0
        assert ends.near_channel.get_write_buffer_size() == 100_000 - 64 * 1024
        ends.far_channel.resume_reading()
        await ends.arrived(100_000)


async def test_queued_data_is_sent_first() -> None:
    async with pair(near=True, far=True) as ends:
        write = fastpath.fast_writer(ends.near_channel)
        ends.near_channel._send_buf.append((bytearray(b"first "), None))
        ends.near_channel._send_buf_len += 6
        write(b"second ")
        write(b"third")
        await ends.arrived(18)
        assert ends.session.received == b"first second third"


async def test_asyncsshs_own_packets_do_not_overtake() -> None:
    async with pair(near=True, far=False) as ends:
        only_quick(ends)(b"data")
        ends.near_channel.write_eof()
        await until(lambda: ends.session.ended)
        assert ends.session.received == b"data"


@pytest.mark.parametrize("limit", ["bytes", "seconds"])
async def test_new_keys_when_they_are_due(limit: str) -> None:
    async with pair(near=True, far=True) as ends:
        write = fastpath.fast_writer(ends.near_channel)
        near = ends.near
        write(b"old ")
        old = near._send_encryption
        if limit == "bytes":
            near._rekey_bytes = near._rekey_bytes_sent
        else:
            near._rekey_seconds, near._rekey_time = 3600, time.monotonic()
        write(b"due ")
        assert not near._kex_complete
        near._rekey_bytes = 1 << 30
        write(b"meanwhile ")
        await until(lambda: near._kex_complete)
        assert near._send_encryption is not old
        write(b"new")
        await ends.arrived(21)
        assert ends.session.received == b"old due meanwhile new"
        assert near._send_seq == ends.far._recv_seq


async def test_sequence_numbers_begin_again() -> None:
    """RFC 4253 section 6.4: they wrap around after 2^32 packets."""
    async with pair(near=True, far=True) as ends:
        ends.near._send_seq = ends.far._recv_seq = 0xFFFFFFFF
        only_quick(ends)(b"one")
        await ends.arrived(3)
        assert ends.near._send_seq == ends.far._recv_seq == 0


async def test_nothing_goes_past_a_connection_that_is_held() -> None:
    async with pair(near=True, far=True) as ends:
        write = fastpath.fast_writer(ends.near_channel)
        window = ends.near_channel._send_window
        ends.near.pause_writing()
        write(b"held ")
        assert ends.near_channel._send_window == window
        assert ends.near_channel.get_write_buffer_size() == 5
        ends.near.resume_writing()
        write(b"going")
        await ends.arrived(10)
        assert ends.session.received == b"held going"


async def test_a_cut_connection_takes_no_more() -> None:
    async with pair(near=True, far=True) as ends:
        longer: list[bytes] = []
        ends.near_channel.write = longer.append
        write = fastpath.fast_writer(ends.near_channel)
        write(b"under way")
        ends.near.abort()
        write(b"late")
        assert longer == [b"late"]
        del ends.near_channel.write
        write = fastpath.fast_writer(ends.near_channel)
        await ends.cut()
        with pytest.raises(OSError):
            await until(lambda: ends.near_channel.is_closing())
            write(b"later")


async def test_a_connection_that_was_not_quickened_writes_as_ever() -> None:
    async with pair(near=False, far=True) as ends:
        assert fastpath.fast_writer(ends.near_channel) == ends.near_channel.write
        assert isinstance(ends.near_channel, asyncssh.SSHTCPChannel)
