"""Records to JSON and back. Unknown fields and tags are refused, and so is anything too large."""

from typing import Any, TypeVar

import msgspec

from dit4c_p2p.errors import DitError

T = TypeVar("T")

# The largest legitimate message carries a log tail of 64 KiB; the rest are under 4 KiB.
MAX_MESSAGE_BYTES = 256 * 1024

_encoder = msgspec.json.Encoder(order="deterministic")


class InvalidMessage(DitError):
    """What arrived is not a record of the expected type."""

    code = "invalid_message"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every message: immutable, named fields, nothing unknown let through."""


def encode(record: Any) -> bytes:
    """JSON in UTF-8 on one line, keys in a fixed order, so that it can be signed."""
    return _encoder.encode(record)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read one record of type ``kind``, which may be a union of tagged records.

    :raises InvalidMessage: too large, nested too deeply, not JSON, a field missing, unknown or of a
        wrong type.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(f"a message of {len(data)} bytes is over {MAX_MESSAGE_BYTES}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(f"not a valid message: {error}") from error
