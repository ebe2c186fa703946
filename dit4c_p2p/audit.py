"""The audit log: who did what, from where, with which key, and what came of it.

One line of JSON for each act, only ever appended. Each line carries the SHA-256 of the line before
it, so that a line changed, removed or put in between shows once a copy of any later line is held
elsewhere: ship the file, or its newest hash, to another machine.

    {"n": 2, "at": "2026-11-23T10:00:00.123Z", "who": "admin", "key": "", "from": "127.0.0.1",
     "what": "key.revoke", "about": "node-home", "outcome": "done", "previous": "9f86d0…"}

``previous`` of the first line is 64 zeros. Nothing secret is written: no token, key or content.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dit4c_p2p.errors import DitError

_FIRST = "0" * 64
_FIELDS = ("n", "at", "who", "key", "from", "what", "about", "outcome", "previous")
# The newest line is looked for in this much of the file's end; a line is well under 4 KiB.
_TAIL_BYTES = 64 * 1024
_MAX_TEXT_CHARS = 300


class AuditBroken(DitError):
    """The log is not what was written; the message says from which line on."""

    code = "audit_broken"


@dataclass(frozen=True)
class Verdict:
    """A log that holds together: how many lines it has, and the hash of the newest."""

    lines: int
    newest: str


class AuditLog:
    """Appends to one file, which it alone writes.

    A line is on disk (``fsync``) when :meth:`write` returns. One that a crash cut off, before
    anyone was told that it was done, is taken away at the next start.

    :param clock: seconds since 1970.
    :raises OSError: the file can't be opened or read.
    :raises AuditBroken: its newest line is not one of ours.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._count, self._newest = self._resume(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(
        self,
        what: str,
        *,
        who: str = "",
        key: str = "",
        origin: str = "",
        about: str = "",
        outcome: str = "done",
    ) -> None:
        """Append one act.

        :param what: a stable word such as ``key.revoke``.
        :param who: a person's id or a peer's name; empty if nobody is known yet.
        :param key: the fingerprint of the key it was done with.
        :param origin: the address it came from.
        :param about: what it was done to.
        :raises OSError: it could not be written; the act should not go on as if it were.
        """
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        values = (
            self._count + 1,
            at.replace("+00:00", "Z"),
            *(one[:_MAX_TEXT_CHARS] for one in (who, key, origin, what, about, outcome)),
            self._newest,
        )
        line = json.dumps(dict(zip(_FIELDS, values, strict=True)), ensure_ascii=True).encode()
        os.write(self._descriptor, line + b"\n")
        os.fsync(self._descriptor)
        self._count, self._newest = self._count + 1, _hash(line)

    def close(self) -> None:
        """Nothing can be written any more."""
        os.close(self._descriptor)

    def _resume(self, path: Path) -> tuple[int, str]:
        """How many lines there are and the newest one's hash."""
        size = os.fstat(self._descriptor).st_size
        if size == 0:
            return 0, _FIRST
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        *lines, rest = tail.split(b"\n")
        if rest:
            os.truncate(self._descriptor, size - len(rest))
            os.fsync(self._descriptor)
        if not lines:
            return 0, _FIRST
        return _read(path, lines[-1], None)["n"], _hash(lines[-1])


def verify(path: Path) -> Verdict:
    """Read a whole log and check its chain.

    :raises AuditBroken: with the number of the first line that is wrong.
    :raises OSError: the file can't be read.
    """
    count, newest = 0, _FIRST
    for line in _lines(path):
        count += 1
        read = _read(path, line, count)
        if read["n"] != count or read["previous"] != newest:
            raise AuditBroken(
                f"{path}, line {count}: it does not follow from the line before it",
                hint="lines were changed, removed or added from there on",
            )
        newest = _hash(line)
    return Verdict(count, newest)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                raise AuditBroken(
                    f"{path}: its last line is cut off",
                    hint="the next start of the portal mends it",
                )
            yield line[:-1]


def _read(path: Path, line: bytes, number: int | None) -> dict[str, Any]:
    where = f"{path}, line {number}" if number else f"{path}, newest line"
    try:
        read = json.loads(line)
        if tuple(read) != _FIELDS or not isinstance(read["n"], int):
            raise ValueError("not its fields")
    except (ValueError, TypeError):
        raise AuditBroken(
            f"{where}: not a line of an audit log", hint="keep the file, and start another one"
        ) from None
    return dict(read)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
