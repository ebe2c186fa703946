"""Encode records as JSON and decode them, between peers that may be of different releases.

Content that only a newer release knows is ignored, as in TLS and JOSE, and never ends a connection:

- An unknown field is ignored. A release may therefore add a field with a default; a field that the
  receiver must obey needs a new kind of record instead.
- A record of an unknown kind, or with an unknown word (such as a new state), raises
  :class:`UnknownKind`; the receiver answers or skips it, as the protocol's module says. A list with
  an unknown word is skipped as a whole: a release sends a new word only when the one before reads
  it.

Everything else that differs from the declaration is refused, and so is everything too large.
"""

import types
from enum import Enum
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from dit4c_p2p.errors import DitError

T = TypeVar("T")

# The largest legitimate message carries a log tail of 64 KiB; the rest are under 4 KiB.
MAX_MESSAGE_BYTES = 256 * 1024
_MAX_WORD_CHARS = 60


def _as_text(value: Any) -> str:
    """A kind of str that msgspec does not know, such as a checked digest, is text."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} is not for a message")


_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=_as_text)


class InvalidMessage(DitError):
    """The message is not a record of the expected type."""

    code = "invalid_message"


class UnknownKind(InvalidMessage):
    """The message may be a record of a newer release: its kind or a word in it is unknown here."""

    code = "unknown_kind"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every message: immutable, named fields; further ones are ignored."""


class Strict(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of records in which an unknown field is refused.

    It is for requests of people and programs, where an ignored field could have been a limit.
    """


def encode(record: Any) -> bytes:
    """Return JSON in UTF-8 on one line, with keys in a fixed order, so that it can be signed."""
    return _encoder.encode(record)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read one record of type ``kind``, which may be a union of tagged records.

    :raises UnknownKind: the record may be one of a newer release.
    :raises InvalidMessage: too large, nested too deeply, not JSON, a field missing or of a wrong
        type, or unknown to a :class:`Strict` record.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(f"a message of {len(data)} bytes is over {MAX_MESSAGE_BYTES}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and (word := _unknown_part_in(data, kind)):
            raise UnknownKind(
                f"a message of a kind that is not known here: {word[:_MAX_WORD_CHARS]!r}",
                hint="is the other end of a newer release?",
            ) from None
        raise InvalidMessage(f"not a valid message: {error}") from error


def _unknown_part_in(data: bytes | str, kind: Any) -> str:
    """The tag or the word that ``kind`` has no place for; empty if it is another thing."""
    try:
        return _unknown_word(msgspec.json.decode(data), kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _unknown_word(value: Any, kind: Any) -> str:
    """The same in what was read."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _unknown_of(value, parts)
    if origin is list and isinstance(value, list):
        return next(filter(None, (_unknown_word(item, parts[0]) for item in value)), "")
    if origin is Literal:
        return value if isinstance(value, str) and value not in parts else ""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value if isinstance(value, str) and value not in [one.value for one in kind] else ""
    if isinstance(kind, type) and issubclass(kind, Record):
        return _unknown_of(value, (kind,))
    return ""


def _unknown_of(value: Any, kinds: tuple[Any, ...]) -> str:
    """The same in what is of one of several kinds, told apart by their tags."""
    if not isinstance(value, dict):
        others = (one for one in kinds if not _is_record(one))
        return next(filter(None, (_unknown_word(value, one) for one in others)), "")
    records = {one.__struct_config__.tag: one for one in kinds if _is_record(one)}
    tag = value.get("type") if None not in records else None
    if tag is not None and not isinstance(tag, str):
        return ""
    if tag in records:
        fields = ((each.encode_name, each.type) for each in msgspec.structs.fields(records[tag]))
        inner = (_unknown_word(value[name], kind) for name, kind in fields if name in value)
        return next(filter(None, inner), "")
    return tag or "" if records else ""


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Record)
