"""Compounds of the storage helper, carried out in a worker thread."""

import errno
from collections.abc import Callable
from typing import Any

from dit4c_p2p.fileserver.files import Files
from dit4c_p2p.fileserver.handles import DirectoryHandle
from dit4c_p2p.fileserver.leases import NO_GRANT
from dit4c_p2p.fileserver.session_files import Overtaken
from dit4c_p2p.fileserver.statuses import errno_in_words
from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.compound import Compound, CompoundFlag, Result, encode_result
from dit4c_p2p.sftp.constants import MAX_DATA_BYTES, MAX_PACKET_BYTES, OpenFlag
from dit4c_p2p.sftp.extensions import ALL_LEASES
from dit4c_p2p.sftp.operations import FileAttrs

# The reply's own head: length, type, id, count.
_HEAD_BYTES = 16
# What any result but data, a listing and a file needs at most: a link's target.
_RESULT_BYTES = 4400
_ENTRY_BYTES = 4 + ops.FileAttrs.FORM.size
_MAX_OVERTAKEN = 100


class CompoundRun:
    """One compound on its way. :meth:`run` goes on where a lease was in the way before.

    :ivar written: what was written, in bytes; for the figures.
    """

    def __init__(self, files: Files, compound: Compound) -> None:
        self._files = files
        self._compound = compound
        self._next = 0
        self._parts: list[bytes] = []
        self._room = MAX_PACKET_BYTES - _HEAD_BYTES
        self._current: bytes | None = None
        self._count = 0
        self._late = False
        self.written = 0

    def run(self) -> list[bytes]:
        """Carry out what is left; returns the reply's data in pieces.

        :raises LeaseConflict: it has to wait; to be called again.
        """
        operations = self._compound.operations
        go_on = bool(self._compound.flags & CompoundFlag.CONTINUE)
        # What clients send behind is ordered.
        behind = bool(self._compound.flags & CompoundFlag.ORDERED)
        self._late = behind and self._files.may_be_late()
        while self._next < len(operations):
            result = self._run_one(operations[self._next])
            self._next += 1
            self._count += 1
            pieces = encode_result(result)
            self._parts.extend(pieces)
            self._room -= sum(map(len, pieces))
            if isinstance(result, ops.Failed) and not go_on:
                break
        return [self._count.to_bytes(4, "big"), *self._parts]

    def _run_one(self, operation: Any) -> Result:
        handler = _HANDLERS[type(operation)]
        tries = 0
        while True:
            try:
                if self._room < _RESULT_BYTES:
                    raise os_error(errno.EMSGSIZE)
                if self._late:
                    self._require_in_time(operation)
                return handler(self, operation)
            except Overtaken:
                tries += 1
                if tries == _MAX_OVERTAKEN:
                    return _failed_for_compound(errno.ESTALE)
            except OSError as error:
                if isinstance(operation, ops.OpenFile | ops.ReopenFile):
                    self._current = None
                return _failed_for_compound(error.errno or errno.EIO)

    def _require_in_time(self, operation: Any) -> None:
        """:raises OSError: somebody else was faster, see :meth:`Files.require_in_time`."""
        if isinstance(operation, ops.Unlink | ops.SetAttr):
            self._files.require_in_time(operation.path)
        elif isinstance(operation, ops.FSetAttr):
            self._files.require_in_time_open(self._handle(operation.handle))

    def _handle(self, name: bytes) -> bytes:
        if name:
            return name
        if self._current is None:
            raise os_error(errno.EBADF)
        return self._current

    # ---- attributes

    def _get(self, op: ops.GetAttr) -> Result:
        found = self._files.get(op.path, lease=op.lease)
        return ops.AttrsResult(found.attrs, found.grant)

    def _get_open(self, op: ops.FGetAttr) -> Result:
        return ops.FileResult(self._files.get_open(self._handle(op.handle)))

    def _set(self, op: ops.SetAttr) -> Result:
        return ops.AttrsResult(self._files.set(op.path, op.attrs), NO_GRANT)

    def _set_open(self, op: ops.FSetAttr) -> Result:
        return ops.FileResult(self._files.set_open(self._handle(op.handle), op.attrs))

    def _acquire(self, op: ops.AcquireLease) -> Result:
        found = self._files.get(op.path, lease=op.lease)
        return ops.AttrsResult(found.attrs, found.grant)

    def _return(self, op: ops.ReturnLease) -> Result:
        if op.file_id == ALL_LEASES:
            for tree in self._files.view().trees:
                tree.leases.give_all_back(self._files.session)
            return ops.Done()
        for tree in self._files.view().trees:
            tree.leases.give_back(self._files.session, op.file_id, op.seq, op.keep)
        return ops.Done()

    # ---- files

    def _open(self, op: ops.OpenFile) -> Result:
        opened = self._files.open(op.path, op.flags, op.mode, lease=op.lease)
        self._current = opened.handle
        return ops.OpenResult(
            opened.handle, opened.attrs, opened.grant, opened.created, opened.parent
        )

    def _require_unchanged(self, op: ops.RequireUnchanged) -> Result:
        self._files.require_unchanged(op.path, op.file_id, op.since_ns)
        return ops.Done()

    def _reopen(self, op: ops.ReopenFile) -> Result:
        opened = self._files.reopen(op.path, op.flags, op.file_id, op.since_ns)
        self._current = opened.handle
        return ops.OpenResult(
            opened.handle, opened.attrs, opened.grant, opened.created, opened.parent
        )

    def _close(self, op: ops.CloseFile) -> Result:
        name = self._handle(op.handle)
        attrs = self._files.close(name)
        if name == self._current:
            self._current = None
        return ops.FileResult(attrs or _NO_ATTRS)

    def _read(self, op: ops.ReadData) -> Result:
        count = min(op.length, MAX_DATA_BYTES, self._room - _HEAD_BYTES)
        data = self._files.read(self._handle(op.handle), op.offset, count)
        return ops.DataResult(data, eof=len(data) < count)

    def _write(self, op: ops.WriteData) -> Result:
        self._files.write(self._handle(op.handle), op.offset, op.data)
        self.written += len(op.data)
        return ops.Done()

    def _sync(self, op: ops.Fsync) -> Result:
        self._files.sync(self._handle(op.handle))
        return ops.Done()

    def _sync_tree(self, op: ops.SyncTree) -> Result:
        self._files.sync_tree(op.path)
        return ops.Done()

    def _read_file(self, op: ops.ReadFile) -> Result:
        opened = self._files.open(op.path, OpenFlag.READ, lease=op.lease)
        try:
            most = min(op.max_bytes, MAX_DATA_BYTES, self._room - _RESULT_BYTES)
            size = opened.attrs.size
            if size > most:
                return ops.ReadFileResult(opened.attrs, opened.grant, complete=False, data=b"")
            data = self._files.read(opened.handle, 0, size + 1) if size else b""
            complete = len(data) == size
            return ops.ReadFileResult(
                opened.attrs, opened.grant, complete, data if complete else b""
            )
        finally:
            self._files.close(opened.handle)

    # ---- directories

    def _list(self, op: ops.ListDir) -> Result:
        files = self._files
        files.handles.require_room()
        handle, found = files.open_directory(op.path, lease=op.lease)
        try:
            entries, complete, changing = self._entries(handle)
            grant = found.grant
            if changing and grant.kind and handle.folder is not None:
                handle.folder.tree.leases.release(files.session, grant, handle.file_id)
                grant = NO_GRANT
            if complete:
                handle.close()
                return ops.ListResult(found.attrs, grant, entries, b"")
        except BaseException:
            handle.close()
            raise
        return ops.ListResult(found.attrs, grant, entries, files.handles.add(handle))

    def _list_more(self, op: ops.ListMore) -> Result:
        handle = self._files.handles.get(op.handle)
        if not isinstance(handle, DirectoryHandle):
            raise os_error(errno.EBADF)
        entries, complete, _ = self._entries(handle)
        if complete:
            self._files.close(op.handle)
        return ops.ListResult(_NO_ATTRS, NO_GRANT, entries, b"" if complete else op.handle)

    def _entries(self, handle: DirectoryHandle) -> tuple[list[ops.DirEntry], bool, bool]:
        """Entries as far as there is room; whether these were the last; whether somebody else was
        changing one of them, so that what was read of it may be old.
        """
        room = self._room - _RESULT_BYTES
        entries: list[ops.DirEntry] = []
        while (name := handle.next_name()) is not None:
            room -= _ENTRY_BYTES + len(name)
            if room < 0:
                handle.kept.append(name)
                break
            found = self._files.entry(handle, name)
            if found is not None:
                entries.append(ops.DirEntry(name, found))
        changing = handle.folder is not None and handle.folder.tree.leases.changed_by_others(
            self._files.session, [entry.attrs.file_id for entry in entries]
        )
        return entries, name is None, changing

    def _unlink(self, op: ops.Unlink) -> Result:
        return ops.ParentResult(self._files.remove(op.path))

    def _make_directory(self, op: ops.MakeDir) -> Result:
        return ops.EntryResult(*self._files.make_directory(op.path, op.mode, lease=op.lease))

    def _remove_directory(self, op: ops.RemoveDir) -> Result:
        return ops.ParentResult(self._files.remove_directory(op.path))

    def _rename(self, op: ops.RenamePath) -> Result:
        return ops.RenameResult(*self._files.rename(op.old, op.new, op.flags))

    def _make_link(self, op: ops.MakeLink) -> Result:
        return ops.EntryResult(*self._files.make_link(op.old, op.new))

    def _make_symlink(self, op: ops.MakeSymlink) -> Result:
        return ops.EntryResult(*self._files.make_symlink(op.target, op.path))

    def _make_node(self, op: ops.MakeNode) -> Result:
        return ops.EntryResult(*self._files.make_node(op.path, op.mode))

    def _read_link(self, op: ops.ReadLink) -> Result:
        return ops.BytesResult(self._files.read_link(op.path))

    def _room_of(self, op: ops.StatFs) -> Result:
        return ops.StatFsResult(self._files.room(op.path))

    # ---- extended attributes

    def _get_xattr(self, op: ops.GetXattr) -> Result:
        value = self._files.get_xattr(op.path, op.name)
        if len(value) > self._room - _HEAD_BYTES:
            raise os_error(errno.EMSGSIZE)
        return ops.BytesResult(value)

    def _set_xattr(self, op: ops.SetXattr) -> Result:
        self._files.set_xattr(op.path, op.name, op.value, op.flags)
        return ops.Done()

    def _list_xattrs(self, op: ops.ListXattr) -> Result:
        names = b"".join(name + b"\0" for name in self._files.list_xattrs(op.path))
        if len(names) > self._room - _HEAD_BYTES:
            raise os_error(errno.EMSGSIZE)
        return ops.NamesResult(names)

    def _remove_xattr(self, op: ops.RemoveXattr) -> Result:
        self._files.set_xattr(op.path, op.name, None)
        return ops.Done()


