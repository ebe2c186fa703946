"""The operations of a compound, and their results; ``compound.py`` puts them on the wire.

Paths are bytes, from the session's root, such as ``/private/notes.txt``. None of a path's folders
may be a symbolic link (ELOOP), and a link at its end is not followed.
"""

import struct
from enum import IntFlag
from typing import ClassVar

from dit4c_p2p.sftp.extensions import Grant, LeaseKind
from dit4c_p2p.sftp.openssh import StatVfs
from dit4c_p2p.sftp.wire import I64, U8, U32, U64, Record

# Stands for the handle of the last OpenFile of the same compound; EBADF if that failed.
CURRENT_HANDLE = b""
# Stands for the user or group that the files of a mount belong to, whose number differs by the app.
OWN_ID = 0xFFFFFFFF


class FileAttrs(Record, frozen=True):
    """All attributes of a file.

    :ivar file_id: the same in every session, for as long as the file exists; never 0 or 1.
    :ivar mode: type and permissions, as of stat(2).
    :ivar blocks: of 512 bytes.
    :ivar uid: the user whom a mount gave it to; ``OWN_ID`` as a rule. The server checks no
        permissions by it.
    :ivar gid: the same of its group.
    """

    FORM: ClassVar[struct.Struct] = struct.Struct(">QIIQQqqqII")

    file_id: U64
    mode: U32
    nlink: U32
    size: U64
    blocks: U64
    atime_ns: I64
    mtime_ns: I64
    ctime_ns: I64
    uid: U32 = OWN_ID
    gid: U32 = OWN_ID


class SetMask(IntFlag):
    """Which fields of :class:`SetAttrs` count; ``*_NOW`` is the server's clock."""

    SIZE = 1
    MODE = 2
    ATIME = 4
    MTIME = 8
    ATIME_NOW = 16
    MTIME_NOW = 32
    UID = 64
    GID = 128


class SetAttrs(Record, frozen=True):
    """Attributes to change; ``mask`` is of :class:`SetMask`."""

    FORM: ClassVar[struct.Struct] = struct.Struct(">IQIqqII")

    mask: U32 = 0
    size: U64 = 0
    mode: U32 = 0
    atime_ns: I64 = 0
    mtime_ns: I64 = 0
    uid: U32 = OWN_ID
    gid: U32 = OWN_ID


# ---- operations


class GetAttr(Record, frozen=True):
    """Attributes of a path (a link is not followed), and a lease on it if wished for."""

    path: bytes
    lease: U8 = LeaseKind.NONE


class FGetAttr(Record, frozen=True):
    """Attributes of an open file."""

    handle: bytes = CURRENT_HANDLE


class SetAttr(Record, frozen=True):
    """Change attributes of a path (a link is not followed; its mode can't be changed)."""

    path: bytes
    attrs: SetAttrs


class FSetAttr(Record, frozen=True):
    """Change attributes of an open file."""

    attrs: SetAttrs
    handle: bytes = CURRENT_HANDLE


class OpenFile(Record, frozen=True):
    """Open a regular file; a link is not followed (ELOOP).

    :ivar flags: of :class:`sftp.constants.OpenFlag`.
    :ivar mode: permissions of a file that is made.
    """

    path: bytes
    flags: U32
    mode: U32 = 0o644
    lease: U8 = LeaseKind.NONE


class CloseFile(Record, frozen=True):
    """Close a handle, after every earlier request for it."""

    handle: bytes = CURRENT_HANDLE


class ReadData(Record, frozen=True):
    """Read up to ``length`` bytes; fewer come at the end of the file or of the reply's room."""

    offset: U64
    length: U32
    handle: bytes = CURRENT_HANDLE


class WriteData(Record, frozen=True):
    """Write all of ``data``."""

    offset: U64
    data: bytes
    handle: bytes = CURRENT_HANDLE


class Fsync(Record, frozen=True):
    """fsync(2) of an open file."""

    handle: bytes = CURRENT_HANDLE


class SyncTree(Record, frozen=True):
    """Everything that was answered before this, below a directory, is on the server's disk."""

    path: bytes


class ReadFile(Record, frozen=True):
    """Attributes and all contents of a regular file that is at most ``max_bytes`` long."""

    path: bytes
    max_bytes: U32
    lease: U8 = LeaseKind.NONE


class ListDir(Record, frozen=True):
    """A directory's attributes and its entries with theirs; ``.`` and ``..`` are left out."""

    path: bytes
    lease: U8 = LeaseKind.NONE


class ListMore(Record, frozen=True):
    """The entries that come next, of a directory that did not fit into one reply."""

    handle: bytes


class Unlink(Record, frozen=True):
    """Remove a file that is no directory."""

    path: bytes


class MakeDir(Record, frozen=True):
    """Make a directory."""

    path: bytes
    mode: U32 = 0o755
    lease: U8 = LeaseKind.NONE


class RemoveDir(Record, frozen=True):
    """Remove an empty directory."""

    path: bytes


class RenameFlag(IntFlag):
    """Flags of renameat2(2)."""

    NOREPLACE = 1
    EXCHANGE = 2


