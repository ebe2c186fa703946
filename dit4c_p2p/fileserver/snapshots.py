"""Yesterday's state: read-only copies of each folder of a tree, hourly and daily, thinned out.

    <tree>/snapshots/private/2026-11-29T10-00-00Z/…        seen as /private/.snapshots/…
    <tree>/snapshots/instances/<instance>/2026-11-29T…/…

A file that is as it was in the snapshot before (size, time, mode) is a hard link to that; any other
shares its blocks with the live file where the file system can (``FICLONE``), and is a copy where it
can't. No snapshot ever has a hard link to a live file. A folder in which nothing has changed gets
no new snapshot.
"""

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from dit4c_p2p.fileserver.syscalls import BENEATH, Resolve, clone_file, open_beneath
from dit4c_p2p.messages.snapshot_names import snapshot_name, snapshot_time

_log = logging.getLogger(__name__)

# What is being made; swept away at the next round if it was not finished.
_UNFINISHED = "unfinished"
_COPY_BYTES = 1024 * 1024
_HOUR_S, _DAY_S = 3600, 86400
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HERE = BENEATH | Resolve.NO_SYMLINKS
# Folders that lie deeper are left out: each level takes three descriptors.
_MAX_DEPTH = 128


class Stopped(Exception):
    """The server stops: what is being made is left unfinished."""


