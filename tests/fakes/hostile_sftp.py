"""A file server that answers nonsense, where a test says so.

It speaks SFTP with the private extensions; a folder ``/private`` with one file is all that it has.
"""

import struct
from collections.abc import Callable
from typing import Any

import asyncssh

from dit4c_p2p.sftp import extensions, packets
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.compound import decode_compound, encode_results
from dit4c_p2p.sftp.constants import PacketType
from dit4c_p2p.sftp.framer import Framer
from dit4c_p2p.sftp.operations import FileAttrs
from dit4c_p2p.sftp.wire import encode_record, encode_wire_string

FOLDER = FileAttrs(1000, 0o040755, 2, 4096, 8, 1, 1, 1)
FILE = FileAttrs(1001, 0o100644, 1, 100, 8, 1, 1, 1)
NO_GRANT = extensions.Grant()

HELLO = extensions.HelloReply(1, 4000, 5000, 300_000, 256_000, 512, 1000, 1000, 7)


def usual_result(operation: Any) -> Any:
    """What an honest server says."""
    match operation:
        case ops.GetAttr(path):
            if path in (b"/private/file", b"/private"):
                return ops.AttrsResult(FILE if path.endswith(b"file") else FOLDER, NO_GRANT)
            return ops.Failed(2)
        case ops.OpenFile():
            return ops.OpenResult(b"h", FILE, NO_GRANT, False, FOLDER)
        case ops.ListDir():
            return ops.ListResult(FOLDER, NO_GRANT, [ops.DirEntry(b"file", FILE)], b"")
        case ops.ReadLink():
            return ops.BytesResult(b"target")
        case ops.ReadData():
            return ops.DataResult(b"x" * min(operation.length, 100), True)
        case ops.ReadFile():
            return ops.ReadFileResult(FILE, NO_GRANT, True, b"x" * 100)
    return ops.Failed(1)


def packet(kind: int, number: int, body: bytes = b"") -> bytes:
    """One response."""
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


def reply(number: int, results: list[Any]) -> bytes:
    """A compound's reply."""
    return packet(PacketType.EXTENDED_REPLY, number, encode_results(results))


class HostileServer(asyncssh.SSHServer):
    """``lie(number, request)`` returns the bytes to send; None: what an honest server sends."""

    def __init__(self, lie: Callable[[int, Any], bytes | None]) -> None:
        self._lie = lie

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> "_Session":
        return _Session(self._lie)


class _Session(asyncssh.SSHServerSession[bytes]):
    def __init__(self, lie: Callable[[int, Any], bytes | None]) -> None:
        self._lie = lie
        self._framer = Framer()
        self._begun = False

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def data_received(self, data: bytes, datatype: Any) -> None:
        for one in self._framer.feed(data):
            if self._begun:
                self._answer(*packets.decode_request(one))
            else:
                self._begun = True
                names = b"".join(map(encode_wire_string, sum(extensions.PRIVATE_EXTENSIONS, ())))
                body = struct.pack(">BI", PacketType.VERSION, 3) + names
                self._channel.write(struct.pack(">I", len(body)) + body)

    def _answer(self, number: int, request: Any) -> None:
        lie = self._lie(number, request)
        self._channel.write(self._honest(number, request) if lie is None else lie)

    def _honest(self, number: int, request: Any) -> bytes:
        match request:
            case packets.Extended(extensions.HELLO):
                return packet(PacketType.EXTENDED_REPLY, number, encode_record(HELLO))
            case packets.Extended(extensions.COMPOUND, data):
                operations = decode_compound(data).operations
                return reply(number, [usual_result(one) for one in operations])
            case packets.Read():
                return packet(
                    PacketType.DATA, number, encode_wire_string(b"x" * min(request.length, 100))
                )
        return packet(
            PacketType.STATUS,
            number,
            struct.pack(">I", 0) + encode_wire_string(b"") + encode_wire_string(b""),
        )
