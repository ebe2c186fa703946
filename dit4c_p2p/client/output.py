"""What commands print: tables and sentences for people, JSON for programs."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

_GAP = "  "
_MIN_WIDTH = 12


class CommandOutput:
    """Where a command's results go: standard output; notes go to standard error.

    :param form: ``text`` or ``json``.
    """

    def __init__(self, form: str, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        self.is_json = form == "json"
        self._out = out or sys.stdout
        self._notes = notes or sys.stderr

    def data(self, data: Any) -> None:
        """A result as JSON."""
        self.line(json.dumps(data, ensure_ascii=False, indent=2))

    def line(self, text: str) -> None:
        """A line of the result."""
        print(text, file=self._out, flush=True)

    def note(self, text: str) -> None:
        """A line for whoever sits there, which is no part of the result."""
        print(text, file=self._notes, flush=True)

    def table(self, rows: Sequence[Mapping[str, str]], none: str) -> None:
        """Rows with one heading each; the last column is cut at the terminal's edge.

        :param none: what is said if there are no rows.
        """
        if not rows:
            self.note(none)
            return
        names = list(rows[0])
        cells = [{name: name.upper() for name in names}, *rows]
        clean = [{name: printable_in_terminal(row[name]) for name in names} for row in cells]
        widths = {name: max(_terminal_width(row[name]) for row in clean) for name in names}
        room = self._room() - sum(widths[name] + len(_GAP) for name in names[:-1])
        for row in clean:
            before = [
                row[name] + " " * (widths[name] - _terminal_width(row[name])) for name in names[:-1]
            ]
            last = _cut_to_columns(row[names[-1]], max(room, _MIN_WIDTH))
            self.line(_GAP.join([*before, last]).rstrip())

    def _room(self) -> int:
        """Columns of the terminal; without one nothing is cut."""
        return shutil.get_terminal_size().columns if self._out.isatty() else sys.maxsize


def printable_in_terminal(text: str) -> str:
    """A text of somebody's without what would drive the terminal or turn the line around."""
    return "".join(
        char if char.isprintable() and unicodedata.category(char) != "Cf" else " " for char in text
    )


def local_time_text(text: str | None) -> str:
    """A time of the API's in this machine's zone."""
    if not text:
        return "never"
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"


def _terminal_width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    marks = sum(unicodedata.combining(char) != 0 for char in text)
    return len(text) + wide - marks


def _cut_to_columns(text: str, room: int) -> str:
    if _terminal_width(text) <= room:
        return text
    kept = text
    while kept and _terminal_width(kept) > room - 1:
        kept = kept[:-1]
    return kept + "…"
