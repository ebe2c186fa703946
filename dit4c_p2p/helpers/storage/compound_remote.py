"""A file server of this project: every operation is one message, and its errors are exact."""

import errno
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes, from_file_attrs
from dit4c_p2p.helpers.storage.leases import LeaseSession
from dit4c_p2p.helpers.storage.remote import Entry, Found, Leased, Listed, Made, Opened, Whole
from dit4c_p2p.helpers.storage.sftp_client import ConnectionGone, SftpClient, now_s, usable_errno
from dit4c_p2p.sftp.compound import (
    CompoundFlag,
    Operation,
    Result,
    decode_results,
    encode_compound,
)
from dit4c_p2p.sftp.constants import MAX_DATA_BYTES
from dit4c_p2p.sftp.extensions import (
    COMPOUND,
    HELLO,
    MOUNTS_VERSION,
    RENEW,
    Hello,
    HelloReply,
    LeaseKind,
    Notice,
    decode_hello_reply,
    decode_notice,
)
from dit4c_p2p.sftp.openssh import StatVfs
from dit4c_p2p.sftp.operations import (
    AcquireLease,
    AttrsResult,
    BytesResult,
    DataResult,
    EntryResult,
    Failed,
    FGetAttr,
    FileResult,
    FSetAttr,
    GetAttr,
    GetXattr,
    ListDir,
    ListMore,
    ListResult,
    ListXattr,
    MakeDir,
    MakeLink,
    MakeNode,
    MakeSymlink,
    NamesResult,
    NotRun,
    OpenFile,
    OpenResult,
    ReadData,
    ReadFile,
    ReadFileResult,
    ReadLink,
    RemoveDir,
    RemoveXattr,
    RenamePath,
    ReopenFile,
    RequireUnchanged,
    ReturnLease,
    SetAttr,
    SetXattr,
    StatFs,
    StatFsResult,
    SyncTree,
    Unlink,
)
from dit4c_p2p.sftp.wire import MalformedPacket, encode_record

_log = logging.getLogger(__name__)

_R = TypeVar("_R", bound=Any)

# The mount of this process, for servers that know it again after a loss of the connection.
_THIS_MOUNT = 1 + secrets.randbits(63)