_NO_ATTRS = FileAttrs(0, 0, 0, 0, 0, 0, 0, 0)

_HANDLERS: dict[type, Callable[[CompoundRun, Any], Result]] = {
    ops.GetAttr: CompoundRun._get,
    ops.FGetAttr: CompoundRun._get_open,
    ops.SetAttr: CompoundRun._set,
    ops.FSetAttr: CompoundRun._set_open,
    ops.OpenFile: CompoundRun._open,
    ops.CloseFile: CompoundRun._close,
    ops.ReadData: CompoundRun._read,
    ops.WriteData: CompoundRun._write,
    ops.Fsync: CompoundRun._sync,
    ops.SyncTree: CompoundRun._sync_tree,
    ops.ReadFile: CompoundRun._read_file,
    ops.ListDir: CompoundRun._list,
    ops.ListMore: CompoundRun._list_more,
    ops.Unlink: CompoundRun._unlink,
    ops.MakeDir: CompoundRun._make_directory,
    ops.RemoveDir: CompoundRun._remove_directory,
    ops.RenamePath: CompoundRun._rename,
    ops.MakeLink: CompoundRun._make_link,
    ops.MakeSymlink: CompoundRun._make_symlink,
    ops.ReadLink: CompoundRun._read_link,
    ops.MakeNode: CompoundRun._make_node,
    ops.StatFs: CompoundRun._room_of,
    ops.AcquireLease: CompoundRun._acquire,
    ops.ReturnLease: CompoundRun._return,
    ops.GetXattr: CompoundRun._get_xattr,
    ops.SetXattr: CompoundRun._set_xattr,
    ops.ListXattr: CompoundRun._list_xattrs,
    ops.RemoveXattr: CompoundRun._remove_xattr,
    ops.RequireUnchanged: CompoundRun._require_unchanged,
    ops.ReopenFile: CompoundRun._reopen,
}


def _failed_for_compound(number: int) -> ops.Failed:
    return ops.Failed(number, errno_in_words(number).encode())
