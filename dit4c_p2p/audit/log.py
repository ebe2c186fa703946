"""Appending to an audit log."""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dit4c_p2p.atomic_file import sync_folder
from dit4c_p2p.audit.line import (
    ROTATED,
    SHORTENED,
    AuditAct,
    AuditBroken,
    Place,
    audit_line_hash,
    compose_audit_line,
    no_audit_line_error,
    read,
)
from dit4c_p2p.audit.newest import read_newest_hash, write_newest_hash

_log = logging.getLogger(__name__)

# The newest line is looked for in this much of the file's end; a line is well under 4 KiB.
_TAIL_BYTES = 64 * 1024


class AuditLog:
    """Appends to one file, from any thread; other processes may append by their own.

    A line is on disk (``fsync``) when :meth:`write` returns. One that a crash or a full disk cut
    off, before anyone was told that it was done, is taken away by whoever writes next. A file that
    was put aside meanwhile is followed by the one that now has its name, in the same chain.

    A file that has lost lines which were written is noticed at the next look, at the next start
    too: that is an error in the program's log and a line ``audit.shortened``, which carries the
    hash of the last line that was written, so that the chain is broken for good at that place.

    :param clock: seconds since 1970.
    :ivar shortened: how often that was noticed.
    :raises OSError: the file can't be opened or read.
    :raises AuditBroken: its newest line is not one of ours.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._path = path
        self._size, self._place = 0, read_newest_hash(path)
        self.shortened = 0
        self._alone = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = self._open()
        try:
            with self.locked(new=True):
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
        with self.locked():
            self._append(AuditAct(what, who, key, origin, about, outcome))

    def close(self) -> None:
        """Nothing can be written any more."""
        with self._alone:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def newest(self) -> Place:
        """Where the chain stands now, what other processes have written included.

        :raises OSError: the file can't be read.
        :raises AuditBroken: it is something else by now.
        """
        with self.locked() as place:
            return place

    @contextmanager
    def locked(self, *, new: bool = False) -> Iterator[Place]:
        """Be the only one that writes, and know where the chain stands.

        :param new: nothing was read or written yet.
        """
        with self._alone:
            self._lock()
            try:
                while not self._has_its_name():
                    self._follow()
                self._catch_up()
                if self._size == 0 and self._place.count:
                    if new:
                        self._alarm(Place())
                    else:
                        self._append(AuditAct(ROTATED))
                yield self._place
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def _lock(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def _has_its_name(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _follow(self) -> None:
        """Go on in the file that has the name now, from where the one put aside ends."""
        self._catch_up()
        removed = os.fstat(self._descriptor).st_nlink == 0
        aside, self._descriptor = self._descriptor, self._open()
        os.close(aside)  # with it goes its lock
        self._size = 0
        self._lock()
        if removed and not self._goes_on():
            self._catch_up()
            self._alarm(Place())

    def _goes_on(self) -> bool:
        """Whether the file begins where the one before it ended."""
        first = os.pread(self._descriptor, _TAIL_BYTES, 0).partition(b"\n")[0]
        try:
            return read(first, self._path, "line 1").previous == self._place.newest
        except AuditBroken:
            return False

    def _catch_up(self) -> None:
        if os.fstat(self._descriptor).st_size == self._size:
            return
        before = self._place
        self._resume()
        found = self._place
        if found.count < before.count or (
            found.count == before.count and found.newest != before.newest
        ):
            self._place = before
            self._alarm(found)

    def _alarm(self, found: Place) -> None:
        """Say that lines are missing after ``found``, and go on after the last that was written."""
        self.shortened += 1
        last = self._place
        _log.error(
            "the audit log %s was shortened: line %d was written, and it ends with line %d",
            self._path,
            last.count,
            found.count,
        )
        about = f"line {last.count}: {last.newest}"
        outcome = f"lines after {found.count} are missing"
        self._append(AuditAct(SHORTENED, about=about, outcome=outcome))

    def _append(self, act: AuditAct) -> None:
        line = compose_audit_line(act, self._place, self._clock())
        try:
            written = os.write(self._descriptor, line + b"\n")
            if written <= len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)
            if self._size == 0:
                sync_folder(self._path.parent)
        except OSError as error:
            os.truncate(self._descriptor, self._size)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._size += written
        self._place = Place(self._place.count + 1, audit_line_hash(line))
        write_newest_hash(self._path, self._place)

    def _resume(self) -> None:
        """Find out how many lines there are, and the newest one's hash."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        *lines, rest = tail.split(b"\n")
        place = Place()
        if lines:
            place = Place(
                read(lines[-1], self._path, "newest line").number, audit_line_hash(lines[-1])
            )
        # Taken away only if it can be the beginning of the next line.
        if not rest.startswith(f'{{"n": {place.count + 1}, '.encode()[: len(rest)]):
            raise no_audit_line_error(self._path, "newest line")
        if rest:
            os.truncate(self._descriptor, size - len(rest))
            os.fsync(self._descriptor)
        self._place = place
        self._size = size - len(rest)
