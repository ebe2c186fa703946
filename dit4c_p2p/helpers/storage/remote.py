"""What the file system asks of a file server, whichever kind it is."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes
from dit4c_p2p.helpers.storage.leases import HeldLease, LeaseSession
from dit4c_p2p.helpers.storage.sftp_client import SftpClient
from dit4c_p2p.sftp.compound import Operation, Result
from dit4c_p2p.sftp.extensions import LeaseKind, Notice
from dit4c_p2p.sftp.openssh import StatVfs


class Entry(NamedTuple):
    """One name in a folder."""

    name: bytes
    attributes: Attributes


class Leased(NamedTuple):
    """A folder's attributes, and the lease that was granted on it, if one was."""

    attributes: Attributes
    lease: HeldLease | None


class Made(NamedTuple):
    """What was made, and what its server says besides: its folder afterwards, a lease on it."""

    attributes: Attributes
    parent: Attributes | None = None
    lease: HeldLease | None = None


class Found(NamedTuple):
    """A file's attributes, and its folder's lease where it was wished for."""

    attributes: Attributes
    folder: Leased | None = None


class Listed(NamedTuple):
    """Some entries of a folder; the first time with its lease where it was wished for."""

    entries: Sequence[Entry]
    folder: Leased | None = None


class Whole(NamedTuple):
    """A file with all its contents."""

    attributes: Attributes
    data: bytes


class Opened(NamedTuple):
    """A file that was opened, its attributes then, its first bytes and its folder's lease if they
    were wished for.

    ``created``: the server says that it was not there before. ``parent``: its folder afterwards.
    """

    handle: bytes
    attributes: Attributes
    start: bytes = b""
    created: bool = False
    folder: Leased | None = None
    parent: Attributes | None = None


class Remote(Protocol):
    """One session with a file server. Paths are the server's.

    Methods raise :class:`OSError` with the server's error and ``ConnectionGone``. Where one takes
    ``folder``, a lease on the folder of that path is wished for; it counts for the answer.

    :ivar keeps_owners: whether files can be given to other users and groups.
    :ivar on_notice: told what the server says of its leases.
    """

    keeps_owners: bool
    client: SftpClient
    on_notice: Callable[[Notice], None]

    @property
    def leases(self) -> LeaseSession | None:
        """None: the server grants none."""

    async def getattr(self, path: bytes) -> Attributes:
        """Attributes; a link is not followed."""

    async def look_up(self, path: bytes, folder: bytes | None) -> Found:
        """Attributes; a link is not followed."""

    async def lease(self, path: bytes, kind: LeaseKind) -> Leased:
        """A folder's attributes, and a lease on it, or a lesser one."""

    @property
    def heard_ns(self) -> int:
        """When the last request was sent that was answered, by the server's clock."""

    async def run_ordered(self, operations: Sequence[Operation]) -> list[Result]:
        """The results of operations that are carried out in order, whichever of them fail."""

    async def give_back(self, file_id: int, seq: int) -> None:
        """Give a lease back, after every request that was sent before."""

    async def renew(self) -> None:
        """Have the leases last longer."""

    async def fgetattr(self, handle: bytes) -> Attributes:
        """Attributes of an open file."""

    async def setattr(
        self, path: bytes, handle: bytes | None, changes: Changes, now: Attributes
    ) -> Attributes:
        """Change attributes of an open file, or of a path; returns them afterwards."""

    async def open(
        self,
        path: bytes,
        flags: int,
        mode: int | None = None,
        *,
        ahead: int = 0,
        folder: bytes | None = None,
    ) -> Opened:
        """Open a file; ``flags`` are of ``OpenFlag``, ``mode`` is for one that is made.

        :param ahead: so many of its first bytes are wished for; a server may leave them out.
        """

    async def reopen(self, path: bytes, flags: int, file_id: int, since_ns: int) -> Opened:
        """Open a file again, to write what was written before ``since_ns`` (the server's clock).

        :raises OSError: ``CHANGED_BY_OTHERS``, ESTALE, ENOENT: it is not what it was.
        """

    async def run_unchanged(
        self, operation: Operation, path: bytes, file_id: int, since_ns: int
    ) -> Result:
        """The result of an operation, if the file at ``path`` is what it was; see :meth:`reopen`.

        :raises OSError: it is not.
        """

    async def read_files(self, paths: Sequence[bytes]) -> Sequence[Whole | None]:
        """Small files whole; None where one can't be had so."""

    def list_folder(self, path: bytes, *, lease: bool = False) -> AsyncIterator[Listed]:
        """The entries of a folder, some at a time, without ``.`` and ``..``."""

    async def unlink(self, path: bytes) -> None:
        """Remove a name that is not a folder's."""

    async def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""

    async def mkdir(self, path: bytes, mode: int) -> Made:
        """Make a folder, and wish for a lease on it."""

    async def mknod(self, path: bytes, mode: int) -> Made:
        """Make a FIFO, a socket or an empty file."""

    async def rename(self, old: bytes, new: bytes, flags: int) -> None:
        """Rename as ``renameat2(2)`` does."""

    async def link(self, old: bytes, new: bytes) -> Attributes:
        """One more name for a file."""

    async def symlink(self, target: bytes, path: bytes) -> Made:
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
