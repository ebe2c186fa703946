"""Reading and changing attributes; see ``files.py``."""

import errno
import os
import stat
import time

from dit4c_p2p.fileserver.handles import DirectoryHandle
from dit4c_p2p.fileserver.layout import VirtualFolder
from dit4c_p2p.fileserver.leases import NO_GRANT
from dit4c_p2p.fileserver.places import Place
from dit4c_p2p.fileserver.session_files import (
    PERMISSIONS,
    SAFELY,
    Found,
    Overtaken,
    SessionFiles,
    resize,
)
from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.fileserver.trees import Tree
from dit4c_p2p.sftp.extensions import Grant, LeaseKind
from dit4c_p2p.sftp.operations import FileAttrs, SetAttrs, SetMask

# The owner keeps the way into a tree's own folder.
_FOLDER_PERMISSIONS = 0o700


class Attributes(SessionFiles):
    """Attributes of paths and of open files."""

    def get(self, path: bytes, *, lease: int = LeaseKind.NONE, follow: bool = False) -> Found:
        """Attributes of a path, and a lease on it."""
        place = self.place_or_virtual(path, follow=follow)
        if isinstance(place, VirtualFolder):
            attrs = place.attrs
            return Found(attrs, self.virtual_leases.grant(attrs.file_id, lease))
        with place:
            return self.get_at(place, lease)

    def get_at(self, place: Place, lease: int = LeaseKind.NONE) -> Found:
        """Attributes of a place, and a lease on it."""
        tree = place.folder.tree
        self.begin(place, reads=place.parents)
        status = place.status()
        file_id = status.st_ino
        self.begin(place, reads=(file_id,))
        grant = NO_GRANT
        is_directory = stat.S_ISDIR(status.st_mode)
        if not is_directory and place.name:
            tree.seen_in(file_id, place.directory_id)
        if lease and (is_directory or status.st_nlink == 1):
            parents = () if is_directory else place.parents
            grant = tree.leases.acquire(self.session, file_id, lease, parents=parents)
            if grant.kind:
                status = self._status_under(place, grant, file_id)
                if status.st_ino != file_id or (not is_directory and status.st_nlink != 1):
                    tree.leases.release(self.session, grant, file_id)
                    grant = NO_GRANT
        return Found(tree.attrs_of(status), grant)

    def _status_under(self, place: Place, grant: Grant, file_id: int) -> os.stat_result:
        """What is there once the lease is registered; the lease goes back if there is nothing."""
        try:
            return place.status()
        except OSError:
            place.folder.tree.leases.release(self.session, grant, file_id)
            raise

    def get_open(self, name: bytes) -> FileAttrs:
        """Attributes of an open file or directory."""
        handle = self.handles.get(name)
        if isinstance(handle, DirectoryHandle):
            if handle.virtual is not None:
                return handle.virtual.attrs
            assert handle.folder is not None
            return handle.folder.tree.attrs_of(os.fstat(handle.fd))
        handle = self.handles.file(name)
        self.begin_open(handle, change=False)
        return handle.folder.tree.attrs_of(os.fstat(handle.fd))

    def set(self, path: bytes, change: SetAttrs, *, follow: bool = False) -> FileAttrs:
        """Change attributes of a path."""
        with self.place(path, follow=follow) as place:
            place.folder.require_writable()
            self.begin(place, reads=place.parents)
            status = place.status()
            is_directory = stat.S_ISDIR(status.st_mode)
            changes: tuple[int, ...] = (status.st_ino,)
            if not is_directory:
                changes += place.parents
            self.begin(place, changes=changes)
            try:
                return self._set_at(place, status, change)
            finally:
                self.end(place, changes)

    def _set_at(self, place: Place, status: os.stat_result, change: SetAttrs) -> FileAttrs:
        kind = stat.S_IFMT(status.st_mode)
        if change.mask & SetMask.SIZE:
            if kind == stat.S_IFDIR:
                raise os_error(errno.EISDIR)
            if kind != stat.S_IFREG:
                raise os_error(errno.EINVAL)
            descriptor = place.open(os.O_WRONLY | SAFELY)
            try:
                if os.fstat(descriptor).st_ino != status.st_ino:
                    raise Overtaken
                self.truncate(place, descriptor, change.size)
                return self._set_descriptor(place, descriptor, change)
            finally:
                os.close(descriptor)
        descriptor = place.open(os.O_PATH | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_ino != status.st_ino:
                raise Overtaken
            if kind == stat.S_IFLNK:
                if change.mask & SetMask.MODE:
                    raise os_error(errno.EOPNOTSUPP)
                if _set_owner_for_file_attributes(place.folder.tree, change, status):
                    times = (status.st_atime_ns, status.st_mtime_ns)
                    os.utime(place.name, ns=times, dir_fd=place.directory, follow_symlinks=False)
                _set_times_for_file_attributes(
                    change, status, name=place.name, directory=place.directory
                )
                return place.folder.tree.attrs_of(os.fstat(descriptor))
            return self._set_descriptor(place, descriptor, change)
        finally:
            os.close(descriptor)

    def _set_descriptor(self, place: Place, descriptor: int, change: SetAttrs) -> FileAttrs:
        # The descriptor's own name in /proc: a change that can't hit another file.
        own = f"/proc/self/fd/{descriptor}".encode()
        tree = place.folder.tree
        status = os.fstat(descriptor)
        if _set_owner_for_file_attributes(tree, change, status) or change.mask & SetMask.MODE:
            mode = change.mode if change.mask & SetMask.MODE else status.st_mode
            least = 0 if place.name else _FOLDER_PERMISSIONS
            os.chmod(own, mode & PERMISSIONS | least)  # noqa: PTH101
        _set_times_for_file_attributes(change, os.fstat(descriptor), name=own)
        return tree.attrs_of(os.fstat(descriptor))

    def set_open(self, name: bytes, change: SetAttrs) -> FileAttrs:
        """Change attributes of an open file."""
        handle = self.handles.file(name)
        handle.folder.require_writable()
        resized = bool(change.mask & SetMask.SIZE)
        changes = self.begin_write(handle) if resized else self.begin_open(handle, change=True)
        try:
            if change.mask & SetMask.SIZE:
                if not handle.writable:
                    raise os_error(errno.EINVAL)
                resize(handle, change.size)
            tree, status = handle.folder.tree, os.fstat(handle.fd)
            if _set_owner_for_file_attributes(tree, change, status) or change.mask & SetMask.MODE:
                mode = change.mode if change.mask & SetMask.MODE else status.st_mode
                os.fchmod(handle.fd, mode & PERMISSIONS)
            _set_times_for_file_attributes(change, os.fstat(handle.fd), descriptor=handle.fd)
            return tree.attrs_of(os.fstat(handle.fd))
        finally:
            handle.folder.tree.leases.end(self.session, changes)


def _set_owner_for_file_attributes(tree: Tree, change: SetAttrs, status: os.stat_result) -> bool:
    """Change the owner; whether one was named, so that the time of change has to change."""
    uid = change.uid if change.mask & SetMask.UID else None
    gid = change.gid if change.mask & SetMask.GID else None
    tree.owners.set(status.st_ino, uid, gid)
    return uid is not None or gid is not None


def _set_times_for_file_attributes(
    change: SetAttrs,
    status: os.stat_result,
    *,
    name: bytes = b"",
    directory: int | None = None,
    descriptor: int | None = None,
) -> None:
    """Change times, of a name (a link in ``directory`` is not followed) or an open file."""
    mask = change.mask
    both = SetMask.ATIME | SetMask.MTIME | SetMask.ATIME_NOW | SetMask.MTIME_NOW
    if not mask & both:
        return
    target: bytes | int = name if descriptor is None else descriptor
    follow = directory is None
    if mask & SetMask.ATIME_NOW and mask & SetMask.MTIME_NOW:
        if directory is None:
            os.utime(target)
        else:
            os.utime(target, dir_fd=directory, follow_symlinks=False)
        return
    now = time.time_ns()
    atime, mtime = status.st_atime_ns, status.st_mtime_ns
    if mask & SetMask.ATIME:
        atime = change.atime_ns
    elif mask & SetMask.ATIME_NOW:
        atime = now
    if mask & SetMask.MTIME:
        mtime = change.mtime_ns
    elif mask & SetMask.MTIME_NOW:
        mtime = now
    if follow:
        os.utime(target, ns=(atime, mtime))
    else:
        os.utime(target, ns=(atime, mtime), dir_fd=directory, follow_symlinks=False)
