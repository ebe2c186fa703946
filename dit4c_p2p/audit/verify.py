"""Verification of an audit log's chain of hashes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dit4c_p2p.audit.line import ROTATED, SHORTENED, AuditBroken, Place, audit_line_hash, read


@dataclass(frozen=True)
class AuditVerdict:
    """Result of verifying an unbroken log.

    ``first``: the number of its first line; above 1 if the chain began in a file that is not here.
    ``follows``: the hash of the line before that one. ``lines``: how many there are. ``newest``:
    the hash of the newest. ``expected``: the number of the line whose hash was expected; 0 if none
    was, or if it is ``follows``.
    """

    first: int
    follows: str
    lines: int
    newest: str
    expected: int = 0


def verify(*paths: Path, expect: str = "") -> AuditVerdict:
    """Read a whole log, of one file or of several in any order, and check its chain.

    :param expect: a hash that was the newest once and was kept elsewhere: lines that were taken
        away from the log's end show by nothing else.
    :raises AuditBroken: with the number of the first line that is wrong; or no line has ``expect``.
    :raises OSError: a file can't be read.
    """
    start: Place | None = None
    place, before, expected = Place(), "", 0
    for path in sorted(paths, key=_first_line_number):
        for number, line in enumerate(_log_lines(path), 1):
            found = read(line, path, f"line {number}")
            goes_on = (found.number, found.previous) == (place.count + 1, place.newest)
            if start is None and not goes_on and found.what in (ROTATED, SHORTENED):
                place = Place(found.number - 1, found.previous)
            elif not goes_on:
                raise _broken_chain(path, number, before)
            start = start or place
            place = Place(found.number, audit_line_hash(line))
            if place.newest == expect:
                expected = place.count
        before = str(path)
    start = start or place
    if expect and not expected and expect != start.newest:
        raise AuditBroken(
            f"{', '.join(map(str, paths))}: no line has the hash {expect}",
            hint="lines were taken away from the end, or the hash is of another log; "
            "name the files that were put aside as well",
        )
    lines = place.count - start.count
    return AuditVerdict(start.count + 1, start.newest, lines, place.newest, expected)


def _first_line_number(path: Path) -> int:
    """The number of its first line."""
    for line in _log_lines(path):
        return read(line, path, "line 1").number
    return 0


def _broken_chain(path: Path, number: int, before: str) -> AuditBroken:
    if number == 1 and before:
        return AuditBroken(
            f"{path}, line 1: it does not follow from the last line of {before}",
            hint="a file between the two is missing, or lines were changed; check each by itself",
        )
    return AuditBroken(
        f"{path}, line {number}: it does not follow from the line before it",
        hint="lines were changed, removed or added from there on",
    )


def _log_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                raise AuditBroken(
                    f"{path}: its last line is cut off",
                    hint="whoever writes next mends it",
                )
            yield line[:-1]
