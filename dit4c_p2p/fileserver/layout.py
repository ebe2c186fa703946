"""What a session sees: a virtual root whose folders lead to folders of trees.

    /private   /instance   /shared/<group>                 an instance
    /private   /instances/<instance>   /shared/<group>     a person

Below each of these is ``.snapshots``, read-only, which listings leave out.

Paths are taken lexically first (``..`` never leads above the root); from a tree's folder on, the
rest of the path is resolved by the kernel beneath that folder.
"""

import errno
import os
import stat
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.fileserver.trees import Tree
from dit4c_p2p.messages.snapshot_names import SNAPSHOTS
from dit4c_p2p.sftp.extensions import Grant, LeaseKind, RecalledLease
from dit4c_p2p.sftp.operations import FileAttrs

Parts = tuple[bytes, ...]

# Ids of virtual folders: no file system of a disk uses them.
_VIRTUAL_IDS = 1 << 63


class Folder:
    """A folder of a tree at its place in the virtual root; it is opened when it is first used.

    :ivar fd: its descriptor, open for paths only, between :meth:`enter` and :meth:`leave`.
    :ivar file_id: its id, then.
    :ivar writable: whether the session may change something in it.
    :ivar taken_away: the session may not come in any more.
    :ivar history: its snapshots; None: it is such itself.
    """

    def __init__(
        self, place: Parts, tree: Tree, folder: str, writable: bool, *, snapshots: bool = False
    ) -> None:
        self.place = place
        self.tree = tree
        self.folder = folder
        self.writable = writable
        self.taken_away = False
        self.fd = -1
        self.file_id = 0
        self._users = 0
        self._lock = threading.Lock()
        self._snapshots = snapshots
        self.history: Folder | None = None
        if not snapshots:
            inner = (*place, SNAPSHOTS)
            self.history = Folder(inner, tree, folder, writable=False, snapshots=True)

    def enter(self) -> None:
        """An operation uses the folder.

        :raises OSError: EACCES, the folder was taken away; or it can't be opened.
        """
        with self._lock:
            if self.taken_away:
                raise os_error(errno.EACCES)
            if self.fd < 0:
                self.fd = self.tree.folder_fd(self.folder, snapshots=self._snapshots)
                self.file_id = os.fstat(self.fd).st_ino
            self._users += 1

    def leave(self) -> None:
        """The operation has ended."""
        with self._lock:
            self._users -= 1
            self._close_unused()

    def take_away(self) -> None:
        """Let nobody in any more; the operation that is the last to end closes the descriptor."""
        with self._lock:
            self.taken_away = True
            self._close_unused()
        if self.history is not None:
            self.history.take_away()

    def status(self) -> os.stat_result:
        """Of the folder, which is not kept open for it.

        :raises OSError: EACCES, the folder was taken away; or it can't be opened.
        """
        with self._lock:
            if self.taken_away:
                raise os_error(errno.EACCES)
            if self.fd >= 0:
                return os.fstat(self.fd)
            descriptor = self.tree.folder_fd(self.folder)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _close_unused(self) -> None:
        if self.taken_away and not self._users and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def require_writable(self) -> None:
        """:raises OSError: EROFS."""
        if not self.writable:
            raise os_error(errno.EROFS)


@dataclass(frozen=True)
class VirtualFolder:
    """A folder that is on no disk."""

    place: Parts
    names: Parts

    @property
    def attrs(self) -> FileAttrs:
        """Its attributes, which change only with its names."""
        text = b"/".join(self.place)
        file_id = _VIRTUAL_IDS | zlib.crc32(text)
        changed = zlib.crc32(b"\0".join(self.names))
        mode = stat.S_IFDIR | 0o555
        nlink = 2 + len(self.names)
        return FileAttrs(file_id, mode, nlink, 4096, 8, changed, changed, changed)


def split_session_path(path: bytes) -> Parts:
    """The names of a path from the root; ``.`` is left out, ``..`` takes one off.

    :raises OSError: EINVAL, a NUL is in it.
    """
    if b"\0" in path:
        raise os_error(errno.EINVAL)
    parts: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            if parts:
                parts.pop()
        elif name not in (b"", b"."):
            parts.append(name)
    return tuple(parts)


class View:
    """The folders of one session; replaced as a whole when its grants change.

    :ivar changes: what :class:`Sessions` had counted when the grants were asked for.
    """

    changes = 0

    def __init__(self, folders: Iterable[Folder]) -> None:
        self.folders = {folder.place: folder for folder in folders}
        names: dict[Parts, set[bytes]] = {(): set()}
        for place in self.folders:
            for depth in range(len(place)):
                names.setdefault(place[:depth], set()).add(place[depth])
        self.virtual = {
            place: VirtualFolder(place, tuple(sorted(inner))) for place, inner in names.items()
        }

    def find(self, parts: Parts) -> tuple[Folder, Parts] | VirtualFolder:
        """The folder that a path is in, and the rest of the path; or a virtual folder.

        :raises OSError: ENOENT.
        """
        for depth in range(1, min(len(parts), 2) + 1):
            folder = self.folders.get(parts[:depth])
            if folder is not None:
                rest = parts[depth:]
                if rest[:1] == (SNAPSHOTS,) and folder.history is not None:
                    return folder.history, rest[1:]
                return folder, rest
        virtual = self.virtual.get(parts)
        if virtual is None:
            raise os_error(errno.ENOENT)
        return virtual

    @property
    def trees(self) -> set[Tree]:
        """The trees that its folders belong to."""
        return {folder.tree for folder in self.folders.values()}


class VirtualLeases:
    """READ leases of one session on virtual folders. They change only with the session's grants,
    and nobody waits for them to come back.
    """

    def __init__(self) -> None:
        self._held: dict[int, int] = {}
        self._seq = 0

    def grant(self, file_id: int, kind: int) -> Grant:
        """Grant a READ lease where any was wished for."""
        if kind == LeaseKind.NONE:
            return Grant()
        self._seq += 1
        self._held[file_id] = self._seq
        return Grant(LeaseKind.READ, self._seq)

    def recall(self, send: Callable[[list[RecalledLease]], None]) -> None:
        """The virtual folders have changed."""
        held, self._held = self._held, {}
        if held:
            send([RecalledLease(one, seq, LeaseKind.NONE) for one, seq in held.items()])
