"""Everything that one session can do with files. It blocks, and is run in worker threads.

Each method either does its work, or raises before it has changed anything: OSError with the errno,
or :class:`LeaseConflict`, after which it is called again.
"""

import errno
import os

from dit4c_p2p.fileserver.attributes import Attributes
from dit4c_p2p.fileserver.layout import Folder, VirtualFolder
from dit4c_p2p.fileserver.names import Names
from dit4c_p2p.fileserver.open_files import OpenFiles
from dit4c_p2p.fileserver.quota import BLOCK_BYTES
from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.sftp.openssh import StatVfs

_MAX_NAME_BYTES = 255
_READ_ONLY, _NO_SETUID = 1, 2
_USER_XATTRS = b"user."


class Files(Attributes, OpenFiles, Names):
    """The files of one session."""

    def room(self, path: bytes) -> StatVfs:
        """Room of the tree that a path is in: its quota, as far as the disk has so much."""
        place = self.place_or_virtual(path)
        if isinstance(place, VirtualFolder):
            return _no_room_for_session_files()
        with place:
            return _room_of_for_session_files(place.folder)

    def room_open(self, name: bytes) -> StatVfs:
        """The same for a handle."""
        folder = self.handles.get(name).folder
        return (
            _no_room_for_session_files() if folder is None else _room_of_for_session_files(folder)
        )

    # ---- extended attributes

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        """The value of an extended attribute."""
        _check_xattr_for_session_files(name)
        with self.place(path) as place:
            self.begin(place, reads=place.parents)
            descriptor = place.open(os.O_PATH)
            try:
                return os.getxattr(f"/proc/self/fd/{descriptor}", name)
            finally:
                os.close(descriptor)

    def list_xattrs(self, path: bytes) -> list[bytes]:
        """Names of the extended attributes that clients may see."""
        place = self.place_or_virtual(path)
        if isinstance(place, VirtualFolder):
            return []
        with place:
            self.begin(place, reads=place.parents)
            descriptor = place.open(os.O_PATH)
            try:
                names = os.listxattr(f"/proc/self/fd/{descriptor}")
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    return []
                raise
            finally:
                os.close(descriptor)
        return [name for name in map(os.fsencode, names) if name.startswith(_USER_XATTRS)]

    def set_xattr(self, path: bytes, name: bytes, value: bytes | None, flags: int = 0) -> None:
        """Set an extended attribute; None removes it."""
        _check_xattr_for_session_files(name)
        with self.place(path) as place:
            place.folder.require_writable()
            self.begin(place, reads=place.parents)
            changes = (place.status().st_ino, *place.parents)
            self.begin(place, changes=changes)
            try:
                descriptor = place.open(os.O_PATH)
                try:
                    own = f"/proc/self/fd/{descriptor}"
                    if value is None:
                        os.removexattr(own, name)
                    else:
                        os.setxattr(own, name, value, flags & 3)
                finally:
                    os.close(descriptor)
            finally:
                self.end(place, changes)


def _check_xattr_for_session_files(name: bytes) -> None:
    """:raises OSError: EOPNOTSUPP, of another name space than the user's."""
    if not name.startswith(_USER_XATTRS) or b"\0" in name:
        raise os_error(errno.EOPNOTSUPP)


def _room_of_for_session_files(folder: Folder) -> StatVfs:
    disk = os.fstatvfs(folder.fd)
    usage = folder.tree.usage
    free = disk.f_bavail * disk.f_frsize // BLOCK_BYTES
    used = usage.used_bytes // BLOCK_BYTES
    if usage.limit_bytes is None:
        blocks = used + free
    else:
        blocks = usage.limit_bytes // BLOCK_BYTES
        free = min(free, max(0, blocks - used))
    flags = _NO_SETUID | (0 if folder.writable else _READ_ONLY)
    return StatVfs(
        *(BLOCK_BYTES, BLOCK_BYTES, blocks, free, free),
        *(disk.f_files, disk.f_ffree, disk.f_favail),
        *(0, flags, _MAX_NAME_BYTES),
    )


def _no_room_for_session_files() -> StatVfs:
    """Of a virtual folder."""
    return StatVfs(
        *(BLOCK_BYTES, BLOCK_BYTES, 0, 0, 0),
        *(0, 0, 0),
        *(0, _READ_ONLY | _NO_SETUID, _MAX_NAME_BYTES),
    )
