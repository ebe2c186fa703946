"""Our private extensions of SFTP: hello and leases; ``compound.py`` has the third.

docs/protocol.md says how they are used. Three names, each an EXTENDED request; the server announces
them in VERSION with the version "1":

| name | request | reply |
|---|---|---|
| ``hello@dit4c`` | :class:`Hello` | EXTENDED_REPLY with :class:`HelloReply` |
| ``compound@dit4c`` | operations | EXTENDED_REPLY with their results |
| ``renew@dit4c`` | nothing | STATUS OK |

After hello every STATUS that is an error carries Linux's errno, a ``uint32`` after the language
tag, and the server may send EXTENDED_REPLY packets of its own accord with the request id
:data:`NOTICE_ID`, which hold a :class:`Notice`.
"""

import struct
from enum import IntEnum
from typing import ClassVar

from dit4c_p2p.sftp.wire import I64, U8, U32, U64, Reader, Record, decode_record, encode_record

HELLO = b"hello@dit4c"
COMPOUND = b"compound@dit4c"
RENEW = b"renew@dit4c"
PRIVATE_EXTENSIONS: tuple[tuple[bytes, bytes], ...] = (
    (HELLO, b"1"),
    (COMPOUND, b"1"),
    (RENEW, b"1"),
)
PRIVATE_VERSION = 2
# From this version on the server knows mounts again: RequireUnchanged, ReopenFile.
MOUNTS_VERSION = 2

# No client uses this id for a request of its own (clients count up from 0 and skip it).
NOTICE_ID = 0xFFFFFFFF

# A lease ends at its holder so long after it *sent* the last request that was answered, and at the
# server so long after it received the last request: the holder stops first, whatever the delay.
HOLDER_LEASE_S = 4.0
SERVER_LEASE_S = 5.0
# A recalled lease that is not given back is broken after this; its holder has stopped before,
# because an answer that comes after the recall does not renew the lease that is recalled.
RECALL_S = 5.0

# A mount that was away, or has lost a lease without giving it back, has so long to send what it
# had written before: until then its writes are refused where somebody else has changed the file.
REPLAY_S = 60.0
# The errno of that refusal (EREMCHG, which no file system call returns).
CHANGED_BY_OTHERS = 78
# In the place of a file's id: every lease of the session is given back.
ALL_LEASES = 0

# The most operations of one compound.
MAX_OPERATIONS = 512


class LeaseKind(IntEnum):
    """What a lease allows its holder; a WRITE lease is exclusive."""

    NONE = 0
    READ = 1
    WRITE = 2


class Hello(Record, frozen=True):
    """A client knows these extensions; sent once, before any other request but VERSION's.

    :ivar mount: drawn by the mount when it starts, the same in all its sessions; 0: none.
    """

    version: U32 = PRIVATE_VERSION
    mount: U64 = 0


class HelloReply(Record, frozen=True):
    """The server's terms. ``server_id`` is drawn anew whenever the server starts; ``now_ns`` is
    what its clock says, since 1970.
    """

    version: U32
    holder_lease_ms: U32
    server_lease_ms: U32
    max_packet_bytes: U32
    max_data_bytes: U32
    max_operations: U32
    max_handles: U32
    max_leases: U32
    server_id: U64
    now_ns: I64 = 0


class Grant(Record, frozen=True):
    """The lease that the session now has on the file or directory of an operation.

    :ivar seq: of this server, counted up at each grant. A recall of the same file with a ``seq``
        not below this one is meant for this grant, though it may have arrived first.
    """

    FORM: ClassVar[struct.Struct] = struct.Struct(">BQ")

    kind: U8 = LeaseKind.NONE
    seq: U64 = 0


# ---- what the server says of its own accord


class NoticeKind(IntEnum):
    """What a :class:`Notice` says of its leases.

    RECALL: give them back down to ``keep``, within 4 s of the last request that was sent before.
    BROKEN: they are gone.
    """

    RECALL = 1
    BROKEN = 2


class RecalledLease(Record, frozen=True):
    """One lease: what may be kept of it, and the newest grant that is meant."""

    FORM: ClassVar[struct.Struct] = struct.Struct(">QQB")

    file_id: U64
    seq: U64
    keep: U8


class Notice(Record, frozen=True):
    """A message of the server with the request id :data:`NOTICE_ID`."""

    kind: NoticeKind
    leases: list[RecalledLease]


def encode_notice(notice: Notice) -> bytes:
    """The data of the EXTENDED_REPLY that a notice is sent in."""
    return encode_record(notice)


def decode_notice(data: bytes) -> Notice:
    """Read a notice.

    :raises MalformedPacket: it is not in form.
    """
    reader = Reader(data)
    notice = decode_record(reader, Notice)
    reader.finish()
    return notice


def decode_hello(data: bytes) -> Hello:
    """Read hello's data; a later version may add fields.

    :raises MalformedPacket: it is too short.
    """
    return decode_record(Reader(_filled_up(data, _HELLO_BYTES, 8)), Hello)


def decode_hello_reply(data: bytes) -> HelloReply:
    """Read the answer to hello; a later version may add fields.

    :raises MalformedPacket: it is too short.
    """
    return decode_record(Reader(_filled_up(data, _REPLY_BYTES, 8)), HelloReply)


# What version 1 sent.
_HELLO_BYTES, _REPLY_BYTES = 4, 40


def _filled_up(data: bytes, first: int, more: int) -> bytes:
    """A record of version 1 with the fields that it did not have, which are 0."""
    return data + bytes(more) if len(data) == first else data