class CompoundRemote:
    """One session with a server of this project; ``terms`` are what it said to hello."""

    keeps_owners = True

    def __init__(self, client: SftpClient, terms: HelloReply) -> None:
        self.client = client
        self.terms = terms
        self._began_at = now_s()
        self.leases = LeaseSession(terms.holder_lease_ms / 1000, now_s)
        self.on_notice: Callable[[Notice], None] = lambda notice: None
        client.on_acknowledged = self.leases.acknowledged
        client.on_notice = lambda data: self.on_notice(decode_notice(data))

    async def run(self, operations: Sequence[Operation], flags: int = 0) -> list[Result]:
        """The results of several operations in one message.

        :raises OSError: EIO, they are not in form; the session ends with that.
        """
        body = encode_compound(operations, flags)
        reader = await self.client.extended(COMPOUND, body)
        try:
            return decode_results(operations, reader.rest())
        except MalformedPacket as error:
            _log.warning("the file server breaks the protocol: %s", error.one_line())
            self.client.abort()
            raise OSError(errno.EIO, "the file server gave no results") from None

    async def one(self, operation: Operation, kind: type[_R]) -> _R:
        """The result of one operation.

        :raises OSError: it failed.
        """
        (result,) = await self.run((operation,))
        return checked_compound_result(result, kind)

    async def getattr(self, path: bytes) -> Attributes:
        """Attributes; a link is not followed."""
        return from_file_attrs((await self.one(GetAttr(path), AttrsResult)).attrs)

    async def look_up(self, path: bytes, folder: bytes | None) -> Found:
        """Attributes; a link is not followed."""
        leased, (result,) = await self._with_folder(folder, (GetAttr(path),))
        return Found(from_file_attrs(checked_compound_result(result, AttrsResult).attrs), leased)

    async def lease(self, path: bytes, kind: LeaseKind) -> Leased:
        """A folder's attributes, and a lease on it, or a lesser one."""
        return self._leased(await self.one(AcquireLease(path, kind), AttrsResult))

    async def run_ordered(self, operations: Sequence[Operation]) -> list[Result]:
        """The results of operations that are carried out in order, whichever of them fail."""
        return await self.run(operations, CompoundFlag.ORDERED | CompoundFlag.CONTINUE)

    async def give_back(self, file_id: int, seq: int) -> None:
        """Give a lease back, after every request that was sent before."""
        await self.one(ReturnLease(file_id, seq), object)

    async def renew(self) -> None:
        """Have the leases last longer."""
        await self.client.order(RENEW, b"")

    async def _with_folder(
        self, folder: bytes | None, operations: Sequence[Operation]
    ) -> tuple[Leased | None, list[Result]]:
        """Run operations, after a lease on a folder was asked for if one is named."""
        if folder is None:
            return None, await self.run(operations)
        wish = AcquireLease(folder, LeaseKind.READ)
        first, *results = await self.run((wish, *operations), CompoundFlag.CONTINUE)
        return self._leased(first) if isinstance(first, AttrsResult) else None, results

    def _leased(self, result: AttrsResult | ListResult) -> Leased:
        lease = self.leases.granted(result.attrs.file_id, result.grant)
        return Leased(from_file_attrs(result.attrs), lease)

    async def fgetattr(self, handle: bytes) -> Attributes:
        """Attributes of an open file."""
        return from_file_attrs((await self.one(FGetAttr(handle), FileResult)).attrs)

    async def setattr(
        self, path: bytes, handle: bytes | None, changes: Changes, now: Attributes
    ) -> Attributes:
        """Change attributes of an open file, or of a path; returns them afterwards."""
        attrs = changes.to_set_attrs()
        if handle is not None:
            return from_file_attrs((await self.one(FSetAttr(attrs, handle), FileResult)).attrs)
        return from_file_attrs((await self.one(SetAttr(path, attrs), AttrsResult)).attrs)

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

        :param ahead: so many of its first bytes come with it.
        """
        operation = OpenFile(path, flags, 0o644 if mode is None else mode)
        reads = (ReadData(0, ahead),) if ahead else ()
        leased, (first, *more) = await self._with_folder(folder, (operation, *reads))
        opened = checked_compound_result(first, OpenResult)
        start = more[0].data if more and isinstance(more[0], DataResult) else b""
        attributes, parent = from_file_attrs(opened.attrs), from_file_attrs(opened.parent)
        return Opened(opened.handle, attributes, start, opened.created, leased, parent)

    @property
    def heard_ns(self) -> int:
        """When the last request was sent that was answered, by the server's clock."""
        passed_s = self.leases.acknowledged_at - self._began_at
        return self.terms.now_ns + int(passed_s * 1e9)

    async def reopen(self, path: bytes, flags: int, file_id: int, since_ns: int) -> Opened:
        """Open a file again, to write what was written before ``since_ns`` (the server's clock)."""
        if self.terms.version >= MOUNTS_VERSION:
            opened = await self.one(ReopenFile(path, flags, file_id, since_ns), OpenResult)
            return Opened(opened.handle, from_file_attrs(opened.attrs))
        found = await self.open(path, flags)
        if found.attributes.file_id != file_id:
            await self.client.close(found.handle)
            raise OSError(errno.ESTALE, "another file has this name now")
        return found

    async def run_unchanged(
        self, operation: Operation, path: bytes, file_id: int, since_ns: int
    ) -> Result:
        """The result of an operation, if the file at ``path`` is what it was."""
        if self.terms.version >= MOUNTS_VERSION:
            required = RequireUnchanged(path, file_id, since_ns)
            first, result = await self.run((required, operation))
            checked_compound_result(first, object)
            return result
        if (await self.getattr(path)).file_id != file_id:
            raise OSError(errno.ESTALE, "another file has this name now")
        return (await self.run((operation,)))[0]

    async def read_files(self, paths: Sequence[bytes]) -> Sequence[Whole | None]:
        """Small files whole; None where one can't be had so."""
        wishes = [ReadFile(path, MAX_DATA_BYTES) for path in paths]
        return [
            Whole(from_file_attrs(result.attrs), result.data)
            if isinstance(result, ReadFileResult) and result.complete
            else None
            for result in await self.run(wishes, CompoundFlag.CONTINUE)
        ]

    async def list_folder(self, path: bytes, *, lease: bool = False) -> AsyncIterator[Listed]:
        """The entries of a folder, some at a time, without ``.`` and ``..``."""
        wish = LeaseKind.READ if lease else LeaseKind.NONE
        listed = await self.one(ListDir(path, wish), ListResult)
        leased: Leased | None = self._leased(listed)
        while True:
            entries = [Entry(one.name, from_file_attrs(one.attrs)) for one in listed.entries]
            yield Listed(entries, leased)
            if not listed.handle:
                return
            if not listed.entries:
                raise OSError(errno.EIO, "the file server's listing has no end")
            leased = None
            listed = await self.one(ListMore(listed.handle), ListResult)

    async def unlink(self, path: bytes) -> None:
        """Remove a name that is not a folder's."""
        await self.one(Unlink(path), object)

    async def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        await self.one(RemoveDir(path), object)

    async def mkdir(self, path: bytes, mode: int) -> Made:
        """Make a folder, and wish for a lease on it."""
        return await self._made(MakeDir(path, mode, LeaseKind.WRITE))

    async def _made(self, operation: Operation) -> Made:
        result = await self.one(operation, EntryResult)
        lease = self.leases.granted(result.attrs.file_id, result.grant)
        return Made(from_file_attrs(result.attrs), from_file_attrs(result.parent), lease)

    async def mknod(self, path: bytes, mode: int) -> Made:
        """Make a FIFO, a socket or an empty file."""
        return await self._made(MakeNode(path, mode))

    async def rename(self, old: bytes, new: bytes, flags: int) -> None:
        """Rename as ``renameat2(2)`` does."""
        await self.one(RenamePath(old, new, flags), object)

    async def link(self, old: bytes, new: bytes) -> Attributes:
        """One more name for a file."""
        return from_file_attrs((await self.one(MakeLink(old, new), EntryResult)).attrs)

    async def symlink(self, target: bytes, path: bytes) -> Made:
        """Make a symbolic link."""
        return await self._made(MakeSymlink(target, path))

    async def readlink(self, path: bytes) -> bytes:
        """Where a link points."""
        return (await self.one(ReadLink(path), BytesResult)).data

    async def fsync(self, handle: bytes) -> None:
        """What was written to an open file is on the server's disk."""
        await self.client.fsync(handle)

    async def sync_tree(self, path: bytes, written: Sequence[bytes]) -> None:
        """What was written below a folder is on the server's disk."""
        await self.one(SyncTree(path), object)

    async def statfs(self, path: bytes) -> StatVfs:
        """Room of the tree that ``path`` is in, by its quota."""
        return (await self.one(StatFs(path), StatFsResult)).room

    async def getxattr(self, path: bytes, name: bytes) -> bytes:
        """An extended attribute's value."""
        return (await self.one(GetXattr(path, name), BytesResult)).data

    async def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """Set an extended attribute."""
        await self.one(SetXattr(path, name, value), object)

    async def listxattr(self, path: bytes) -> list[bytes]:
        """Names of the extended attributes."""
        names = (await self.one(ListXattr(path), NamesResult)).data
        return [name for name in names.split(b"\0") if name]

    async def removexattr(self, path: bytes, name: bytes) -> None:
        """Remove an extended attribute."""
        await self.one(RemoveXattr(path, name), object)


def checked_compound_result(result: Result, kind: type[_R]) -> _R:
    """``result``, which is of that kind.

    :raises OSError: the operation failed, or was not run.
    """
    if isinstance(result, Failed):
        raise OSError(usable_errno(result.errno), result.message[:200].decode(errors="replace"))
    if isinstance(result, NotRun) or not isinstance(result, kind):
        raise OSError(125, "an operation before this one failed")
    return result


async def say_hello(client: SftpClient) -> CompoundRemote | None:
    """Begin the private extensions; None: the server is of another kind.

    :raises ConnectionGone: it offers them and has no answer in form.
    """
    if HELLO not in client.extensions or COMPOUND not in client.extensions:
        return None
    try:
        reader = await client.extended(HELLO, encode_record(Hello(mount=_THIS_MOUNT)))
        return CompoundRemote(client, decode_hello_reply(reader.rest()))
    except (OSError, MalformedPacket) as error:
        client.abort()
        raise ConnectionGone(f"the file server's hello is of no use: {error}") from None
