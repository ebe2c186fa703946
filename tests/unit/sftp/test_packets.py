"""Every packet of SFTP version 3 is read as it was written; what is not in form is refused."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit4c_p2p.sftp import packets as p
from dit4c_p2p.sftp.attrs import Attrs, encode_full_attrs, long_name, read_attrs
from dit4c_p2p.sftp.wire import MalformedPacket, Reader

FULL = Attrs(2**40, 1000, 1000, 0o100644, 1, 2)

REQUESTS = [
    p.Open(b"/a", 0x1A, Attrs(mode=0o600)),
    p.Close(b"h"),
    p.Read(b"h", 2**40, 32768),
    p.Write(b"h", 2**40, b"data"),
    p.Lstat(b"/\xff"),
    p.Fstat(b"h"),
    p.Setstat(b"/a", FULL),
    p.Fsetstat(b"h", Attrs(atime=1, mtime=2)),
    p.Opendir(b"/"),
    p.Readdir(b"h"),
    p.Remove(b"/a"),
    p.Mkdir(b"/d", Attrs()),
    p.Rmdir(b"/d"),
    p.Realpath(b"."),
    p.Stat(b"/a"),
    p.Rename(b"/a", b"/b"),
    p.Readlink(b"/l"),
    p.Symlink(b"target", b"/l"),
    p.Extended(b"fsync@openssh.com", b"\0\0\0\1h"),
]
RESPONSES = [
    p.Status(4, "no room", 122),
    p.Status(0),
    p.Handle(b"h"),
    p.Data(b"data"),
    p.Name((p.NameEntry(b"a", b"-rw a", FULL), p.NameEntry(b"b", b"", Attrs()))),
    p.AttrsReply(FULL),
    p.ExtendedReply(b"\0" * 8),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_a_request_is_read_as_it_was_written(request_: p.Request) -> None:
    data = p.encode_request(7, request_)
    assert struct.unpack(">I", data[:4])[0] == len(data) - 4
    assert p.decode_request(data[4:]) == (7, request_)


@pytest.mark.parametrize("response", RESPONSES, ids=lambda one: type(one).__name__)
def test_a_response_is_read_as_it_was_written(response: p.Response) -> None:
    assert p.decode_response(p.encode_response(9, response)[4:]) == (9, response)


def test_the_first_packets_carry_extensions() -> None:
    pairs = ((b"hello@dit4c", b"1"), (b"limits@openssh.com", b"1"))
    assert p.decode_init(p.encode_init(p.Init(3, pairs))[4:]) == p.Init(3, pairs)
    assert p.decode_version(p.encode_version(p.Version(3, pairs))[4:]) == p.Version(3, pairs)
    with pytest.raises(MalformedPacket):
        p.decode_init(p.encode_version(p.Version(3))[4:])


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_a_request_that_is_cut_short_is_refused(request_: p.Request) -> None:
    data = p.encode_request(7, request_)[4:]
    if not isinstance(request_, p.Extended):  # its data may have any length
        assert p.decode_request(data + b"more") == (7, request_)
        with pytest.raises(MalformedPacket):
            p.decode_request(data[:-1])
    with pytest.raises(MalformedPacket):
        p.decode_request(data[:4])


def test_an_unknown_request_has_its_id() -> None:
    with pytest.raises(p.UnknownRequest) as caught:
        p.decode_request(b"\x15" + struct.pack(">I", 77))
    assert caught.value.request_id == 77


@pytest.mark.parametrize(
    "data",
    [
        b"\x05" + struct.pack(">II", 1, 257) + b"h" * 257 + b"\0" * 12,  # a handle that is too long
        b"\x09" + struct.pack(">IIcI", 1, 1, b"a", 0x40),  # an attribute of version 4
        b"\x09" + struct.pack(">IIcII", 1, 1, b"a", 0x80000000, 2**31),  # 2 ** 31 attributes
    ],
)
def test_hostile_lengths_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        p.decode_request(data)


def test_a_name_with_a_hostile_count_is_refused() -> None:
    with pytest.raises(MalformedPacket):
        p.decode_response(b"\x68" + struct.pack(">II", 1, 2**32 - 1))


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (p.decode_request, p.decode_response, p.decode_init, p.decode_version):
        try:
            decode(data)
        except MalformedPacket:
            continue


def test_all_attributes_at_once() -> None:
    data = encode_full_attrs(5, 1, 2, 0o40755, -5, 2**40)
    assert read_attrs(Reader(data)) == Attrs(5, 1, 2, 0o40755, 0, 0xFFFFFFFF)


def test_the_line_of_ls() -> None:
    line = long_name(b"\xffname", 0o100640, 1, "you", 17, 0)
    assert line.startswith(b"-rw-r-----    1 you      you            17 ")
    assert line.endswith(b"1970 \xffname")