class RenamePath(Record, frozen=True):
    """Rename as rename(2) does; ``flags`` is of :class:`RenameFlag`."""

    old: bytes
    new: bytes
    flags: U32 = 0


class MakeLink(Record, frozen=True):
    """Make a hard link."""

    old: bytes
    new: bytes


class MakeSymlink(Record, frozen=True):
    """Make a symbolic link; the target is kept as it is."""

    target: bytes
    path: bytes


class ReadLink(Record, frozen=True):
    """A symbolic link's target."""

    path: bytes


class MakeNode(Record, frozen=True):
    """Make a FIFO, a socket or an empty regular file; ``mode`` says which. Devices: EPERM."""

    path: bytes
    mode: U32


class StatFs(Record, frozen=True):
    """Room of the tree that a path is in, by its quota."""

    path: bytes


class AcquireLease(Record, frozen=True):
    """Ask for a lease, on what was worked on without one or with a lesser one."""

    path: bytes
    lease: U8


class ReturnLease(Record, frozen=True):
    """Give a lease back down to ``keep``, after every earlier request of the session.

    :ivar file_id: ``ALL_LEASES`` stands for every lease of the session.
    :ivar seq: of the recall, or of the grant where it is given back unasked.
    """

    file_id: U64
    seq: U64
    keep: U8 = LeaseKind.NONE


class GetXattr(Record, frozen=True):
    """The value of an extended attribute; only ``user.*`` (others: ENOTSUP)."""

    path: bytes
    name: bytes


class SetXattr(Record, frozen=True):
    """Set an extended attribute; ``flags``: 1 must not be there yet, 2 must be there."""

    path: bytes
    name: bytes
    value: bytes
    flags: U32 = 0


class ListXattr(Record, frozen=True):
    """Names of the extended attributes."""

    path: bytes


class RemoveXattr(Record, frozen=True):
    """Remove an extended attribute."""

    path: bytes
    name: bytes


class RequireUnchanged(Record, frozen=True):
    """Go on if a file is still what this mount knew of when it was last heard of.

    Fails with ESTALE if another file has this path now, and with ``CHANGED_BY_OTHERS`` if anybody
    but this mount has changed its contents.

    :ivar since_ns: by the server's clock, when the mount was last answered; for a server that was
        started anew meanwhile.
    """

    path: bytes
    file_id: U64
    since_ns: I64


class ReopenFile(Record, frozen=True):
    """Open a file again, to write what was written before; see :class:`RequireUnchanged`.

    :ivar flags: of :class:`sftp.constants.OpenFlag`, without CREAT, EXCL and TRUNC.
    """

    path: bytes
    flags: U32
    file_id: U64
    since_ns: I64


# ---- results


class Done(Record, frozen=True):
    """It is done; there is nothing to say."""


class AttrsResult(Record, frozen=True):
    """Attributes afterwards, and the lease that was granted."""

    attrs: FileAttrs
    grant: Grant


class FileResult(Record, frozen=True):
    """Attributes of an open file afterwards."""

    attrs: FileAttrs


class OpenResult(Record, frozen=True):
    """An open file. ``created``: it was not there before. ``parent``: the directory afterwards."""

    handle: bytes
    attrs: FileAttrs
    grant: Grant
    created: bool
    parent: FileAttrs


class DataResult(Record, frozen=True):
    """What was read; ``eof``: the file ends there."""

    data: bytes
    eof: bool


class ReadFileResult(Record, frozen=True):
    """A whole file; ``complete`` is False, and ``data`` empty, where it is too long."""

    attrs: FileAttrs
    grant: Grant
    complete: bool
    data: bytes


class DirEntry(Record, frozen=True):
    """One entry of a directory."""

    name: bytes
    attrs: FileAttrs


class ListResult(Record, frozen=True):
    """Entries; ``handle`` is empty after the last, otherwise for :class:`ListMore`."""

    attrs: FileAttrs
    grant: Grant
    entries: list[DirEntry]
    handle: bytes


class EntryResult(Record, frozen=True):
    """What was made, and the directory that it is in, afterwards."""

    attrs: FileAttrs
    parent: FileAttrs
    grant: Grant


class ParentResult(Record, frozen=True):
    """The directory that something was removed from, afterwards."""

    parent: FileAttrs


class RenameResult(Record, frozen=True):
    """What was renamed, and both directories, afterwards."""

    attrs: FileAttrs
    old_parent: FileAttrs
    new_parent: FileAttrs


class BytesResult(Record, frozen=True):
    """A link's target, or an attribute's value."""

    data: bytes


class NamesResult(Record, frozen=True):
    """Names of extended attributes, each with a NUL after it."""

    data: bytes


class StatFsResult(Record, frozen=True):
    """Room of a tree."""

    room: StatVfs


class Failed(Record, frozen=True):
    """An operation failed, and had no effect. ``errno`` is Linux's number."""

    errno: U32
    message: bytes = b""


class NotRun(Record, frozen=True):
    """An operation was not begun, because one before it failed."""
