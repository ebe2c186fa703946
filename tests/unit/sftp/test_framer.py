"""Packets come out whole, however the channel cuts them; their length is checked first."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.sftp.framer import Framer
from dit4c_p2p.sftp.wire import MalformedPacket


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=20), st.data())
def test_packets_come_out_whole_however_they_are_cut(packets: list[bytes], data: st.DataObject):
    stream = b"".join(struct.pack(">I", len(one)) + one for one in packets)
    framer, out = Framer(40), []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        out += framer.feed(stream[:count])
        stream = stream[count:]
    assert out == packets
    assert framer.kept_bytes == 0


@pytest.mark.parametrize("length", [0, 262145, 2**31, 2**32 - 1])
def test_a_length_is_refused_before_anything_is_kept(length: int) -> None:
    framer = Framer()
    with pytest.raises(MalformedPacket):
        framer.feed(struct.pack(">I", length) + b"x" * 100)


def test_no_more_than_a_packet_is_kept() -> None:
    framer = Framer(1000)
    framer.feed(struct.pack(">I", 1000))
    for _ in range(999):
        assert framer.feed(b"x") == []
        assert framer.kept_bytes <= 1004
    assert framer.feed(b"x") == [b"x" * 1000]
