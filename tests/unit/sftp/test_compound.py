"""Every operation and result of a compound is read as it was written."""

import struct
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit4c_p2p.sftp import compound as c
from dit4c_p2p.sftp import extensions as e
from dit4c_p2p.sftp import operations as o
from dit4c_p2p.sftp.wire import MalformedPacket, Record

_INTEGERS = {
    "u8": st.integers(0, 2**8 - 1),
    "u32": st.integers(0, 2**32 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    if typing.get_origin(hint) is typing.Annotated:
        return _INTEGERS[typing.get_args(hint)[1]]
    if typing.get_origin(hint) is list:
        return st.lists(values(typing.get_args(hint)[0]), max_size=3)
    if issubclass(hint, Record):
        return records(hint)
    return st.booleans() if hint is bool else st.binary(max_size=20)


def records(kind: type[Record]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [field.name for field in msgspec.structs.fields(kind)]
    return st.builds(kind, *[values(hints[name]) for name in names])


OPERATIONS = list(c.RESULTS)


@given(st.lists(st.sampled_from(OPERATIONS).flatmap(records), min_size=1, max_size=8))
@settings(max_examples=200)
def test_operations_are_read_as_they_were_written(operations: list[Any]) -> None:
    data = c.encode_compound(operations, c.CompoundFlag.ORDERED)
    assert c.decode_compound(data) == c.Compound(1, tuple(operations))


@given(st.data())
@settings(max_examples=200)
def test_results_are_read_as_they_were_written(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=8))
    operations = [data.draw(records(kind)) for kind in kinds]
    results = [data.draw(records(c.RESULTS[kind])) for kind in kinds]
    assert c.decode_results(operations, c.encode_results(results)) == results


def test_what_was_not_run_after_a_failure_is_said_so() -> None:
    operations = [o.Unlink(b"/a"), o.Unlink(b"/b"), o.Unlink(b"/c")]
    failed = o.Failed(2, b"there is none")
    assert c.decode_results(operations, c.encode_results([failed])) == [
        failed,
        o.NotRun(),
        o.NotRun(),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack(">II", 0, 0),
        struct.pack(">II", 0, e.MAX_OPERATIONS + 1),
        struct.pack(">IIB", 0, 1, 200),
        c.encode_compound([o.Fsync(b"h")]) + b"x",
        c.encode_compound([o.Fsync(b"h")])[:-1],
    ],
)
def test_a_compound_that_is_not_in_form_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        c.decode_compound(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    operations = [o.ListDir(b"/"), o.ReadFile(b"/a", 10)]
    for decode in (c.decode_compound, e.decode_notice, e.decode_hello, e.decode_hello_reply):
        try:
            decode(data)
        except MalformedPacket:
            continue
    try:
        c.decode_results(operations, data)
    except MalformedPacket:
        return


def test_a_hostile_count_of_a_list_is_refused() -> None:
    with pytest.raises(MalformedPacket):
        e.decode_notice(struct.pack(">BI", 1, 2**32 - 1))


def test_hello_and_notices_are_read_as_they_were_written() -> None:
    reply = e.HelloReply(2, 4000, 5000, 262144, 261120, 512, 100000, 100000, 2**63, 5)
    assert e.decode_hello_reply(e.encode_record(reply) + b"later") == reply
    assert e.decode_hello_reply(e.encode_record(reply)[:-8]).now_ns == 0, "of version 1"
    assert e.decode_hello(e.encode_record(e.Hello(mount=7))) == e.Hello(2, 7)
    assert e.decode_hello(b"\0\0\0\1") == e.Hello(1, 0)
    notice = e.Notice(e.NoticeKind.RECALL, [e.RecalledLease(5, 6, 1), e.RecalledLease(7, 8, 0)])
    assert e.decode_notice(e.encode_notice(notice)) == notice
