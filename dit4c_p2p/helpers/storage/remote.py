"""What the file system asks of a file server, whichever kind it is."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes
from dit4c_p2p.helpers.storage.sftp_client import SftpClient
from dit4c_p2p.sftp.openssh import StatVfs


class Entry(NamedTuple):
    """One name in a folder."""

    name: bytes
    attributes: Attributes


class Opened(NamedTuple):
    """A file that was opened, its attributes then, and its first bytes if they were wished for.

    ``created``: the server says that it was not there before.
    """

    handle: bytes
    attributes: Attributes
    start: bytes = b""
    created: bool = False


class Remote(Protocol):
    """One session with a file server. Paths are the server's.

    Methods raise :class:`OSError` with the server's error and ``ConnectionGone``.

    :ivar keeps_owners: whether files can be given to other users and groups.
    """

    keeps_owners: bool
    client: SftpClient

    async def getattr(self, path: bytes) -> Attributes:
        """Attributes; a link is not followed."""

    async def fgetattr(self, handle: bytes) -> Attributes:
        """Attributes of an open file."""

    async def setattr(
        self, path: bytes, handle: bytes | None, changes: Changes, now: Attributes
    ) -> Attributes:
        """Change attributes of an open file, or of a path; returns them afterwards."""

    async def open(
        self, path: bytes, flags: int, mode: int | None = None, *, ahead: int = 0
    ) -> Opened:
        """Open a file; ``flags`` are of ``OpenFlag``, ``mode`` is for one that is made.

        :param ahead: so many of its first bytes are wished for; a server may leave them out.
        """

    def list_folder(self, path: bytes) -> AsyncIterator[Sequence[Entry]]:
        """The entries of a folder, some at a time, without ``.`` and ``..``."""

    async def unlink(self, path: bytes) -> None:
        """Remove a name that is not a folder's."""

    async def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""

    async def mkdir(self, path: bytes, mode: int) -> Attributes:
        """Make a folder."""

    async def mknod(self, path: bytes, mode: int) -> Attributes:
        """Make a FIFO, a socket or an empty file."""

    async def rename(self, old: bytes, new: bytes, flags: int) -> None:
        """Rename as ``renameat2(2)`` does."""

    async def link(self, old: bytes, new: bytes) -> Attributes:
        """One more name for a file."""

    async def symlink(self, target: bytes, path: bytes) -> Attributes:
        """Make a symbolic link."""

    async def readlink(self, path: bytes) -> bytes:
        """Where a link points."""

    async def fsync(self, handle: bytes) -> None:
        """What was written to an open file is on the server's disk."""

    async def sync_tree(self, path: bytes, written: Sequence[bytes]) -> None:
        """What was written below a folder is on the server's disk.

        :param written: paths of files that were written since the last time.
        """

    async def statfs(self, path: bytes) -> StatVfs:
        """Room of the file system that ``path`` is on."""

    async def getxattr(self, path: bytes, name: bytes) -> bytes:
        """An extended attribute's value."""

    async def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """Set an extended attribute."""

    async def listxattr(self, path: bytes) -> list[bytes]:
        """Names of the extended attributes."""

    async def removexattr(self, path: bytes, name: bytes) -> None:
        """Remove an extended attribute."""
