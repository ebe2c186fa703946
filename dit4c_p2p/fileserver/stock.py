"""Requests of SFTP version 3 and of OpenSSH's extensions, carried out in a worker thread."""

import errno
import os
from collections.abc import Callable
from typing import TypeVar

from dit4c_p2p.fileserver.files import Files
from dit4c_p2p.fileserver.handles import DirectoryHandle, FileHandle
from dit4c_p2p.fileserver.layout import split_session_path
from dit4c_p2p.fileserver.statuses import EOF, OK
from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.sftp import openssh, packets
from dit4c_p2p.sftp.attrs import Attrs, long_name
from dit4c_p2p.sftp.constants import MAX_DATA_BYTES, MAX_PACKET_BYTES, OpenFlag, PacketType
from dit4c_p2p.sftp.operations import FileAttrs, RenameFlag, SetAttrs, SetMask
from dit4c_p2p.sftp.packets import ExtendedReply, Name, NameEntry, Request, Response
from dit4c_p2p.sftp.wire import Reader, Record, decode_record, encode_record

# Files have no owner but whoever looks. Stock clients want numbers: the usual first user's.
OWNER_ID = 1000
_OWNER = "user"
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755
# Of one READDIR: as OpenSSH's server.
_MAX_ENTRIES = 100
_MAX_NAMES_BYTES = 24 * 1024
_COPY_BYTES = 1024 * 1024
_SECOND_NS = 1_000_000_000

R = TypeVar("R", bound=Record)


class StockRequests:
    """Carries out requests of one session; :meth:`run` raises what ``Files`` raises."""

    def __init__(self, files: Files, max_handles: int) -> None:
        self._files = files
        self._max_handles = max_handles
        self._extensions: dict[bytes, Callable[[bytes], Response]] = {
            openssh.POSIX_RENAME: self._posix_rename,
            openssh.HARDLINK: self._hard_link,
            openssh.FSYNC: self._fsync,
            openssh.STATVFS: self._statvfs,
            openssh.FSTATVFS: self._fstatvfs,
            openssh.LSETSTAT: self._lsetstat,
            openssh.LIMITS: self._limits,
            openssh.EXPAND_PATH: self._expand_path,
            openssh.COPY_DATA: self._copy_data,
        }

    def run(self, request: Request) -> Response:
        """Carry out one request.

        :raises OSError: it failed.
        :raises MalformedPacket: an extension's data is not in form.
        """
        files = self._files
        match request:
            case packets.Read(handle, offset, length):
                data = files.read(handle, offset, min(length, MAX_DATA_BYTES))
                return packets.Data(data) if data or not length else EOF
            case packets.Write(handle, offset, written):
                files.write(handle, offset, written)
                return OK
            case packets.Open(path, flags, attrs):
                mode = _FILE_MODE if attrs.mode is None else attrs.mode
                flags = _usable_for_stock_requests(flags)
                return packets.Handle(files.open(path, flags, mode, follow=True).handle)
            case packets.Close(handle):
                files.close(handle)
                return OK
            case packets.Lstat(path):
                return packets.AttrsReply(stock_attrs(files.get(path).attrs))
            case packets.Stat(path):
                return packets.AttrsReply(stock_attrs(files.get(path, follow=True).attrs))
            case packets.Fstat(handle):
                return packets.AttrsReply(stock_attrs(files.get_open(handle)))
            case packets.Setstat(path, attrs):
                files.set(path, private_attrs(attrs), follow=True)
                return OK
            case packets.Fsetstat(handle, attrs):
                files.set_open(handle, private_attrs(attrs))
                return OK
        return self._run_on_names(request)

    def _run_on_names(self, request: Request) -> Response:
        files = self._files
        match request:
            case packets.Opendir(path):
                files.handles.require_room()
                handle, _ = files.open_directory(path, follow=True)
                return packets.Handle(files.handles.add(handle))
            case packets.Readdir(name):
                return self._read_directory(name)
            case packets.Remove(path):
                files.remove(path)
            case packets.Mkdir(path, attrs):
                mode = _FOLDER_MODE if attrs.mode is None else attrs.mode
                files.make_directory(path, mode)
            case packets.Rmdir(path):
                files.remove_directory(path)
            case packets.Rename(old, new):
                files.rename(old, new, RenameFlag.NOREPLACE)
            case packets.Symlink(target, path):
                files.make_symlink(target, path)
            case packets.Readlink(path):
                return _one_name_for_stock_requests(files.read_link(path))
            case packets.Realpath(path):
                return _one_name_for_stock_requests(b"/" + b"/".join(split_session_path(path)))
            case packets.Extended(name, data):
                extension = self._extensions.get(name)
                if extension is None:
                    raise os_error(errno.EOPNOTSUPP)
                return extension(data)
        return OK

    def _read_directory(self, name: bytes) -> Response:
        handle = self._files.handles.get(name)
        if not isinstance(handle, DirectoryHandle):
            raise os_error(errno.EBADF)
        entries: list[NameEntry] = []
        size = 0
        while len(entries) < _MAX_ENTRIES and size < _MAX_NAMES_BYTES:
            entry = handle.next_name()
            if entry is None:
                break
            attrs = self._files.entry(handle, entry)
            if attrs is None:
                continue
            mtime = attrs.mtime_ns / _SECOND_NS
            line = long_name(entry, attrs.mode, attrs.nlink, _OWNER, attrs.size, mtime)
            entries.append(NameEntry(entry, line, stock_attrs(attrs)))
            size += 2 * len(entry) + 100
        return Name(tuple(entries)) if entries else EOF

    # ---- OpenSSH's extensions

    def _posix_rename(self, data: bytes) -> Response:
        paths = _read_for_stock_requests(data, openssh.TwoPaths)
        self._files.rename(paths.old, paths.new)
        return OK

    def _hard_link(self, data: bytes) -> Response:
        paths = _read_for_stock_requests(data, openssh.TwoPaths)
        self._files.make_link(paths.old, paths.new)
        return OK

    def _fsync(self, data: bytes) -> Response:
        self._files.sync(_read_for_stock_requests(data, openssh.OneHandle).handle)
        return OK

    def _statvfs(self, data: bytes) -> Response:
        room = self._files.room(_read_for_stock_requests(data, openssh.OnePath).path)
        return ExtendedReply(encode_record(room))

    def _fstatvfs(self, data: bytes) -> Response:
        room = self._files.room_open(_read_for_stock_requests(data, openssh.OneHandle).handle)
        return ExtendedReply(encode_record(room))

    def _lsetstat(self, data: bytes) -> Response:
        # Of the same form as SETSTAT.
        _, request = packets.decode_request(bytes([PacketType.SETSTAT]) + b"\0" * 4 + data)
        assert isinstance(request, packets.Setstat)
        self._files.set(request.path, private_attrs(request.attrs))
        return OK

    def _limits(self, data: bytes) -> Response:
        limits = openssh.Limits(MAX_PACKET_BYTES, MAX_DATA_BYTES, MAX_DATA_BYTES, self._max_handles)
        return ExtendedReply(encode_record(limits))

    def _expand_path(self, data: bytes) -> Response:
        path = _read_for_stock_requests(data, openssh.OnePath).path
        home, slash, rest = path.partition(b"/")
        if home == b"~":
            path = slash + rest
        elif home.startswith(b"~"):
            raise os_error(errno.ENOENT)
        return _one_name_for_stock_requests(b"/" + b"/".join(split_session_path(path)))

    def _copy_data(self, data: bytes) -> Response:
        copy = _read_for_stock_requests(data, openssh.CopyData)
        files = self._files
        source, target = files.handles.file(copy.source), files.handles.file(copy.target)
        length = copy.length or max(0, os.fstat(source.fd).st_size - copy.source_offset)
        if _overlap_for_stock_requests(
            source, target, copy.source_offset, copy.target_offset, length
        ):
            raise os_error(errno.EINVAL)
        done = 0
        while done < length:
            count = min(_COPY_BYTES, length - done)
            piece = files.read(copy.source, copy.source_offset + done, count)
            if not piece:
                break
            files.write(copy.target, copy.target_offset + done, piece)
            done += len(piece)
        return OK


