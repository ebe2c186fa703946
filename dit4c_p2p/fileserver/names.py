"""Directories and names: listing, making, renaming and removing; see ``files.py``."""

import errno
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from dit4c_p2p.fileserver.handles import DirectoryHandle
from dit4c_p2p.fileserver.layout import Parts, VirtualFolder
from dit4c_p2p.fileserver.leases import NO_GRANT
from dit4c_p2p.fileserver.places import Place
from dit4c_p2p.fileserver.quota import BLOCK_BYTES
from dit4c_p2p.fileserver.session_files import (
    PERMISSIONS,
    Found,
    Overtaken,
    SessionFiles,
)
from dit4c_p2p.fileserver.syscalls import os_error, rename_with_flags, sync_filesystem
from dit4c_p2p.sftp.extensions import Grant, LeaseKind
from dit4c_p2p.sftp.operations import FileAttrs, RenameFlag

_KINDS_OF_NODES = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, 0)


class Made(NamedTuple):
    """A new name, and the directory that it is in, afterwards."""

    attrs: FileAttrs
    parent: FileAttrs
    grant: Grant


class Renamed(NamedTuple):
    """What was renamed, and both directories, afterwards."""

    attrs: FileAttrs
    old_parent: FileAttrs
    new_parent: FileAttrs


