"""Every request and response of SFTP version 3 (draft-ietf-secsh-filexfer-02).

A packet is its type's byte, a 32-bit request id (INIT and VERSION: the version instead), and its
fields. ``encode(id, packet)`` returns it with the length before it, ready to be sent;
:func:`decode_request` and :func:`decode_response` take one as a :class:`~sftp.framer.Framer`
returns it. Paths and names are bytes.
"""

import struct

from dit4c_p2p.sftp.attrs import Attrs, read_attrs
from dit4c_p2p.sftp.constants import MAX_HANDLE_BYTES, PacketType
from dit4c_p2p.sftp.wire import MalformedPacket, Reader, Record, encode_wire_string

_HEAD = struct.Struct(">IBI")
_U32 = struct.Struct(">I")
_MAX_EXTENSIONS = 64
_MAX_NAMES = 65536


# ---- requests


class Init(Record, frozen=True):
    """A client's first packet; ``extensions`` are pairs of name and data."""

    version: int
    extensions: tuple[tuple[bytes, bytes], ...] = ()


class Open(Record, frozen=True):
    """Open a file; ``flags`` is of :class:`OpenFlag`. Answered by HANDLE."""

    path: bytes
    flags: int
    attrs: Attrs


class Close(Record, frozen=True):
    """Close a handle of a file or a directory."""

    handle: bytes


class Read(Record, frozen=True):
    """Answered by DATA, of ``length`` bytes at the most; at the end of the file by EOF."""

    handle: bytes
    offset: int
    length: int


class Write(Record, frozen=True):
    """Write all of ``data``."""

    handle: bytes
    offset: int
    data: bytes | memoryview


class Lstat(Record, frozen=True):
    """Answered by ATTRS; a link is not followed."""

    path: bytes


class Fstat(Record, frozen=True):
    """Answered by ATTRS."""

    handle: bytes


class Setstat(Record, frozen=True):
    """Change attributes; a link is followed."""

    path: bytes
    attrs: Attrs


class Fsetstat(Record, frozen=True):
    """Change attributes of an open file."""

    handle: bytes
    attrs: Attrs


class Opendir(Record, frozen=True):
    """Answered by HANDLE."""

    path: bytes


class Readdir(Record, frozen=True):
    """Answered by NAME with some entries, after the last by EOF."""

    handle: bytes


class Remove(Record, frozen=True):
    """Remove a file that is no directory."""

    path: bytes


class Mkdir(Record, frozen=True):
    """Make a directory."""

    path: bytes
    attrs: Attrs


class Rmdir(Record, frozen=True):
    """Remove an empty directory."""

    path: bytes


class Realpath(Record, frozen=True):
    """Answered by NAME with one name: the path in its canonical form."""

    path: bytes


class Stat(Record, frozen=True):
    """Answered by ATTRS; a link is followed."""

    path: bytes


class Rename(Record, frozen=True):
    """Rename; fails if ``new`` is there."""

    old: bytes
    new: bytes


class Readlink(Record, frozen=True):
    """Answered by NAME with one name: the link's target."""

    path: bytes


class Symlink(Record, frozen=True):
    """Make a symbolic link. On the wire the target comes first, as OpenSSH has it."""

    target: bytes
    path: bytes


class Extended(Record, frozen=True):
    """A request by name, such as ``fsync@openssh.com``; ``data`` is its own."""

    name: bytes
    data: bytes


Request = (
    Open | Close | Read | Write | Lstat | Fstat | Setstat | Fsetstat | Opendir | Readdir | Remove
    | Mkdir | Rmdir | Realpath | Stat | Rename | Readlink | Symlink | Extended
)  # fmt: skip


# ---- responses


class Version(Record, frozen=True):
    """A server's first packet."""

    version: int
    extensions: tuple[tuple[bytes, bytes], ...] = ()


class Status(Record, frozen=True):
    """How a request ended. ``errno`` is Linux's number, only for clients that said hello, or 0."""

    code: int
    message: str = ""
    errno: int = 0


class Handle(Record, frozen=True):
    """A handle for further requests, of 256 bytes at the most."""

    handle: bytes


class Data(Record, frozen=True):
    """What was read."""

    data: bytes | memoryview


class NameEntry(Record, frozen=True):
    """One entry of NAME."""

    name: bytes
    long_name: bytes
    attrs: Attrs


class Name(Record, frozen=True):
    """Entries of a directory, or one path."""

    entries: tuple[NameEntry, ...]


class AttrsReply(Record, frozen=True):
    """Attributes of a file."""

    attrs: Attrs


class ExtendedReply(Record, frozen=True):
    """The answer to an extended request that has one of its own form."""

    data: bytes


Response = Status | Handle | Data | Name | AttrsReply | ExtendedReply


