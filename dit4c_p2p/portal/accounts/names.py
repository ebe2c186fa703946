"""Checks of names that people choose: any script, no deceptive characters. Pure."""

import re
import unicodedata

from dit4c_p2p.portal.errors import BadRequest

MAX_NAME_CHARS = 100
# Control, format (bidi overrides, invisible ones), surrogates, private use, not assigned,
# separators of lines and paragraphs.
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Persian and Indic scripts, and emoji of several parts, are written with these two.
_JOINERS = "\u200c\u200d"
# Composing makes text shorter, three letters to one at the most in any script; how long it takes
# grows with the square of the marks, and everybody else waits for it.
_MAX_PARTS = 4
# More marks on one letter than any script has; as many as one likes would cover other lines.
_MAX_MARKS = 8
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_MAX_ID_CHARS = 40
_OTHERS = re.compile(r"[^a-z0-9]+", re.ASCII)


def composed_name(text: str) -> str:
    """Text in the form (NFC) that names are kept in: what is looked for, is looked for so."""
    return unicodedata.normalize("NFC", text)


def checked_name(
    text: str,
    *,
    field: str = "name",
    required: bool = False,
    max_chars: int = MAX_NAME_CHARS,
) -> str:
    """A name in Unicode's composed form (NFC), with single spaces.

    :param field: what the error says is wrong.
    :param required: whether it may not be empty.
    :raises BadRequest: too long, with characters that nobody can see or that turn the text around
        them, or without any that can be seen.
    """
    single = " ".join(text.split())
    name = composed_name(single) if len(single) <= _MAX_PARTS * max_chars else single
    if len(name) > max_chars:
        raise BadRequest(f"the {field} may have {max_chars} characters at most", field=field)
    if any(unicodedata.category(char) in _REFUSED and char not in _JOINERS for char in name):
        raise BadRequest(
            f"the {field} may have no control characters and none that turn or hide others",
            field=field,
        )
    if _marks_in_a_row_of_name(name) > _MAX_MARKS:
        raise BadRequest(f"the {field} has too many marks on one letter", field=field)
    visible = any(unicodedata.category(char)[0] in "LNPS" for char in name)
    if (name or required) and not visible:
        raise BadRequest(f"the {field} needs at least one letter", field=field)
    return name


def checked_id(text: str, *, of: str = "a person", field: str = "id") -> str:
    """Check the id of a person or of a tool.

    :raises BadRequest: the text is no id.
    """
    if not _ID.fullmatch(text):
        raise BadRequest(
            f"{text[:60]!r} is not the {field} of {of}",
            field=field,
            hint="it has 1 to 40 of a-z, 0-9 and -, and no - at its ends",
        )
    return text


def id_from(name: str, number: int = 1, *, otherwise: str = "person") -> str:
    """An id made from a name: ``Zoë O’Neil`` becomes ``zoe-oneil``, a name without Latin letters
    ``otherwise``.

    :param number: of the try; from 2 on it is put at the end.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = _OTHERS.sub("-", plain).strip("-") or otherwise
    tail = f"-{number}" if number > 1 else ""
    return base[: _MAX_ID_CHARS - len(tail)].rstrip("-") + tail


def _marks_in_a_row_of_name(text: str) -> int:
    most = here = 0
    for char in text:
        here = here + 1 if unicodedata.category(char)[0] == "M" else 0
        most = max(most, here)
    return most