def _usable_for_stock_requests(flags: int) -> int:
    """Some clients leave READ and WRITE out: then the file is opened for reading."""
    if not flags & (OpenFlag.READ | OpenFlag.WRITE | OpenFlag.APPEND):
        flags |= OpenFlag.READ
    return flags


def _overlap_for_stock_requests(
    source: FileHandle, target: FileHandle, start: int, to: int, length: int
) -> bool:
    same = source.file.file_id == target.file.file_id
    return same and start < to + length and to < start + length


def _one_name_for_stock_requests(path: bytes) -> Name:
    return Name((NameEntry(path, path, Attrs()),))


def _read_for_stock_requests(data: bytes, kind: type[R]) -> R:
    reader = Reader(data)
    record = decode_record(reader, kind)
    reader.finish()
    return record


def stock_attrs(attrs: FileAttrs) -> Attrs:
    """A file's attributes in whole seconds."""
    return Attrs(
        attrs.size,
        OWNER_ID,
        OWNER_ID,
        attrs.mode,
        _seconds_for_stock_requests(attrs.atime_ns),
        _seconds_for_stock_requests(attrs.mtime_ns),
    )


def _seconds_for_stock_requests(nanoseconds: int) -> int:
    return min(max(nanoseconds // _SECOND_NS, 0), 0xFFFFFFFF)


def private_attrs(attrs: Attrs) -> SetAttrs:
    """What a stock client wants changed.

    :raises OSError: EPERM, another owner.
    """
    if attrs.uid is not None and (attrs.uid, attrs.gid) != (OWNER_ID, OWNER_ID):
        raise os_error(errno.EPERM)
    mask = SetMask(0)
    if attrs.size is not None:
        mask |= SetMask.SIZE
    if attrs.mode is not None:
        mask |= SetMask.MODE
    if attrs.mtime is not None:
        mask |= SetMask.ATIME | SetMask.MTIME
    return SetAttrs(
        mask,
        attrs.size or 0,
        attrs.mode or 0,
        (attrs.atime or 0) * _SECOND_NS,
        (attrs.mtime or 0) * _SECOND_NS,
    )