# ---- encoding


def encode_packet(kind: int, request_id: int, *parts: bytes | memoryview) -> bytes:
    """One packet of any kind, its length before it."""
    length = 5 + sum(map(len, parts))
    return b"".join((_HEAD.pack(length, kind, request_id), *parts))


def encode_init(init: Init) -> bytes:
    """A client's first packet."""
    return encode_packet(PacketType.INIT, init.version, *_encode_extension_pairs(init.extensions))


def encode_version(version: Version) -> bytes:
    """A server's first packet."""
    return encode_packet(
        PacketType.VERSION, version.version, *_encode_extension_pairs(version.extensions)
    )


def _encode_extension_pairs(extensions: tuple[tuple[bytes, bytes], ...]) -> list[bytes]:
    return [encode_wire_string(part) for pair in extensions for part in pair]


def encode_request(request_id: int, request: Request) -> bytes:
    """``request`` as a packet."""
    match request:
        case Read(handle, offset, length):
            body = encode_wire_string(handle) + struct.pack(">QI", offset, length)
            return encode_packet(PacketType.READ, request_id, body)
        case Write(handle, offset, data):
            head = encode_wire_string(handle) + struct.pack(">QI", offset, len(data))
            return encode_packet(PacketType.WRITE, request_id, head, data)
        case Open(path, flags, attrs):
            body = encode_wire_string(path) + _U32.pack(flags) + attrs.encode()
            return encode_packet(PacketType.OPEN, request_id, body)
        case Setstat(path, attrs) | Mkdir(path, attrs):
            return encode_packet(
                _TYPES[type(request)], request_id, encode_wire_string(path), attrs.encode()
            )
        case Fsetstat(handle, attrs):
            return encode_packet(
                PacketType.FSETSTAT, request_id, encode_wire_string(handle), attrs.encode()
            )
        case Rename(first, second) | Symlink(first, second):
            return encode_packet(
                _TYPES[type(request)],
                request_id,
                encode_wire_string(first),
                encode_wire_string(second),
            )
        case Extended(name, data):
            return encode_packet(PacketType.EXTENDED, request_id, encode_wire_string(name), data)
        case Close(only) | Fstat(only) | Readdir(only):
            return encode_packet(_TYPES[type(request)], request_id, encode_wire_string(only))
    return encode_packet(_TYPES[type(request)], request_id, encode_wire_string(request.path))


def encode_response(request_id: int, response: Response) -> bytes:
    """``response`` as a packet."""
    match response:
        case Data(data):
            return encode_packet(PacketType.DATA, request_id, _U32.pack(len(data)), data)
        case Status(code, message, errno):
            tail = _U32.pack(errno) if errno else b""
            return encode_packet(
                *(PacketType.STATUS, request_id, _U32.pack(code)),
                *(encode_wire_string(message.encode()), encode_wire_string(b"en"), tail),
            )
        case Handle(handle):
            return encode_packet(PacketType.HANDLE, request_id, encode_wire_string(handle))
        case AttrsReply(attrs):
            return encode_packet(PacketType.ATTRS, request_id, attrs.encode())
        case ExtendedReply(body):
            return encode_packet(PacketType.EXTENDED_REPLY, request_id, body)
        case Name(entries):
            parts = [_U32.pack(len(entries))]
            for entry in entries:
                parts += (
                    encode_wire_string(entry.name),
                    encode_wire_string(entry.long_name),
                    entry.attrs.encode(),
                )
            return encode_packet(PacketType.NAME, request_id, *parts)


# ---- decoding


def decode_init(data: bytes) -> Init:
    """Read a client's first packet.

    :raises MalformedPacket: it is another one.
    """
    return Init(*_first_packet_fields(data, PacketType.INIT))


def decode_version(data: bytes) -> Version:
    """Read a server's first packet.

    :raises MalformedPacket: it is another one.
    """
    return Version(*_first_packet_fields(data, PacketType.VERSION))


def _first_packet_fields(
    data: bytes, kind: PacketType
) -> tuple[int, tuple[tuple[bytes, bytes], ...]]:
    reader = Reader(data)
    if reader.u8() != kind:
        raise MalformedPacket(f"the first packet is of type {data[0]}, not {kind.name}")
    version = reader.u32()
    pairs: list[tuple[bytes, bytes]] = []
    while reader.left:
        if len(pairs) == _MAX_EXTENSIONS:
            raise MalformedPacket(f"more than {_MAX_EXTENSIONS} extensions")
        pairs.append((reader.string(), reader.string()))
    return version, tuple(pairs)


class UnknownRequest(MalformedPacket):
    """A request of a type that version 3 doesn't have; it is answered with OP_UNSUPPORTED."""

    def __init__(self, request_id: int, kind: int) -> None:
        super().__init__(f"a request of type {kind}")
        self.request_id = request_id


