"""The directory trees of people and groups on this server's disk.

    <files folder>/<tree>/files/private
    <files folder>/<tree>/files/instances/<instance>
    <files folder>/<tree>/files/shared             a group's
    <files folder>/<tree>/snapshots/…              see ``snapshots.py``
    <files folder>/<tree>/owners.sqlite            see ``owners.py``

Each tree has one lease manager, one count of its bytes, and one record of each file that is open.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from dit4c_p2p.fileserver.lease_service import LeaseService
from dit4c_p2p.fileserver.leases import Notice
from dit4c_p2p.fileserver.owners import Owners
from dit4c_p2p.fileserver.quota import BLOCK_BYTES, Usage, cost_bytes
from dit4c_p2p.fileserver.syscalls import open_beneath, os_error
from dit4c_p2p.sftp.operations import FileAttrs

# Namespace changes of one directory are done one after the other; of these locks each has its part.
_LOCKS = 64
_GROUP_FOLDER = "shared"
_FILES, _SNAPSHOTS, _OWNERS = "files", "snapshots", "owners.sqlite"


class OpenFile:
    """One file that is open in some session.

    :ivar size: its size as counted by the quota; changed under ``lock``.
    :ivar parents: ids of the directories that it is known to be an entry of.
    :ivar handles: how many handles there are.
    :ivar removed: it has no name any more, and counts until it is closed.
    """

    __slots__ = ("file_id", "handles", "lock", "parents", "removed", "size")

    def __init__(self, file_id: int, size: int) -> None:
        self.file_id = file_id
        self.size = size
        self.parents: set[int] = set()
        self.handles = 0
        self.removed = False
        self.lock = threading.Lock()


class Tree:
    """A person's or a group's files.

    :param path: its folder; it is made.
    """

    def __init__(self, name: str, path: Path, leases: LeaseService) -> None:
        self.name = name
        self.leases = leases
        self.usage = Usage()
        self.files_path = path / _FILES
        self.snapshots_path = path / _SNAPSHOTS
        for folder in (path, self.files_path):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.root_fd = os.open(self.files_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.owners = Owners(path / _OWNERS, self.root_fd)
        self._open: dict[int, OpenFile] = {}
        self._open_lock = threading.Lock()
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def attrs_of(self, status: os.stat_result) -> FileAttrs:
        """Attributes of one of its files as clients see them."""
        return FileAttrs(
            status.st_ino,
            status.st_mode,
            status.st_nlink,
            status.st_size,
            status.st_blocks,
            status.st_atime_ns,
            status.st_mtime_ns,
            status.st_ctime_ns,
            *self.owners.get(status.st_ino),
        )

    def folder_fd(self, folder: str, *, snapshots: bool = False) -> int:
        """Open a folder of the tree, which is made if it is missing; the caller closes it.

        :param folder: as in :class:`messages.grants.FolderGrant`; empty: the whole of a group's.
        :param snapshots: open the folder's snapshots instead.
        :raises OSError: it can't be made.
        """
        if snapshots:
            self.snapshots_path.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self.snapshots_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            descriptor = os.dup(self.root_fd)
        try:
            for name in (folder or _GROUP_FOLDER).split("/"):
                if name in ("", ".", ".."):
                    raise os_error(errno.EINVAL)
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                    if not snapshots:
                        self.usage.add(BLOCK_BYTES)
                inner = open_beneath(
                    descriptor, name.encode(), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
                )
                os.close(descriptor)
                descriptor = inner
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def lock_directories(self, *directories: int) -> ExitStack:
        """Locks held while names in these directories change, as a context to enter."""
        stack = ExitStack()
        for number in sorted({one % _LOCKS for one in directories}):
            stack.enter_context(self._locks[number])
        return stack

    # ---- open files

    def opened(self, file_id: int, size: int, parent: int) -> OpenFile:
        """A handle of the file was made; ``size`` counts only for the first."""
        with self._open_lock:
            file = self._open.get(file_id)
            if file is None:
                file = self._open[file_id] = OpenFile(file_id, size)
            file.handles += 1
            file.parents.add(parent)
            return file

    def closed(self, file: OpenFile) -> None:
        """A handle of the file was closed."""
        with self._open_lock:
            file.handles -= 1
            last = file.handles == 0
            if last:
                del self._open[file.file_id]
        if last and file.removed:
            self.owners.forget(file.file_id)
            self.usage.give_back(cost_bytes(file.size))

    def find_open(self, file_id: int) -> OpenFile | None:
        """The file's record, if it is open."""
        return self._open.get(file_id)

    def seen_in(self, file_id: int, parent: int) -> None:
        """A file was found in a directory: who changes it through a handle has to know."""
        file = self._open.get(file_id)
        if file is not None:
            file.parents.add(parent)

    def removed(self, file_id: int, size: int) -> None:
        """A file has lost its last name: it counts no more, or not after its last handle."""
        with self._open_lock:
            file = self._open.get(file_id)
            if file is not None:
                file.removed = True
                return
        self.owners.forget(file_id)
        self.usage.give_back(cost_bytes(size))

    def removed_bytes(self) -> int:
        """What the files count that have no name any more and are open still."""
        with self._open_lock:
            return sum(cost_bytes(file.size) for file in self._open.values() if file.removed)

    def close(self) -> None:
        """Let the folder go."""
        self.owners.close()
        os.close(self.root_fd)


class Trees:
    """All trees of this server, opened when they are first needed.

    :param folder: where they are; it is made.
    :param send: sends notices of leases to their sessions; called on the loop.
    :param opened: told of each tree when it is opened.
    """

    def __init__(
        self,
        folder: Path,
        send: Callable[[list[Notice]], None],
        opened: Callable[[Tree], None] = lambda tree: None,
    ) -> None:
        self._folder = folder
        self._send = send
        self._opened = opened
        self._trees: dict[str, Tree] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, name: str) -> Tree:
        """A tree by its name, ``user-<id>`` or ``group-<id>``; called on the loop.

        :raises OSError: its folder can't be made.
        """
        tree = self._trees.get(name)
        if tree is None:
            leases = LeaseService(asyncio.get_running_loop(), self._send)
            tree = self._trees[name] = Tree(name, self._folder / name, leases)
            self._opened(tree)
        return tree

    def paths(self, name: str) -> tuple[Path, Path]:
        """Where a tree's files are, and its snapshots."""
        return self._folder / name / _FILES, self._folder / name / _SNAPSHOTS

    def names_on_disk(self) -> list[str]:
        """The names of all trees that have ever been opened here."""
        return sorted(path.name for path in self._folder.iterdir() if (path / _FILES).is_dir())

    def all(self) -> Iterable[Tree]:
        """Those that have been opened."""
        return list(self._trees.values())

    def close(self) -> None:
        """Let all folders go."""
        for tree in self._trees.values():
            tree.close()
        self._trees.clear()
