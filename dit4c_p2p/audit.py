"""The audit log: who did what, from where, with which key, and what came of it.

One line of JSON for each act, only ever appended. Each line carries the SHA-256 of the line before
it, so that a line changed, removed or put in between shows once a copy of any later line is held
elsewhere: ship the file, or its newest hash, to another machine.

    {"n": 2, "at": "2026-11-23T10:00:00.123Z", "who": "admin", "key": "", "from": "127.0.0.1",
     "what": "key.revoke", "about": "node-home", "outcome": "done", "previous": "9f86d0…"}

``previous`` of the first line is 64 zeros. Nothing secret is written: no token, key or content.
"""

import errno
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    """Appends to one file, from any thread; other processes may append by their own.

    A line is on disk (``fsync``) when :meth:`write` returns. One that a crash or a full disk cut
    off, before anyone was told that it was done, is taken away by whoever writes next.

    :param clock: seconds since 1970.
    :raises OSError: the file can't be opened or read.
    :raises AuditBroken: its newest line is not one of ours.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._path = path
        self._size, self._count, self._newest = 0, 0, _FIRST
        self._alone = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with self._locked():
                pass
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
        :raises AuditBroken: somebody else has put something into the file.
        """
        with self._locked():
            self._append((who, key, origin, what, about, outcome))

    def close(self) -> None:
        """Nothing can be written any more."""
        with self._alone:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only one that writes, and know the newest line."""
        with self._alone:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                if os.fstat(self._descriptor).st_size != self._size:
                    self._resume()
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _append(self, texts: tuple[str, ...]) -> None:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        values = (
            self._count + 1,
            at.replace("+00:00", "Z"),
            *(one[:_MAX_TEXT_CHARS] for one in texts),
            self._newest,
        )
        line = json.dumps(dict(zip(_FIELDS, values, strict=True)), ensure_ascii=True).encode()
        try:
            written = os.write(self._descriptor, line + b"\n")
            if written <= len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)
        except OSError as error:
            os.truncate(self._descriptor, self._size)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._size += written
        self._count, self._newest = self._count + 1, _hash(line)

    def _resume(self) -> None:
        """Find out how many lines there are, and the newest one's hash."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        *lines, rest = tail.split(b"\n")
        count = _read(self._path, lines[-1], None)["n"] if lines else 0
        # Taken away only if it can be the beginning of the next line.
        if not rest.startswith(f'{{"n": {count + 1}, '.encode()[: len(rest)]):
            raise _no_line(f"{self._path}, newest line")
        if rest:
            os.truncate(self._descriptor, size - len(rest))
            os.fsync(self._descriptor)
        self._count = count
        self._newest = _hash(lines[-1]) if lines else _FIRST
        self._size = size - len(rest)


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
                    hint="whoever writes next mends it",
                )
            yield line[:-1]


def _read(path: Path, line: bytes, number: int | None) -> dict[str, Any]:
    where = f"{path}, line {number}" if number else f"{path}, newest line"
    try:
        read = json.loads(line)
        if tuple(read) != _FIELDS or not isinstance(read["n"], int):
            raise ValueError("not its fields")
    except (ValueError, TypeError):
        raise _no_line(where) from None
    return dict(read)


def _no_line(where: str) -> AuditBroken:
    return AuditBroken(
        f"{where}: not a line of an audit log", hint="keep the file, and start another one"
    )


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