def decode_request(data: bytes) -> tuple[int, Request]:
    """Read a request; its id comes first. Bytes after the last field are passed over: rclone sends
    some after WRITE's data, and OpenSSH's server takes them.

    :raises UnknownRequest: of an unknown type; the session goes on.
    :raises MalformedPacket: fields are missing or too long.
    """
    reader = Reader(data, 5)
    if len(data) < 5:
        raise MalformedPacket("a packet without a request id")
    kind, request_id = data[0], int.from_bytes(data[1:5], "big")
    return request_id, _read_request(kind, request_id, reader)


def _read_request(kind: int, request_id: int, reader: Reader) -> Request:
    match kind:
        case PacketType.READ:
            return Read(_read_handle(reader), reader.u64(), reader.u32())
        case PacketType.WRITE:
            return Write(_read_handle(reader), reader.u64(), reader.view())
        case PacketType.OPEN:
            return Open(reader.string(), reader.u32(), read_attrs(reader))
        case PacketType.SETSTAT:
            return Setstat(reader.string(), read_attrs(reader))
        case PacketType.MKDIR:
            return Mkdir(reader.string(), read_attrs(reader))
        case PacketType.FSETSTAT:
            return Fsetstat(_read_handle(reader), read_attrs(reader))
        case PacketType.RENAME:
            return Rename(reader.string(), reader.string())
        case PacketType.SYMLINK:
            return Symlink(reader.string(), reader.string())
        case PacketType.EXTENDED:
            return Extended(reader.string(), reader.rest())
    if kind in _BY_HANDLE:
        return _BY_HANDLE[kind](_read_handle(reader))
    if kind in _BY_PATH:
        return _BY_PATH[kind](reader.string())
    raise UnknownRequest(request_id, kind)


def decode_response(data: bytes) -> tuple[int, Response]:
    """Read a response; its request id comes first.

    :raises MalformedPacket: of an unknown type, or not in form.
    """
    reader = Reader(data, 5)
    if len(data) < 5:
        raise MalformedPacket("a packet without a request id")
    kind, request_id = data[0], int.from_bytes(data[1:5], "big")
    match kind:
        case PacketType.DATA:
            return request_id, Data(reader.view())
        case PacketType.STATUS:
            return request_id, _read_status(reader)
        case PacketType.HANDLE:
            return request_id, Handle(_read_handle(reader))
        case PacketType.ATTRS:
            return request_id, AttrsReply(read_attrs(reader))
        case PacketType.EXTENDED_REPLY:
            return request_id, ExtendedReply(reader.rest())
        case PacketType.NAME:
            count = reader.u32()
            if count > min(_MAX_NAMES, reader.left):
                raise MalformedPacket(f"{count} names in {reader.left} bytes")
            entries = [
                NameEntry(reader.string(), reader.string(), read_attrs(reader))
                for _ in range(count)
            ]
            return request_id, Name(tuple(entries))
    raise MalformedPacket(f"a response of type {kind}")


def _read_status(reader: Reader) -> Status:
    """Version 2 and some servers leave the message out; our own server may add an errno."""
    code = reader.u32()
    message = reader.string() if reader.left else b""
    if reader.left:
        reader.string()
    errno = reader.u32() if reader.left >= 4 else 0
    return Status(code, message[:1024].decode(errors="replace"), errno)


def _read_handle(reader: Reader) -> bytes:
    handle = reader.string()
    if len(handle) > MAX_HANDLE_BYTES:
        raise MalformedPacket(f"a handle of {len(handle)} bytes")
    return handle


_BY_HANDLE: dict[int, type[Close] | type[Fstat] | type[Readdir]] = {
    PacketType.CLOSE: Close,
    PacketType.FSTAT: Fstat,
    PacketType.READDIR: Readdir,
}
_BY_PATH: dict[
    int,
    type[Lstat]
    | type[Opendir]
    | type[Remove]
    | type[Rmdir]
    | type[Realpath]
    | type[Stat]
    | type[Readlink],
] = {
    PacketType.LSTAT: Lstat,
    PacketType.OPENDIR: Opendir,
    PacketType.REMOVE: Remove,
    PacketType.RMDIR: Rmdir,
    PacketType.REALPATH: Realpath,
    PacketType.STAT: Stat,
    PacketType.READLINK: Readlink,
}
_TYPES: dict[type, PacketType] = {
    **{kind: PacketType(number) for number, kind in _BY_HANDLE.items()},
    **{kind: PacketType(number) for number, kind in _BY_PATH.items()},
    Setstat: PacketType.SETSTAT,
    Mkdir: PacketType.MKDIR,
    Rename: PacketType.RENAME,
    Symlink: PacketType.SYMLINK,
}
