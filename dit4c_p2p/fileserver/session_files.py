"""What the operations of one session have in common: places, accesses, attributes."""

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from dit4c_p2p.fileserver.handles import FileHandle, HandleTable
from dit4c_p2p.fileserver.layout import View, VirtualFolder, VirtualLeases
from dit4c_p2p.fileserver.leases import Session
from dit4c_p2p.fileserver.places import Place, follow_link, locate
from dit4c_p2p.fileserver.quota import cost_bytes
from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS, Grant
from dit4c_p2p.sftp.operations import FileAttrs

# For open(2): a FIFO holds nobody up, and a link is not followed.
SAFELY = os.O_NONBLOCK | os.O_NOFOLLOW
PERMISSIONS = 0o7777


class Found(NamedTuple):
    """A file or directory, and the lease that was granted on it."""

    attrs: FileAttrs
    grant: Grant


class Overtaken(Exception):
    """Somebody else has changed what an operation was about to change; it is called again."""


class SessionFiles:
    """The files of one session.

    :param session: its key for leases.
    :param view: returns what it sees now.
    :ivar links: whether its clients leave links on the way to the server; the storage helper's
        kernel follows them itself.
    """

    def __init__(self, session: Session, view: Callable[[], View], handles: HandleTable) -> None:
        self.session = session
        self.view = view
        self.handles = handles
        self.links = True
        self.virtual_leases = VirtualLeases()

    # ---- places

    def place(self, path: bytes, *, follow: bool = False) -> Place:
        """Where a path leads, for an operation on one of a tree's files.

        :raises OSError: EROFS for a virtual folder.
        """
        place = self.place_or_virtual(path, follow=follow)
        if isinstance(place, VirtualFolder):
            raise os_error(errno.EROFS)
        return place

    def place_or_virtual(self, path: bytes, *, follow: bool = False) -> Place | VirtualFolder:
        """Where a path leads; with ``follow``, a link at its end is followed."""
        place = locate(self.session, self.view(), path, through_links=self.links)
        if isinstance(place, VirtualFolder) or not follow:
            return place
        try:
            self.begin(place, reads=place.parents)
            status = place.status_or_none()
            is_link = status is not None and stat.S_ISLNK(status.st_mode)
        except BaseException:
            place.__exit__()
            raise
        return follow_link(self.session, place) if is_link else place

    def begin(
        self, place: Place, reads: tuple[int, ...] = (), changes: tuple[int, ...] = ()
    ) -> None:
        place.folder.tree.leases.begin(self.session, reads, changes)

    def end(self, place: Place, changes: tuple[int, ...]) -> None:
        place.folder.tree.leases.end(self.session, changes)

    def begin_open(self, handle: FileHandle, *, change: bool) -> tuple[int, ...]:
        """Begin to work on an open file; returns what is to be ended."""
        file = handle.file
        ids = (file.file_id, *file.parents)
        leases = handle.folder.tree.leases
        if change:
            leases.begin(self.session, (), ids)
        else:
            leases.begin(self.session, ids)
        return ids

    def begin_write(self, handle: FileHandle) -> tuple[int, ...]:
        """Begin to change an open file's contents; returns what is to be ended.

        :raises OSError: ``CHANGED_BY_OTHERS``, what comes now may be older than what is there.
        """
        leases, file_id = handle.folder.tree.leases, handle.file.file_id
        changes = self.begin_open(handle, change=True)
        if leases.overtaken(self.session, file_id, handle.opened_at):
            leases.end(self.session, changes)
            raise os_error(CHANGED_BY_OTHERS)
        leases.changes_contents(self.session, file_id)
        return changes

    def truncate(self, place: Place, descriptor: int, size: int) -> None:
        tree = place.folder.tree
        status = os.fstat(descriptor)
        tree.leases.changes_contents(self.session, status.st_ino)
        file = tree.opened(status.st_ino, status.st_size, place.directory_id)
        try:
            handle = FileHandle(
                *(place.folder, descriptor, file), readable=False, writable=True, append=False
            )
            resize(handle, size)
        finally:
            tree.closed(file)


def check_offset(offset: int) -> int:
    """:raises OSError: EFBIG, beyond what a file can have."""
    if offset > 0x7FFFFFFFFFFFFFFF - (1 << 20):
        raise os_error(errno.EFBIG)
    return offset


def resize(handle: FileHandle, size: int) -> None:
    """Cut a file off or lengthen it by a hole.

    :raises OSError: EDQUOT, EFBIG.
    """
    file, usage = handle.file, handle.folder.tree.usage
    with file.lock:
        more = cost_bytes(check_offset(size)) - cost_bytes(file.size)
        usage.take(more)
        try:
            os.ftruncate(handle.fd, size)
        except OSError:
            usage.give_back(more)
            raise
        file.size = size
