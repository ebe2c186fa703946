"""How much a tree holds, and how much it may hold.

A file counts its size rounded up to whole blocks, and one block at least; a directory, a link and
everything else count one block. A hole counts as if it were filled. A file with several links
counts once, and one that was removed while open counts until it is closed.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable
from typing import NamedTuple

from dit4c_p2p.fileserver.syscalls import open_beneath, os_error

BLOCK_BYTES = 4096


def cost_bytes(size: int) -> int:
    """What a file of ``size`` bytes counts."""
    return max(1, -(-size // BLOCK_BYTES)) * BLOCK_BYTES


class ScanStart(NamedTuple):
    """What was counted when a scan began.

    :ivar used: the bytes, below 0 while a tree that is not scanned yet loses files.
    :ivar changes: how often the count had changed.
    """

    used: int
    changes: int


class Usage:
    """The count of one tree; used by worker threads.

    :ivar limit_bytes: the quota; None: no limit.
    """

    def __init__(self) -> None:
        self.limit_bytes: int | None = None
        self._used = 0
        self._changes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """How much is counted."""
        return max(0, self._used)

    def take(self, count: int) -> None:
        """Count ``count`` bytes more, which may be less than 0.

        :raises OSError: EDQUOT, and nothing is counted.
        """
        with self._lock:
            limit = self.limit_bytes
            if count > 0 and limit is not None and self._used + count > limit:
                raise os_error(errno.EDQUOT)
            self._used += count
            self._changes += 1

    def add(self, count: int) -> None:
        """Count ``count`` bytes more, whatever the limit."""
        self.give_back(-count)

    def give_back(self, count: int) -> None:
        """Count ``count`` bytes less."""
        with self._lock:
            self._used -= count
            self._changes += 1

    def begin_scan(self) -> ScanStart:
        """Return what :meth:`correct` needs after the scan that begins now."""
        with self._lock:
            return ScanStart(self._used, self._changes)

    def correct(self, scanned: int, start: ScanStart) -> bool:
        """Replace the count by the result of a scan; return whether it is exact.

        Whether the scan has seen a change that was made while it went on is not known: such changes
        are counted on top, some of them twice, and the tree has to be scanned again.
        """
        with self._lock:
            self._used = scanned + (self._used - start.used)
            return self._changes == start.changes


def scan_usage(folder: int, stopped: Callable[[], bool]) -> int | None:
    """Count what is below a directory; None if it was stopped. Runs in a thread of its own.

    What vanishes or can't be read meanwhile is left out.

    :param folder: its descriptor.
    """
    total = 0
    linked: set[int] = set()
    waiting = [b""]
    while waiting:
        if stopped():
            return None
        path = waiting.pop()
        try:
            descriptor = open_beneath(folder, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    total += _entry_cost_for_quota(entry, linked)
                    if entry.is_dir(follow_symlinks=False):
                        name = os.fsencode(entry.name)
                        waiting.append(path + b"/" + name if path else name)
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return total


def _entry_cost_for_quota(entry: os.DirEntry[str], linked: set[int]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if not stat.S_ISREG(status.st_mode):
        return BLOCK_BYTES
    if status.st_nlink > 1:
        if status.st_ino in linked:
            return 0
        linked.add(status.st_ino)
    return cost_bytes(status.st_size)
