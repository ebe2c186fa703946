"""What a session has open."""

import errno
import os
import threading
from collections.abc import Iterator

from dit4c_p2p.fileserver.layout import Folder, VirtualFolder
from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.fileserver.trees import OpenFile


class FileHandle:
    """An open file. It is closed once, after the operations that use it.

    :ivar readable: whether it may be read by its flags; ``writable`` the same.
    :ivar append: every write goes to the file's end.
    :ivar opened_at: the point of the tree's changes at which the file was opened.
    """

    __slots__ = ("append", "fd", "file", "folder", "opened_at", "readable", "writable")

    def __init__(
        self,
        folder: Folder,
        fd: int,
        file: OpenFile,
        *,
        readable: bool,
        writable: bool,
        append: bool,
    ) -> None:
        self.folder = folder
        self.fd = fd
        self.file = file
        self.readable = readable
        self.writable = writable
        self.append = append
        self.opened_at = folder.tree.leases.point

    def close(self) -> None:
        """Close the descriptor; called once."""
        os.close(self.fd)
        self.folder.tree.closed(self.file)


class DirectoryHandle:
    """A directory that is being listed: one thread at a time reads on.

    :ivar fd: its descriptor; -1 for a virtual folder.
    """

    __slots__ = ("_entries", "fd", "file_id", "folder", "kept", "virtual")

    def __init__(
        self, folder: Folder | None, fd: int, file_id: int, virtual: VirtualFolder | None = None
    ) -> None:
        self.folder = folder
        self.fd = fd
        self.file_id = file_id
        self.virtual = virtual
        # Names that were read and did not fit into the reply.
        self.kept: list[bytes] = []
        if virtual is not None:
            self._entries: Iterator[bytes] = iter(virtual.names)
        else:
            self._entries = _names_for_handles(fd)

    def next_name(self) -> bytes | None:
        """The next entry's name; None after the last.

        :raises OSError: the directory can't be read.
        """
        if self.kept:
            return self.kept.pop()
        return next(self._entries, None)

    def close(self) -> None:
        """Close the descriptor; called once."""
        close = getattr(self._entries, "close", None)
        if close is not None:
            close()
        if self.fd >= 0:
            os.close(self.fd)


def _names_for_handles(descriptor: int) -> Iterator[bytes]:
    with os.scandir(descriptor) as entries:
        for entry in entries:
            yield os.fsencode(entry.name)


Handle = FileHandle | DirectoryHandle


class HandleBudget:
    """How many handles all sessions may have together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.lock = threading.Lock()


class HandleTable:
    """The handles of one session, by the name that its client uses.

    :param most: how many it may have.
    """

    def __init__(self, most: int, budget: HandleBudget) -> None:
        self._most = most
        self._budget = budget
        self._handles: dict[bytes, Handle] = {}
        self._last = 0
        self._lock = threading.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._handles)

    def require_room(self) -> None:
        """:raises OSError: EMFILE (the session has too many) or ENFILE (all have)."""
        if len(self._handles) >= self._most:
            raise os_error(errno.EMFILE)
        if self._budget.used >= self._budget.most:
            raise os_error(errno.ENFILE)

    def add(self, handle: Handle) -> bytes:
        """Name a handle; it is closed at once where the session has ended."""
        with self._lock:
            if not self._closed:
                self._last += 1
                name = self._last.to_bytes(8, "big")
                self._handles[name] = handle
                with self._budget.lock:
                    self._budget.used += 1
                return name
        handle.close()
        raise os_error(errno.EBADF)

    def get(self, name: bytes) -> Handle:
        """:raises OSError: EBADF."""
        handle = self._handles.get(name)
        if handle is None:
            raise os_error(errno.EBADF)
        return handle

    def file(self, name: bytes) -> FileHandle:
        """A handle of a file.

        :raises OSError: EBADF; EACCES where its folder was taken away.
        """
        handle = self._handles.get(name)
        if not isinstance(handle, FileHandle):
            raise os_error(errno.EBADF)
        if handle.folder.taken_away:
            raise os_error(errno.EACCES)
        return handle

    def remove(self, name: bytes) -> Handle:
        """Take a handle out, to be closed.

        :raises OSError: EBADF.
        """
        with self._lock:
            handle = self._handles.pop(name, None)
        if handle is None:
            raise os_error(errno.EBADF)
        with self._budget.lock:
            self._budget.used -= 1
        return handle

    def close(self) -> None:
        """Close all, and take no more; called when nothing of the session is under way."""
        with self._lock:
            self._closed = True
            handles, self._handles = list(self._handles.values()), {}
        with self._budget.lock:
            self._budget.used -= len(handles)
        for handle in handles:
            handle.close()
