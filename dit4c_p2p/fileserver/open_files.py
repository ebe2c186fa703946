"""Opening, reading and writing files; see ``files.py``."""

import errno
import os
import stat
from typing import NamedTuple

from dit4c_p2p.fileserver.handles import FileHandle
from dit4c_p2p.fileserver.layout import Folder
from dit4c_p2p.fileserver.leases import NO_GRANT
from dit4c_p2p.fileserver.places import Place
from dit4c_p2p.fileserver.quota import BLOCK_BYTES, cost_bytes
from dit4c_p2p.fileserver.session_files import (
    PERMISSIONS,
    SAFELY,
    Overtaken,
    SessionFiles,
    check_offset,
)
from dit4c_p2p.fileserver.syscalls import os_error, sync_filesystem
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS, SERVER_LEASE_S, Grant, LeaseKind
from dit4c_p2p.sftp.operations import FileAttrs

# What is read from the disk around a small piece that is not in memory: its neighbours are likely
# to be read too, and a larger piece costs a disk little more.
_AROUND_BYTES = 64 * 1024


class Opened(NamedTuple):
    """An open file."""

    handle: bytes
    attrs: FileAttrs
    grant: Grant
    created: bool
    parent: FileAttrs


class OpenFiles(SessionFiles):
    """Handles of files, and what is done through them."""

    def open(
        self,
        path: bytes,
        flags: int,
        mode: int = 0o644,
        *,
        lease: int = LeaseKind.NONE,
        follow: bool = False,
    ) -> Opened:
        """Open a regular file.

        :param flags: of :class:`OpenFlag`.
        """
        flags = OpenFlag(flags & 0x3F)
        if not flags & (OpenFlag.READ | OpenFlag.WRITE | OpenFlag.APPEND):
            raise os_error(errno.EINVAL)
        self.handles.require_room()
        exclusive = bool(flags & OpenFlag.CREAT and flags & OpenFlag.EXCL)
        with self.place(path, follow=follow and not exclusive) as place:
            if not place.name:
                raise os_error(errno.EISDIR)
            if flags & ~OpenFlag.READ:
                place.folder.require_writable()
            while True:
                if flags & OpenFlag.CREAT:
                    try:
                        return self._create(place, flags, mode, lease)
                    except FileExistsError:
                        if exclusive:
                            raise
                try:
                    return self._open_existing(place, flags, lease)
                except FileNotFoundError:
                    if not flags & OpenFlag.CREAT:
                        raise

    def _create(self, place: Place, flags: OpenFlag, mode: int, lease: int) -> Opened:
        tree = place.folder.tree
        self.begin(place, reads=place.parents)
        if place.status_or_none() is not None:
            raise os_error(errno.EEXIST)
        changes = place.parents
        self.begin(place, changes=changes)
        try:
            tree.usage.take(BLOCK_BYTES)
            try:
                descriptor = place.open(
                    _access_for_open_files(flags) | os.O_CREAT | os.O_EXCL | SAFELY,
                    mode & PERMISSIONS,
                )
            except BaseException:
                tree.usage.give_back(BLOCK_BYTES)
                raise
            status = os.fstat(descriptor)
            tree.owners.forget(status.st_ino)
            tree.leases.changes_contents(self.session, status.st_ino, made=True)
            if status.st_mode & PERMISSIONS != mode & PERMISSIONS:
                os.fchmod(descriptor, mode & PERMISSIONS)
            return self._opened(place, descriptor, flags, lease, created=True)
        finally:
            self.end(place, changes)

    def _open_existing(self, place: Place, flags: OpenFlag, lease: int) -> Opened:
        self.begin(place, reads=place.parents)
        status = place.status()
        _require_regular_for_open_files(status.st_mode)
        truncate = bool(flags & OpenFlag.TRUNC and flags & (OpenFlag.WRITE | OpenFlag.APPEND))
        ids = (status.st_ino, *place.parents)
        if not truncate:
            self.begin(place, reads=ids)
            descriptor = place.open(_access_for_open_files(flags) | SAFELY)
            return self._opened(place, descriptor, flags, lease, created=False)
        self.begin(place, changes=ids)
        try:
            descriptor = place.open(_access_for_open_files(flags) | SAFELY)
            try:
                opened = os.fstat(descriptor)
                _require_regular_for_open_files(opened.st_mode)
                if opened.st_ino != status.st_ino:
                    raise Overtaken
                self.truncate(place, descriptor, 0)
            except BaseException:
                os.close(descriptor)
                raise
            return self._opened(place, descriptor, flags, lease, created=False)
        finally:
            self.end(place, ids)

    def _opened(
        self, place: Place, descriptor: int, flags: OpenFlag, lease: int, *, created: bool
    ) -> Opened:
        """Name a descriptor, which is closed if that fails."""
        tree = place.folder.tree
        try:
            status = os.fstat(descriptor)
            _require_regular_for_open_files(status.st_mode)
        except BaseException:
            os.close(descriptor)
            raise
        file = tree.opened(status.st_ino, status.st_size, place.directory_id)
        handle = FileHandle(
            *(place.folder, descriptor, file),
            readable=bool(flags & OpenFlag.READ),
            writable=bool(flags & (OpenFlag.WRITE | OpenFlag.APPEND)),
            append=bool(flags & OpenFlag.APPEND),
        )
        name = self.handles.add(handle)
        grant = NO_GRANT
        if lease and status.st_nlink == 1:
            grant = tree.leases.acquire(self.session, status.st_ino, lease, parents=place.parents)
            status = os.fstat(descriptor)
        parent = tree.attrs_of(place.directory_status())
        return Opened(name, tree.attrs_of(status), grant, created, parent)

    def begin_read(self, name: bytes) -> FileHandle:
        """A handle that may be read from now.

        :raises OSError: EBADF, EACCES.
        """
        handle = self.handles.file(name)
        if not handle.readable:
            raise os_error(errno.EBADF)
        if handle.folder.tree.leases.count:
            self.begin_open(handle, change=False)
        return handle

    def read(self, name: bytes, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes; none at the end of the file."""
        handle = self.begin_read(name)
        if length < _AROUND_BYTES < handle.file.size:
            start = check_offset(offset) // _AROUND_BYTES * _AROUND_BYTES
            os.posix_fadvise(handle.fd, start, _AROUND_BYTES, os.POSIX_FADV_WILLNEED)
        return os.pread(handle.fd, length, check_offset(offset))

    def write(self, name: bytes, offset: int, data: bytes | memoryview) -> None:
        """Write all of ``data``."""
        handle = self.handles.file(name)
        if not handle.writable:
            raise os_error(errno.EBADF)
        handle.folder.require_writable()
        changes = self.begin_write(handle)
        try:
            file = handle.file
            with file.lock:
                if handle.append:
                    offset = file.size
                _grow_for_open_files(handle, check_offset(offset) + len(data))
            try:
                _write_all_for_open_files(handle.fd, data, offset)
            except OSError:
                _recount_for_open_files(handle)
                raise
        finally:
            handle.folder.tree.leases.end(self.session, changes)

    # ---- mounts that come back

    def require_unchanged(self, path: bytes, file_id: int, since_ns: int) -> None:
        """See :class:`operations.RequireUnchanged`.

        :raises OSError: ESTALE, ``CHANGED_BY_OTHERS``, ENOENT.
        """
        with self.place(path) as place:
            self.begin(place, reads=place.parents)
            status = place.status()
            if status.st_ino != file_id:
                raise os_error(errno.ESTALE)
            if stat.S_ISREG(status.st_mode):
                self.begin(place, reads=(file_id, *place.parents))
                self._require_same(place.folder, place.status(), since_ns)

    def may_be_late(self) -> bool:
        """Whether changes that the session sends behind may be older than another's."""
        return any(tree.leases.is_away(self.session) for tree in self.view().trees)

    def require_in_time(self, path: bytes) -> None:
        """A change of a path was sent behind, under a write lease that may be lost since then.

        :raises OSError: ``CHANGED_BY_OTHERS``, ENOENT.
        """
        with self.place(path) as place:
            leases = place.folder.tree.leases
            if leases.holds(self.session, place.directory_id, LeaseKind.WRITE):
                return
            self.begin(place, reads=place.parents)
            if leases.overtaken(self.session, place.status().st_ino, 0):
                raise os_error(CHANGED_BY_OTHERS)

    def require_in_time_open(self, name: bytes) -> None:
        """The same of an open file."""
        handle = self.handles.file(name)
        leases, file_id = handle.folder.tree.leases, handle.file.file_id
        if leases.overtaken(self.session, file_id, handle.opened_at):
            raise os_error(CHANGED_BY_OTHERS)

    def reopen(self, path: bytes, flags: int, file_id: int, since_ns: int) -> Opened:
        """See :class:`operations.ReopenFile`.

        :raises OSError: ESTALE, ``CHANGED_BY_OTHERS``, ENOENT.
        """
        flags &= ~(OpenFlag.CREAT | OpenFlag.EXCL | OpenFlag.TRUNC)
        opened = self.open(path, flags)
        try:
            handle = self.handles.file(opened.handle)
            handle.opened_at = 0
            if opened.attrs.file_id != file_id:
                raise os_error(errno.ESTALE)
            self._require_same(handle.folder, os.fstat(handle.fd), since_ns)
        except BaseException:
            self.close(opened.handle)
            raise
        return opened

    def _require_same(self, folder: Folder, status: os.stat_result, since_ns: int) -> None:
        """:raises OSError: ``CHANGED_BY_OTHERS``."""
        leases = folder.tree.leases
        overtaken = leases.overtaken(self.session, status.st_ino, 0)
        if leases.is_new(self.session):
            # This server was started anew: who has changed the file since then is not known.
            overtaken |= status.st_ctime_ns > since_ns + int(SERVER_LEASE_S * 1e9)
        if overtaken:
            raise os_error(CHANGED_BY_OTHERS)

    def sync(self, name: bytes) -> None:
        """fsync(2) of a file; of a directory, everything is brought to the disk."""
        handle = self.handles.get(name)
        if isinstance(handle, FileHandle):
            os.fsync(handle.fd)
        elif handle.fd >= 0:
            sync_filesystem(handle.fd)

    def close(self, name: bytes) -> FileAttrs | None:
        """Close a handle; a file's attributes before that."""
        handle = self.handles.remove(name)
        try:
            if isinstance(handle, FileHandle):
                return handle.folder.tree.attrs_of(os.fstat(handle.fd))
            return None
        finally:
            handle.close()


def _access_for_open_files(flags: OpenFlag) -> int:
    """O_RDONLY and its like. O_APPEND is not used: the end is known from the file's record."""
    if not flags & (OpenFlag.WRITE | OpenFlag.APPEND):
        return os.O_RDONLY
    return os.O_RDWR if flags & OpenFlag.READ else os.O_WRONLY


def _require_regular_for_open_files(mode: int) -> None:
    """:raises OSError: EISDIR, ELOOP or ENXIO for what can't be opened."""
    if stat.S_ISDIR(mode):
        raise os_error(errno.EISDIR)
    if stat.S_ISLNK(mode):
        raise os_error(errno.ELOOP)
    if not stat.S_ISREG(mode):
        raise os_error(errno.ENXIO)


def _grow_for_open_files(handle: FileHandle, end: int) -> None:
    """Count what a write up to ``end`` adds; called under the file's lock.

    :raises OSError: EDQUOT.
    """
    file = handle.file
    if end > file.size:
        more = cost_bytes(end) - cost_bytes(file.size)
        if more:
            handle.folder.tree.usage.take(more)
        file.size = end


def _write_all_for_open_files(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _recount_for_open_files(handle: FileHandle) -> None:
    """After a write that failed, count what the file really has."""
    file = handle.file
    with file.lock:
        size = os.fstat(handle.fd).st_size
        handle.folder.tree.usage.give_back(cost_bytes(file.size) - cost_bytes(size))
        file.size = size
