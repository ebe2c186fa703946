"""Kinds of values of settings that are not specific to this program: numbers, texts, lists."""

import contextlib
import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dit4c_p2p.errors import ConfigError

T = TypeVar("T")

_FLAGS: dict[str, object] = {"true": True, "false": False}
_SHOWN_CHARS = 60


class WrongValue(ConfigError):
    """A value has the wrong form. The message continues after the setting's name and a colon."""


@dataclass(frozen=True)
class Value(Generic[T]):
    """One kind of value.

    :ivar form: what it looks like, for the example files; empty where the value itself says it.
    :ivar read: from what TOML has; raises :class:`WrongValue`.
    :ivar write: its TOML text.
    :ivar parse: from the text of an environment variable to what TOML would have had.
    """

    form: str
    read: Callable[[object], T]
    write: Callable[[T], str]
    parse: Callable[[str], object] = str


def integer(least: int, most: int) -> Value[int]:
    """Return the kind of whole numbers within limits."""

    def read(raw: object) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise WrongValue(f"{shown_value(raw)} is not a whole number", hint=f"write {least}")
        if not least <= raw <= most:
            raise WrongValue(f"{raw} is out of range", hint=f"give {least} to {most}")
        return raw

    return Value("", read, str, _number_text)


def number(least: float, most: float) -> Value[float]:
    """Return the kind of numbers within limits, with or without a fraction."""

    def read(raw: object) -> float:
        if not isinstance(raw, int | float) or isinstance(raw, bool):
            raise WrongValue(f"{shown_value(raw)} is not a number", hint=f"write {least:g}")
        if not least <= raw <= most:
            raise WrongValue(f"{raw:g} is out of range", hint=f"give {least:g} to {most:g}")
        return float(raw)

    return Value("", read, lambda value: f"{value:g}", _number_text)


def choice(*words: str) -> Value[str]:
    """Return the kind of values that are one of the given words."""

    def read(raw: object) -> str:
        if raw not in words:
            raise WrongValue(
                f"{shown_value(raw)} is none of {', '.join(words)}", hint=close_word(raw, words)
            )
        return str(raw)

    return Value(f"One of {', '.join(words)}.", read, quoted_value)


def list_of(item: Value[T]) -> Value[tuple[T, ...]]:
    """Return the kind of lists; in the environment, commas separate the items."""

    def read(raw: object) -> tuple[T, ...]:
        if not isinstance(raw, list):
            raise WrongValue(
                f"{shown_value(raw)} is not a list", hint=f"write [{shown_value(raw)}]"
            )
        return tuple(item.read(one) for one in raw)

    def write(values: Sequence[T]) -> str:
        return f"[{', '.join(item.write(value) for value in values)}]"

    def parse(text: str) -> object:
        return [item.parse(part.strip()) for part in text.split(",") if part.strip()]

    return Value(item.form, read, write, parse)


def shown_value(raw: object) -> str:
    """Return the written value, shortened to one line."""
    if isinstance(raw, str | bool | int | float | list):
        text = json.dumps(raw, ensure_ascii=False, default=str)
    else:
        text = "a table" if isinstance(raw, dict) else str(raw)
    text = printable_value(text)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def printable_value(text: str) -> str:
    """Return the text without line breaks and terminal control characters."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def close_word(word: object, known: Sequence[str]) -> str:
    """Return ``did you mean …?``, or an empty text if no known word is close."""
    lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(str(word).lower(), lower, n=1, cutoff=0.6)
    return f"did you mean {lower[found[0]]}?" if found else ""


def string_value(raw: object) -> str:
    """What TOML has, if it is a text."""
    if not isinstance(raw, str):
        raise WrongValue(f"{shown_value(raw)} is not a text", hint=f'write "{shown_value(raw)}"')
    return raw


def line(raw: object) -> str:
    """A text of one line with something on it."""
    value = string_value(raw)
    if not value.strip() or not value.isprintable():
        raise WrongValue(
            f"{shown_value(raw)} is not one line of text", hint="write at least a word"
        )
    return value


def _flag_value(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise WrongValue(
            f"{shown_value(raw)} is neither true nor false", hint="write it without quotes"
        )
    return raw


def _number_text(text: str) -> object:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def quoted_value(value: object) -> str:
    """A TOML text."""
    # A JSON string is a TOML basic string.
    return json.dumps(str(value), ensure_ascii=False)


text: Value[str] = Value("", line, quoted_value)
flag: Value[bool] = Value(
    "", _flag_value, lambda value: str(value).lower(), lambda text: _FLAGS.get(text, text)
)
