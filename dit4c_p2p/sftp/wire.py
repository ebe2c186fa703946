"""The primitive types of SSH's wire (RFC 4251 section 5), and records put together of them.

A record is a :class:`Record` whose fields are annotated with the types below; :func:`encode_record`
and :func:`decode_record` go through the fields in the order of their declaration.
"""

import functools
import struct
import typing
from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from dit4c_p2p.errors import DitError

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")

U8 = Annotated[int, "u8"]
U32 = Annotated[int, "u32"]
U64 = Annotated[int, "u64"]
I64 = Annotated[int, "i64"]

# A list of records is refused above this many; no packet has room for more than one a byte.
MAX_LIST_ITEMS = 65536


class MalformedPacket(DitError):
    """What arrived is not a packet of the protocol; the session ends with it."""

    code = "sftp_malformed"


class Record(msgspec.Struct, frozen=True, gc=False):
    """Base of everything that crosses the wire: immutable, compared by value."""


R = TypeVar("R", bound=Record)


class Reader:
    """Takes values from the front of one packet.

    Every method raises :class:`MalformedPacket` if the packet ends too early.
    """

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._position = position
        self._end = len(data)

    def u8(self) -> int:
        """An unsigned byte."""
        position = self._advance(1)
        return self._data[position]

    def u32(self) -> int:
        """An unsigned 32-bit integer."""
        value: int = _U32.unpack_from(self._data, self._advance(4))[0]
        return value

    def u64(self) -> int:
        """An unsigned 64-bit integer."""
        value: int = _U64.unpack_from(self._data, self._advance(8))[0]
        return value

    def i64(self) -> int:
        """A signed 64-bit integer."""
        value: int = _I64.unpack_from(self._data, self._advance(8))[0]
        return value

    def string(self) -> bytes:
        """A string of bytes with its length before it."""
        length = self.u32()
        start = self._advance(length)
        return self._data[start : start + length]

    def view(self) -> memoryview:
        """The same as :meth:`string` without a copy; it keeps the whole packet alive."""
        length = self.u32()
        start = self._advance(length)
        return memoryview(self._data)[start : start + length]

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        """A structure of fixed size."""
        return form.unpack_from(self._data, self._advance(form.size))

    def rest(self) -> bytes:
        """Everything that is left."""
        start = self._advance(self._end - self._position)
        return self._data[start:]

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self._end - self._position

    def finish(self) -> None:
        """:raises MalformedPacket: something is left over."""
        if self._position != self._end:
            raise MalformedPacket(f"{self.left} bytes after the end of a packet's last field")

    def _advance(self, count: int) -> int:
        position = self._position
        if count > self._end - position:
            raise MalformedPacket("a packet ends in the middle of a field")
        self._position = position + count
        return position


def encode_wire_string(data: bytes | memoryview) -> bytes:
    """``data`` with its length before it."""
    return _U32.pack(len(data)) + data


Encoder = Callable[[Any, list[bytes]], None]
Decoder = Callable[[Reader], Any]


def encode_record(record: Record) -> bytes:
    """The fields of ``record``, one after the other.

    :raises struct.error: a value is out of its type's range; a fault of the caller.
    """
    parts: list[bytes] = []
    encode_into(record, parts)
    return b"".join(parts)


def encode_into(record: Record, parts: list[bytes]) -> None:
    """Append what :func:`encode_record` returns to ``parts``, in pieces."""
    for name, encode, _ in _wire_fields(type(record)):
        encode(getattr(record, name), parts)


def decode_record(reader: Reader, kind: type[R]) -> R:
    """Read one record of type ``kind``.

    :raises MalformedPacket: it is not there in full.
    """
    return kind(*[decode(reader) for _, _, decode in _wire_fields(kind)])


@functools.cache
def _wire_fields(kind: type[Record]) -> tuple[tuple[str, Encoder, Decoder], ...]:
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [field.name for field in msgspec.structs.fields(kind)]
    return tuple((name, *_wire_codec(hints[name])) for name in names)


def _wire_codec(hint: Any) -> tuple[Encoder, Decoder]:
    """How values of an annotated type are written and read."""
    if get_origin(hint) is Annotated:
        return _INTEGERS[get_args(hint)[1]]
    if hint is bool:
        return _encode_bool, _decode_bool
    if hint is bytes:
        return _encode_string, Reader.string
    if get_origin(hint) is list:
        return _list_codec(get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _encode_u8, _enum_decoder(hint)
    if isinstance(hint, type) and issubclass(hint, Record):
        form: struct.Struct | None = getattr(hint, "FORM", None)
        if form is not None:
            return _fixed_codec(hint, form)
        return encode_into, functools.partial(decode_record, kind=hint)
    raise TypeError(f"no wire form for {hint!r}")


def _encode_u8(value: int, parts: list[bytes]) -> None:
    parts.append(value.to_bytes(1, "big"))


def _encode_u32(value: int, parts: list[bytes]) -> None:
    parts.append(_U32.pack(value))


def _encode_u64(value: int, parts: list[bytes]) -> None:
    parts.append(_U64.pack(value))


def _encode_i64(value: int, parts: list[bytes]) -> None:
    parts.append(_I64.pack(value))


def _encode_bool(value: bool, parts: list[bytes]) -> None:
    parts.append(b"\1" if value else b"\0")


def _decode_bool(reader: Reader) -> bool:
    return reader.u8() != 0


def _encode_string(value: bytes | memoryview, parts: list[bytes]) -> None:
    parts.append(_U32.pack(len(value)))
    parts.append(value)  # type: ignore[arg-type]  # b"".join takes views


_INTEGERS: dict[str, tuple[Encoder, Decoder]] = {
    "u8": (_encode_u8, Reader.u8),
    "u32": (_encode_u32, Reader.u32),
    "u64": (_encode_u64, Reader.u64),
    "i64": (_encode_i64, Reader.i64),
}


def _enum_decoder(kind: type[IntEnum]) -> Decoder:
    def decode(reader: Reader) -> IntEnum:
        value = reader.u8()
        try:
            return kind(value)
        except ValueError:
            raise MalformedPacket(f"{value} is no {kind.__name__}") from None

    return decode


def _fixed_codec(kind: type[Record], form: struct.Struct) -> tuple[Encoder, Decoder]:
    def encode(value: Any, parts: list[bytes]) -> None:
        parts.append(form.pack(*msgspec.structs.astuple(value)))

    def decode(reader: Reader) -> Any:
        return kind(*reader.unpack(form))

    return encode, decode


def _list_codec(item: Any) -> tuple[Encoder, Decoder]:
    encode_item, decode_item = _wire_codec(item)

    def encode(values: list[Any], parts: list[bytes]) -> None:
        parts.append(_U32.pack(len(values)))
        for value in values:
            encode_item(value, parts)

    def decode(reader: Reader) -> list[Any]:
        count = reader.u32()
        if count > min(MAX_LIST_ITEMS, reader.left):
            raise MalformedPacket(f"a list of {count} items in {reader.left} bytes")
        return [decode_item(reader) for _ in range(count)]

    return encode, decode
