"""Any SFTP version 3 server, with what it has of OpenSSH's extensions."""

import asyncio
import dataclasses
import errno
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes, from_attrs
from dit4c_p2p.helpers.storage.leases import LeaseSession
from dit4c_p2p.helpers.storage.remote import Entry, Found, Leased, Listed, Made, Opened, Whole
from dit4c_p2p.helpers.storage.sftp_client import SftpClient
from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.compound import Operation, Result
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.extensions import LeaseKind, Notice
from dit4c_p2p.sftp.openssh import FSYNC, LSETSTAT, POSIX_RENAME, StatVfs
from dit4c_p2p.sftp.operations import OWN_ID, RenameFlag

_PERMISSIONS = 0o7777
# Requests for the next entries of one folder that are sent ahead.
_LISTING_AHEAD = 8
_SYNC_AT_ONCE = 16


class PlainRemote:
    """One session with a server that has no extensions of this project.

    Version 3 has few errors: most are EIO, or what the operation most likely failed with.
    """

    keeps_owners = False
    leases: LeaseSession | None = None

    def __init__(self, client: SftpClient) -> None:
        self.client = client
        self.on_notice: Callable[[Notice], None] = lambda notice: None

    async def getattr(self, path: bytes) -> Attributes:
        """Attributes; a link is not followed."""
        return from_attrs(await self.client.lstat(path))

    async def look_up(self, path: bytes, folder: bytes | None) -> Found:
        """Attributes; there are no leases."""
        return Found(await self.getattr(path))

    async def lease(self, path: bytes, kind: LeaseKind) -> Leased:
        """Attributes; there are no leases."""
        return Leased(await self.getattr(path), None)

    @property
    def heard_ns(self) -> int:
        """Nobody asks for it."""
        return 0

    async def reopen(self, path: bytes, flags: int, file_id: int, since_ns: int) -> Opened:
        """Open a file again; who has changed it meanwhile is not known."""
        return await self.open(path, flags)

    async def run_unchanged(
        self, operation: Operation, path: bytes, file_id: int, since_ns: int
    ) -> Result:
        """Fails: without leases nothing is sent behind."""
        raise OSError(errno.EOPNOTSUPP, "the file server has no compound operations")

    async def run_ordered(self, operations: Sequence[Operation]) -> list[Result]:
        """Fails: without leases nothing is sent behind."""
        raise OSError(errno.EOPNOTSUPP, "the file server has no compound operations")

    async def give_back(self, file_id: int, seq: int) -> None:
        """Nothing: there are no leases."""

    async def renew(self) -> None:
        """Nothing: there are no leases."""

    async def read_files(self, paths: Sequence[bytes]) -> Sequence[Whole | None]:
        """None: it takes as long as opening them."""
        return [None] * len(paths)

    async def fgetattr(self, handle: bytes) -> Attributes:
        """Attributes of an open file."""
        return from_attrs(await self.client.fstat(handle))

    async def setattr(
        self, path: bytes, handle: bytes | None, changes: Changes, now: Attributes
    ) -> Attributes:
        """Change attributes of an open file, or of a path; returns them afterwards."""
        if changes.uid not in (None, OWN_ID) or changes.gid not in (None, OWN_ID):
            raise OSError(errno.EPERM, "the file server keeps no other owners")
        changes = dataclasses.replace(changes, uid=None, gid=None)
        if changes == Changes():
            # A change of owner that changes nothing: POSIX has it change the time of change.
            if now.kind == stat.S_IFLNK:
                return await self.getattr(path)
            changes = Changes(mode=now.mode & _PERMISSIONS)
        attrs = changes.to_attrs(now)
        if handle is not None:
            await self.client.fsetstat(handle, attrs)
            return await self.fgetattr(handle)
        if now.kind == stat.S_IFLNK:
            if LSETSTAT not in self.client.extensions or attrs.mode is not None:
                raise OSError(errno.EOPNOTSUPP, "a link's attributes can't be set")
            await self.client.lsetstat(path, attrs)
        else:
            await self.client.setstat(path, attrs)
        return await self.getattr(path)

    async def open(
        self,
        path: bytes,
        flags: int,
        mode: int | None = None,
        *,
        ahead: int = 0,
        folder: bytes | None = None,
    ) -> Opened:
        """Open a file; ``flags`` are of ``OpenFlag``, ``mode`` is for one that is made."""
        try:
            handle = await self.client.open(path, flags, Attrs(mode=mode))
        except OSError as error:
            if flags & OpenFlag.EXCL and error.errno == errno.EIO:
                raise OSError(errno.EEXIST, error.strerror) from None
            raise
        attributes = await self.fgetattr(handle)
        if mode is not None and flags & OpenFlag.EXCL and attributes.mode & _PERMISSIONS != mode:
            await self.client.fsetstat(handle, Attrs(mode=mode))
            attributes = await self.fgetattr(handle)
        return Opened(handle, attributes)

    async def list_folder(self, path: bytes, *, lease: bool = False) -> AsyncIterator[Listed]:
        """The entries of a folder, some at a time, without ``.`` and ``..``."""
        handle = await self.client.opendir(path)
        asked = deque(self.client.readdir(handle) for _ in range(_LISTING_AHEAD))
        try:
            while entries := await asked.popleft():
                asked.append(self.client.readdir(handle))
                yield Listed(
                    [
                        Entry(one.name, from_attrs(one.attrs))
                        for one in entries
                        if one.name not in (b".", b"..")
                    ]
                )
        finally:
            await asyncio.gather(*asked, self.client.close(handle), return_exceptions=True)

    async def unlink(self, path: bytes) -> None:
        """Remove a name that is not a folder's."""
        await self.client.remove(path)

    async def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        try:
            await self.client.rmdir(path)
        except OSError as error:
            raise _instead_for_plain_remote(error, errno.ENOTEMPTY) from None

    async def mkdir(self, path: bytes, mode: int) -> Made:
        """Make a folder."""
        try:
            await self.client.mkdir(path, Attrs(mode=mode))
        except OSError as error:
            raise _instead_for_plain_remote(error, errno.EEXIST) from None
        made = await self.getattr(path)
        if made.mode & _PERMISSIONS != mode:
            made = await self.setattr(path, None, Changes(mode=mode), made)
        return Made(made)

    async def mknod(self, path: bytes, mode: int) -> Made:
        """Make an empty file; version 3 knows no FIFOs and sockets."""
        if not stat.S_ISREG(mode):
            raise OSError(errno.EPERM, "the file server makes no such files")
        flags = OpenFlag.WRITE | OpenFlag.CREAT | OpenFlag.EXCL
        opened = await self.open(path, flags, mode & _PERMISSIONS)
        await self.client.close(opened.handle)
        return Made(opened.attributes)

    async def rename(self, old: bytes, new: bytes, flags: int) -> None:
        """Rename as ``renameat2(2)`` does, but for an exchange."""
        if flags & ~RenameFlag.NOREPLACE:
            raise OSError(errno.EINVAL, "the file server can't exchange files")
        if flags or POSIX_RENAME not in self.client.extensions:
            try:
                await self.client.rename(old, new)
            except OSError as error:
                raise _instead_for_plain_remote(error, errno.EEXIST) from None
        else:
            try:
                await self.client.posix_rename(old, new)
            except OSError as error:
                raise _instead_for_plain_remote(error, await self._why_not(old, new)) from None

    async def _why_not(self, old: bytes, new: bytes) -> int:
        """The error that a rename has most likely failed with."""
        try:
            source, target = await asyncio.gather(self.getattr(old), self.getattr(new))
        except OSError:
            return errno.EINVAL if new.startswith(old + b"/") else errno.EIO
        if source.is_folder and target.is_folder:
            return errno.EINVAL if new.startswith(old + b"/") else errno.ENOTEMPTY
        if target.is_folder:
            return errno.EISDIR
        return errno.ENOTDIR if source.is_folder else errno.EIO

    async def link(self, old: bytes, new: bytes) -> Attributes:
        """One more name for a file."""
        try:
            await self.client.hard_link(old, new)
        except OSError as error:
            raise _instead_for_plain_remote(error, errno.EEXIST) from None
        return await self.getattr(new)

    async def symlink(self, target: bytes, path: bytes) -> Made:
        """Make a symbolic link."""
        try:
            await self.client.symlink(target, path)
        except OSError as error:
            raise _instead_for_plain_remote(error, errno.EEXIST) from None
        return Made(await self.getattr(path))

    async def readlink(self, path: bytes) -> bytes:
        """Where a link points."""
        entries = await self.client.readlink(path)
        if len(entries) != 1:
            raise OSError(errno.EIO, "the file server gave no target of a link")
        return entries[0].name

    async def fsync(self, handle: bytes) -> None:
        """What was written to an open file is on the server's disk."""
        await self.client.fsync(handle)

    async def sync_tree(self, path: bytes, written: Sequence[bytes]) -> None:
        """What was written below a folder is on the server's disk: each file by itself."""
        if FSYNC not in self.client.extensions:
            raise OSError(errno.EOPNOTSUPP, "the file server can't sync")
        for start in range(0, len(written), _SYNC_AT_ONCE):
            await asyncio.gather(
                *(self._sync_path(one) for one in written[start : start + _SYNC_AT_ONCE])
            )

    async def _sync_path(self, path: bytes) -> None:
        try:
            handle = await self.client.open(path, OpenFlag.READ)
        except FileNotFoundError:
            return
        try:
            await self.client.fsync(handle)
        finally:
            await self.client.close(handle)

    async def statfs(self, path: bytes) -> StatVfs:
        """Room of the file system that ``path`` is on."""
        return await self.client.statvfs(path)

    async def getxattr(self, path: bytes, name: bytes) -> bytes:
        """Version 3 has no extended attributes; the kernel asks no more after ENOSYS."""
        raise OSError(errno.ENOSYS, "the file server has no extended attributes")

    async def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """As :meth:`getxattr`."""
        raise OSError(errno.ENOSYS, "the file server has no extended attributes")

    async def listxattr(self, path: bytes) -> list[bytes]:
        """As :meth:`getxattr`."""
        raise OSError(errno.ENOSYS, "the file server has no extended attributes")

    async def removexattr(self, path: bytes, name: bytes) -> None:
        """As :meth:`getxattr`."""
        raise OSError(errno.ENOSYS, "the file server has no extended attributes")


def _instead_for_plain_remote(error: OSError, likely: int) -> OSError:
    """FAILURE says nothing; the likely error instead."""
    return OSError(likely, error.strerror) if error.errno == errno.EIO else error