def snapshots_to_remove(names: Iterable[bytes], now: float, hourly: int, daily: int) -> list[bytes]:
    """Which snapshots are not kept: of each of the last ``hourly`` hours and of each of the last
    ``daily`` days the newest is kept, and the newest of all.
    """
    times = sorted(
        ((at, name) for name in names if (at := snapshot_time(name)) is not None), reverse=True
    )
    kept: set[bytes] = {name for _, name in times[:1]}
    for length_s, count in ((_HOUR_S, hourly), (_DAY_S, daily)):
        filled: set[int] = set()
        for at, name in times:
            slot = int(at // length_s)
            if int(now // length_s) - slot < count and slot not in filled:
                filled.add(slot)
                kept.add(name)
    return [name for _, name in times if name not in kept]


@dataclass
class Copied:
    """What one snapshot took.

    :ivar changed: entries that are not as they were in the one before.
    :ivar entries: all of them.
    """

    changed: int = 0
    entries: int = 0


class FolderSnapshots:
    """The snapshots of one folder of a tree. Everything blocks; run in a thread.

    :param live: the folder.
    :param kept: where its snapshots are; made when the first is.
    :param stopped: whether to stop.
    """

    def __init__(self, live: Path, kept: Path, stopped: Callable[[], bool]) -> None:
        self._live = live
        self._kept = kept
        self._stopped = stopped

    def names(self) -> list[bytes]:
        """Those that there are, the oldest first."""
        if not self._kept.is_dir():
            return []
        found = (os.fsencode(path.name) for path in self._kept.iterdir())
        return sorted(name for name in found if snapshot_time(name) is not None)

    def make(self, now: float) -> Copied | None:
        """Make a snapshot; None where nothing has changed since the last.

        :raises OSError: it could not be made, as on a full disk; nothing of it is left.
        :raises Stopped: the server stops.
        """
        self._kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self._kept / _UNFINISHED
        _remove_for_snapshots(unfinished)
        names = self.names()
        before = self._kept / names[-1].decode() if names else None
        unfinished.mkdir(mode=0o700)
        copied = Copied()
        try:
            with ExitStack() as stack:
                source = _opened_for_snapshots(stack, os.open(self._live, _DIRECTORY))
                target = _opened_for_snapshots(stack, os.open(unfinished, _DIRECTORY))
                older = (
                    None
                    if before is None
                    else _opened_for_snapshots(stack, os.open(before, _DIRECTORY))
                )
                self._copy(source, target, older, copied, depth=0)
            if (
                before is not None
                and not copied.changed
                and _count_for_snapshots(before) == copied.entries
            ):
                _remove_for_snapshots(unfinished)
                return None
            unfinished.rename(self._kept / snapshot_name(now).decode())
        except BaseException:
            _remove_for_snapshots(unfinished)
            raise
        return copied

    def thin(self, now: float, hourly: int, daily: int) -> int:
        """Remove those that are not kept; returns how many."""
        gone = snapshots_to_remove(self.names(), now, hourly, daily)
        for name in gone:
            _remove_for_snapshots(self._kept / name.decode())
        return len(gone)

    # ---- inside

    def _copy(
        self, source: int, target: int, older: int | None, copied: Copied, *, depth: int
    ) -> None:
        """Copy what is in one directory; all three are descriptors. What vanishes meanwhile is left
        out. People go on working: each name is opened beneath its directory, and no link followed.
        """
        if self._stopped():
            raise Stopped
        with os.scandir(source) as entries:
            for entry in entries:
                with suppress(FileNotFoundError, NotADirectoryError):
                    self._copy_entry(os.fsencode(entry.name), source, target, older, copied, depth)

    def _copy_entry(
        self, name: bytes, source: int, target: int, older: int | None, copied: Copied, depth: int
    ) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        was = _status_for_snapshots(name, older)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            if depth < _MAX_DEPTH:
                self._copy_directory(name, source, target, older, was, copied, depth)
        elif kind == stat.S_IFREG:
            if older is not None and _same_for_snapshots(status, was):
                os.link(name, name, src_dir_fd=older, dst_dir_fd=target, follow_symlinks=False)
            else:
                _copy_file_for_snapshots(name, source, target)
                copied.changed += 1
            copied.entries += 1
        elif kind == stat.S_IFLNK:
            link = os.readlink(name, dir_fd=source)
            os.symlink(link, name, dir_fd=target)
            same = was is not None and stat.S_ISLNK(was.st_mode)
            copied.changed += not (same and os.readlink(name, dir_fd=older) == link)
            copied.entries += 1
        # FIFOs and sockets hold nothing.

    def _copy_directory(
        self,
        name: bytes,
        source: int,
        target: int,
        older: int | None,
        was: os.stat_result | None,
        copied: Copied,
        depth: int,
    ) -> None:
        with ExitStack() as stack:
            inner = _opened_for_snapshots(
                stack, open_beneath(source, name, _DIRECTORY, resolve=_HERE)
            )
            os.mkdir(name, 0o700, dir_fd=target)
            made = _opened_for_snapshots(
                stack, open_beneath(target, name, _DIRECTORY, resolve=_HERE)
            )
            below = None
            if older is not None and was is not None and stat.S_ISDIR(was.st_mode):
                below = _opened_for_snapshots(
                    stack, open_beneath(older, name, _DIRECTORY, resolve=_HERE)
                )
            copied.entries += 1
            copied.changed += below is None
            self._copy(inner, made, below, copied, depth=depth + 1)
            status = os.fstat(inner)
            os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


def _opened_for_snapshots(stack: ExitStack, descriptor: int) -> int:
    """The descriptor, which the stack closes."""
    stack.callback(os.close, descriptor)
    return descriptor


def _status_for_snapshots(name: bytes, folder: int | None) -> os.stat_result | None:
    try:
        return None if folder is None else os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def _same_for_snapshots(now: os.stat_result, was: os.stat_result | None) -> bool:
    return was is not None and (now.st_size, now.st_mtime_ns, now.st_mode) == (
        was.st_size,
        was.st_mtime_ns,
        was.st_mode,
    )


def _copy_file_for_snapshots(name: bytes, source: int, target: int) -> None:
    """Copy contents, mode and times; what is written meanwhile may be in it or not."""
    reading = open_beneath(source, name, os.O_RDONLY | os.O_NONBLOCK, resolve=_HERE)
    try:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        writing = open_beneath(target, name, flags, 0o600, resolve=_HERE)
        try:
            if not clone_file(reading, writing):
                while os.copy_file_range(reading, writing, _COPY_BYTES):
                    continue
            os.fchmod(writing, stat.S_IMODE(status.st_mode))
            os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _count_for_snapshots(folder: Path) -> int:
    return sum(len(names) + len(files) for _, names, files in os.walk(os.fsencode(folder)))


def _remove_for_snapshots(folder: Path) -> None:
    """Remove a snapshot; its folders were made by this server, and there are no others' links."""
    if os.path.lexists(folder):
        shutil.rmtree(folder)