class Names(SessionFiles):
    """Directories and their entries."""

    def open_directory(
        self, path: bytes, *, lease: int = LeaseKind.NONE, follow: bool = False
    ) -> tuple[DirectoryHandle, Found]:
        """Begin to list a directory; the handle is not named yet."""
        place = self.place_or_virtual(path, follow=follow)
        if isinstance(place, VirtualFolder):
            attrs = place.attrs
            grant = self.virtual_leases.grant(attrs.file_id, lease)
            return DirectoryHandle(None, -1, attrs.file_id, place), Found(attrs, grant)
        with place:
            self.begin(place, reads=place.parents)
            tree = place.folder.tree
            descriptor = place.open(os.O_RDONLY | os.O_DIRECTORY)
            try:
                file_id = os.fstat(descriptor).st_ino
                tree.leases.begin_listing(self.session, file_id)
                grant = tree.leases.acquire(self.session, file_id, lease)
                found = Found(tree.attrs_of(os.fstat(descriptor)), grant)
                return DirectoryHandle(place.folder, descriptor, file_id), found
            except BaseException:
                os.close(descriptor)
                raise

    def entry(self, handle: DirectoryHandle, name: bytes) -> FileAttrs | None:
        """Attributes of one entry of a directory; None if it has gone meanwhile."""
        if handle.virtual is not None:
            return self._virtual_entry((*handle.virtual.place, name))
        assert handle.folder is not None
        if handle.folder.taken_away:
            raise os_error(errno.EACCES)
        try:
            status = os.stat(name, dir_fd=handle.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(status.st_mode):
            handle.folder.tree.seen_in(status.st_ino, handle.file_id)
        return handle.folder.tree.attrs_of(status)

    def _virtual_entry(self, place: Parts) -> FileAttrs | None:
        try:
            found = self.view().find(place)
        except FileNotFoundError:
            return None  # the view has changed meanwhile
        if isinstance(found, VirtualFolder):
            return found.attrs
        return found[0].tree.attrs_of(found[0].status())

    def sync_tree(self, path: bytes) -> None:
        """Everything below a directory is on the disk."""
        place = self.place_or_virtual(path)
        if isinstance(place, VirtualFolder):
            for folder in self.view().folders.values():
                if folder.place[: len(place.place)] == place.place:
                    self.sync_tree(b"/" + b"/".join(folder.place))
            return
        with place:
            descriptor = place.open(os.O_RDONLY | os.O_DIRECTORY)
            try:
                sync_filesystem(descriptor)
            finally:
                os.close(descriptor)

    # ---- new names

    def make_directory(
        self, path: bytes, mode: int = 0o755, *, lease: int = LeaseKind.NONE
    ) -> Made:
        """Make a directory."""

        def make(place: Place) -> None:
            os.mkdir(place.name, 0o700, dir_fd=place.directory)
            descriptor = place.open(os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fchmod(descriptor, mode & PERMISSIONS)
            finally:
                os.close(descriptor)

        return self._make(path, make, lease)

    def make_symlink(self, target: bytes, path: bytes) -> Made:
        """Make a symbolic link; the target is kept as it is."""
        if b"\0" in target:
            raise os_error(errno.EINVAL)
        return self._make(path, lambda at: os.symlink(target, at.name, dir_fd=at.directory))

    def make_node(self, path: bytes, mode: int) -> Made:
        """Make a FIFO, a socket or an empty file.

        :raises OSError: EPERM for a device.
        """
        if stat.S_IFMT(mode) not in _KINDS_OF_NODES:
            raise os_error(errno.EPERM)

        def make(place: Place) -> None:
            os.mknod(place.name, mode, dir_fd=place.directory)
            descriptor = place.open(os.O_PATH)
            try:
                os.chmod(f"/proc/self/fd/{descriptor}", mode & PERMISSIONS)  # noqa: PTH101
            finally:
                os.close(descriptor)

        return self._make(path, make)

    def _make(
        self, path: bytes, make: Callable[[Place], None], lease: int = LeaseKind.NONE
    ) -> Made:
        with self.place(path) as place:
            if not place.name:
                raise os_error(errno.EEXIST)
            place.folder.require_writable()
            tree = place.folder.tree
            changes = place.parents
            self.begin(place, changes=changes)
            try:
                with tree.lock_directories(place.directory_id):
                    if place.status_or_none() is not None:
                        raise os_error(errno.EEXIST)
                    tree.usage.take(BLOCK_BYTES)
                    try:
                        make(place)
                    except BaseException:
                        tree.usage.give_back(BLOCK_BYTES)
                        raise
                    status = place.status()
                    tree.owners.forget(status.st_ino)
                    grant = tree.leases.acquire(self.session, status.st_ino, lease)
                parent = tree.attrs_of(place.directory_status())
                return Made(tree.attrs_of(status), parent, grant)
            finally:
                self.end(place, changes)

    def make_link(self, old: bytes, new: bytes) -> Made:
        """Make a hard link to a file that is no directory."""
        with self.place(old) as source, self.place(new) as place:
            source.require_name()
            if not place.name:
                raise os_error(errno.EEXIST)
            _require_same_folder(source, place)
            place.folder.require_writable()
            tree = place.folder.tree
            self.begin(source, reads=source.parents)
            status = source.status()
            if stat.S_ISDIR(status.st_mode):
                raise os_error(errno.EPERM)
            file_id = status.st_ino
            changes = _ids_for_directory(source.directory_id, place.directory_id, file_id)
            self.begin(place, changes=changes)
            try:
                with tree.lock_directories(source.directory_id, place.directory_id):
                    _require_unchanged_for_directory(source, status)
                    os.link(
                        *(source.name, place.name),
                        src_dir_fd=source.directory,
                        dst_dir_fd=place.directory,
                        follow_symlinks=False,
                    )
                    made = place.status()
                # Nobody's lease covers a file with two links, not even that of who made the second.
                tree.leases.withdraw(file_id)
                tree.seen_in(file_id, place.directory_id)
                parent = tree.attrs_of(place.directory_status())
                return Made(tree.attrs_of(made), parent, NO_GRANT)
            finally:
                self.end(place, changes)

    # ---- names that go

    def remove(self, path: bytes) -> FileAttrs:
        """Remove a file that is no directory; returns its directory afterwards."""
        return self._remove(path, directory=False)

    def remove_directory(self, path: bytes) -> FileAttrs:
        """Remove an empty directory; returns the one that it was in afterwards."""
        return self._remove(path, directory=True)

    def _remove(self, path: bytes, *, directory: bool) -> FileAttrs:
        with self.place(path) as place:
            place.require_name()
            place.folder.require_writable()
            self.begin(place, reads=place.parents)
            status = place.status()
            if stat.S_ISDIR(status.st_mode) != directory:
                raise os_error(errno.ENOTDIR if directory else errno.EISDIR)
            changes = _ids_for_directory(place.directory_id, status.st_ino)
            self.begin(place, changes=changes)
            try:
                with place.folder.tree.lock_directories(place.directory_id):
                    status = _require_unchanged_for_directory(place, status)
                    if directory:
                        os.rmdir(place.name, dir_fd=place.directory)
                    else:
                        os.unlink(place.name, dir_fd=place.directory)
                self._gone(place, status)
                return place.folder.tree.attrs_of(place.directory_status())
            finally:
                self.end(place, changes)

    def _gone(self, place: Place, status: os.stat_result) -> None:
        """Count what has lost a name; ``status`` is from before."""
        tree = place.folder.tree
        if stat.S_ISDIR(status.st_mode):
            tree.usage.give_back(BLOCK_BYTES)
            tree.leases.withdraw(status.st_ino)
            tree.owners.forget(status.st_ino)
        elif status.st_nlink == 1:
            tree.leases.changes_contents(self.session, status.st_ino)
            tree.removed(status.st_ino, status.st_size if stat.S_ISREG(status.st_mode) else 0)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> Renamed:
        """Rename as rename(2) does; ``flags`` is of :class:`RenameFlag`."""
        if flags not in (0, RenameFlag.NOREPLACE, RenameFlag.EXCHANGE):
            raise os_error(errno.EINVAL)
        with self.place(old) as source, self.place(new) as target:
            source.require_name()
            target.require_name()
            _require_same_folder(source, target)
            source.folder.require_writable()
            both = _ids_for_directory(source.directory_id, target.directory_id)
            self.begin(source, reads=both)
            status, replaced = source.status(), target.status_or_none()
            ids = [*both, status.st_ino]
            if replaced is not None:
                if flags == RenameFlag.NOREPLACE:
                    raise os_error(errno.EEXIST)
                ids.append(replaced.st_ino)
            changes = _ids_for_directory(*ids)
            self.begin(source, changes=changes)
            try:
                with source.folder.tree.lock_directories(*both):
                    status = _require_unchanged_for_directory(source, status)
                    _require_unchanged_for_directory(target, replaced)
                    self._rename(source, target, flags, replaced)
                self._renamed(source, target, status, replaced, flags)
                tree = source.folder.tree
                return Renamed(
                    tree.attrs_of(target.status_or_none() or status),
                    tree.attrs_of(source.directory_status()),
                    tree.attrs_of(target.directory_status()),
                )
            finally:
                self.end(source, changes)

    def _rename(
        self, source: Place, target: Place, flags: int, replaced: os.stat_result | None
    ) -> None:
        if flags == RenameFlag.EXCHANGE:
            if replaced is None:
                raise os_error(errno.ENOENT)
            rename_with_flags(source.directory, source.name, target.directory, target.name, flags)
            return
        os.rename(
            *(source.name, target.name),
            src_dir_fd=source.directory,
            dst_dir_fd=target.directory,
        )

    def _renamed(
        self,
        source: Place,
        target: Place,
        status: os.stat_result,
        replaced: os.stat_result | None,
        flags: int,
    ) -> None:
        """Keep open files, leases and the count in step."""
        tree = source.folder.tree
        if replaced is not None and replaced.st_ino == status.st_ino:
            return  # two links to one file: rename(2) leaves both
        if not stat.S_ISDIR(status.st_mode):
            tree.leases.changes_contents(self.session, status.st_ino)
            tree.seen_in(status.st_ino, target.directory_id)
            tree.leases.move(status.st_ino, target.directory_id)
        if replaced is None:
            return
        if flags == RenameFlag.EXCHANGE:
            if not stat.S_ISDIR(replaced.st_mode):
                tree.seen_in(replaced.st_ino, source.directory_id)
                tree.leases.move(replaced.st_ino, source.directory_id)
        else:
            self._gone(target, replaced)

    # ---- links

    def read_link(self, path: bytes) -> bytes:
        """A symbolic link's target."""
        with self.place(path) as place:
            place.require_name()
            self.begin(place, reads=place.parents)
            return os.readlink(place.name, dir_fd=place.directory)


def _ids_for_directory(*file_ids: int) -> tuple[int, ...]:
    """Each once."""
    return tuple(dict.fromkeys(file_ids))


def _require_same_folder(one: Place, other: Place) -> None:
    """:raises OSError: EXDEV, a file stays in its tree, and in its folder."""
    if one.folder is not other.folder:
        raise os_error(errno.EXDEV)


def _require_unchanged_for_directory(place: Place, before: os.stat_result | None) -> os.stat_result:
    """What is there under the directory's lock.

    :raises Overtaken: it is another file than the one whose leases were looked at.
    """
    now = place.status_or_none()
    if (now and now.st_ino) != (before and before.st_ino):
        raise Overtaken
    return now  # type: ignore[return-value]  # None only where ``before`` is
