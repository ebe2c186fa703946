"""Compounds: several operations in one message, run in order (docs/protocol.md)."""

import struct
from collections.abc import Sequence
from enum import IntFlag
from typing import Union

from dit4c_p2p.sftp.extensions import MAX_OPERATIONS
from dit4c_p2p.sftp.operations import (
    AcquireLease,
    AttrsResult,
    BytesResult,
    CloseFile,
    DataResult,
    Done,
    EntryResult,
    Failed,
    FGetAttr,
    FileResult,
    FSetAttr,
    Fsync,
    GetAttr,
    GetXattr,
    ListDir,
    ListMore,
    ListResult,
    ListXattr,
    MakeDir,
    MakeLink,
    MakeNode,
    MakeSymlink,
    NamesResult,
    NotRun,
    OpenFile,
    OpenResult,
    ParentResult,
    ReadData,
    ReadFile,
    ReadFileResult,
    ReadLink,
    RemoveDir,
    RemoveXattr,
    RenamePath,
    RenameResult,
    ReopenFile,
    RequireUnchanged,
    ReturnLease,
    SetAttr,
    SetXattr,
    StatFs,
    StatFsResult,
    SyncTree,
    Unlink,
    WriteData,
)
from dit4c_p2p.sftp.wire import MalformedPacket, Reader, Record, decode_record, encode_into

Operation = Union[  # noqa: UP007  one line for each kind
    GetAttr, FGetAttr, SetAttr, FSetAttr, OpenFile, CloseFile, ReadData, WriteData, Fsync,
    SyncTree, ReadFile, ListDir, ListMore, Unlink, MakeDir, RemoveDir, RenamePath, MakeLink,
    MakeSymlink, ReadLink, MakeNode, StatFs, AcquireLease, ReturnLease, GetXattr, SetXattr,
    ListXattr, RemoveXattr, RequireUnchanged, ReopenFile,
]  # fmt: skip
Result = Union[  # noqa: UP007
    Done, AttrsResult, FileResult, OpenResult, DataResult, ReadFileResult, ListResult, EntryResult,
    ParentResult, RenameResult, BytesResult, NamesResult, StatFsResult, Failed, NotRun,
]  # fmt: skip

# Number on the wire, operation, result. Numbers are never used for anything else.
_TABLE: tuple[tuple[int, type[Record], type[Record]], ...] = (
    (1, GetAttr, AttrsResult),
    (2, FGetAttr, FileResult),
    (3, SetAttr, AttrsResult),
    (4, FSetAttr, FileResult),
    (5, OpenFile, OpenResult),
    (6, CloseFile, FileResult),
    (7, ReadData, DataResult),
    (8, WriteData, Done),
    (9, Fsync, Done),
    (10, SyncTree, Done),
    (11, ReadFile, ReadFileResult),
    (12, ListDir, ListResult),
    (13, ListMore, ListResult),
    (14, Unlink, ParentResult),
    (15, MakeDir, EntryResult),
    (16, RemoveDir, ParentResult),
    (17, RenamePath, RenameResult),
    (18, MakeLink, EntryResult),
    (19, MakeSymlink, EntryResult),
    (20, ReadLink, BytesResult),
    (21, MakeNode, EntryResult),
    (22, StatFs, StatFsResult),
    (23, AcquireLease, AttrsResult),
    (24, ReturnLease, Done),
    (25, GetXattr, BytesResult),
    (26, SetXattr, Done),
    (27, ListXattr, NamesResult),
    (28, RemoveXattr, Done),
    (29, RequireUnchanged, Done),
    (30, ReopenFile, OpenResult),
)
_OPERATIONS = {number: operation for number, operation, _ in _TABLE}
_NUMBERS = {operation: number for number, operation, _ in _TABLE}
RESULTS: dict[type[Record], type[Record]] = {operation: result for _, operation, result in _TABLE}


class CompoundFlag(IntFlag):
    """How a compound is run.

    ORDERED: after every earlier compound of this session that has this flag.
    CONTINUE: operations after a failed one are run all the same.
    """

    ORDERED = 1
    CONTINUE = 2


class Compound(Record, frozen=True):
    """Several operations, run one after the other; ``flags`` is of :class:`CompoundFlag`."""

    flags: int
    operations: tuple[Operation, ...]


def encode_compound(operations: Sequence[Operation], flags: int = 0) -> bytes:
    """The data of a compound request: flags, count, and each operation after its number."""
    parts = [struct.pack(">II", flags, len(operations))]
    for operation in operations:
        parts.append(_NUMBERS[type(operation)].to_bytes(1, "big"))
        encode_into(operation, parts)
    return b"".join(parts)


def decode_compound(data: bytes) -> Compound:
    """Read the data of a compound request.

    :raises MalformedPacket: it is not in form, has no or too many operations, or an unknown one.
    """
    reader = Reader(data)
    flags, count = reader.u32(), reader.u32()
    if not 0 < count <= MAX_OPERATIONS:
        raise MalformedPacket(f"a compound of {count} operations; {MAX_OPERATIONS} are allowed")
    operations = []
    for _ in range(count):
        number = reader.u8()
        if number not in _OPERATIONS:
            raise MalformedPacket(f"an operation of the unknown kind {number}")
        operations.append(decode_record(reader, _OPERATIONS[number]))
    reader.finish()
    return Compound(flags, tuple(operations))  # type: ignore[arg-type]  # of _OPERATIONS


def encode_results(results: Sequence[Result]) -> bytes:
    """The data of a compound's reply: count, and each result after an errno.

    Results that are :class:`NotRun` are left out at the end, and are errno 125 (ECANCELED) before
    it. ``b"".join`` copies data once.
    """
    parts = [struct.pack(">I", len(results))]
    for result in results:
        parts.extend(encode_result(result))
    return b"".join(parts)


def encode_result(result: Result) -> list[bytes]:
    """One result, in pieces."""
    if isinstance(result, NotRun):
        return [_CANCELLED]
    parts: list[bytes] = []
    if not isinstance(result, Failed):
        parts.append(_SUCCESS)
    encode_into(result, parts)
    return parts


def decode_results(operations: Sequence[Operation], data: bytes) -> list[Result]:
    """Read a compound's reply; one result for each of ``operations``.

    :raises MalformedPacket: it is not in form.
    """
    reader = Reader(data)
    count = reader.u32()
    if count > len(operations):
        raise MalformedPacket(f"{count} results of {len(operations)} operations")
    results: list[Result] = []
    for operation in operations[:count]:
        errno = reader.u32()
        if errno:
            message = reader.string()
            failed = Failed(errno, message)
            results.append(NotRun() if errno == _ECANCELED else failed)
        else:
            results.append(decode_record(reader, RESULTS[type(operation)]))  # type: ignore[arg-type]
    reader.finish()
    results.extend(NotRun() for _ in operations[count:])
    return results


_ECANCELED = 125
_SUCCESS = struct.pack(">I", 0)
_CANCELLED = struct.pack(">II", _ECANCELED, 0)
