"""Conflict copies: what can't be written to its file any more is kept in a file beside it.

A mount that was cut off comes back with writes that its server has not answered. Where somebody
else has changed the file meanwhile, what they have written stays, and ours becomes the file
``name (conflict DATE)``: as much of it as was not sent, over what the file has now.
"""

import errno
import time
from collections.abc import Sequence
from typing import NamedTuple

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes
from dit4c_p2p.helpers.storage.remote import Remote
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS
from dit4c_p2p.sftp.openssh import COPY_DATA, CopyData
from dit4c_p2p.sftp.wire import encode_record

_NAME_BYTES = 255
_PERMISSIONS = 0o777
# Of one file within one second.
_MOST_COPIES = 100
# What says that a path leads to another file than before, or that somebody else has changed it.
_OTHERS_DOING = (CHANGED_BY_OTHERS, errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.EISDIR)


class ChangedElsewhere(OSError):
    """What was to be written belongs to an older state of the file; programs get EIO."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "somebody else has changed the file meanwhile")


class Unsent(NamedTuple):
    """What is left of a file: its size as its writer knows it, and (offset, bytes) in order."""

    size: int
    mode: int
    pieces: Sequence[tuple[int, bytes]]


def is_others_doing(error: OSError) -> bool:
    """Whether opening a file again has failed because of what somebody else has done."""
    return error.errno in _OTHERS_DOING


def copy_name(name: bytes, at_s: float, number: int = 1) -> bytes:
    """The name of a conflict copy; ``at_s`` is since 1970, ``number`` tells several apart."""
    date = time.strftime("%Y-%m-%d %H.%M.%S", time.gmtime(at_s))
    more = f" {number}" if number > 1 else ""
    suffix = f" (conflict {date}{more})".encode()
    room = _NAME_BYTES - len(suffix)
    if len(name) > room:
        name = name[:room].decode(errors="ignore").encode()
    return name + suffix


class ConflictCopy:
    """A copy on its way.

    :param folder: path of the file's folder at the server.
    :param file_id: of the file, whose present contents are what the copy begins with.
    """

    def __init__(self, folder: bytes, name: bytes, file_id: int | None, unsent: Unsent) -> None:
        self._folder = folder.rstrip(b"/")
        self._file = name
        self._file_id = file_id
        self._unsent = unsent
        self._at_s = time.time()
        self._tried = 0
        self.name = b""

    async def make(self, remote: Remote) -> None:
        """Make it; where an earlier attempt was cut off, go on with that.

        :raises OSError: it can't be made.
        """
        handle = await self._create(remote)
        try:
            await self._begin_with(remote, handle)
            for offset, data in self._unsent.pieces:
                most = remote.client.max_write_bytes
                for start in range(0, len(data), most):
                    piece = data[start : start + most]
                    await remote.client.write(handle, offset + start, piece)
            size = Changes(size=self._unsent.size)
            await remote.setattr(self._path(self.name), handle, size, Attributes())
            await remote.fsync(handle)
        finally:
            if remote.client.alive:
                await remote.client.close(handle)

    def _path(self, name: bytes) -> bytes:
        return self._folder + b"/" + name

    async def _create(self, remote: Remote) -> bytes:
        flags = OpenFlag.WRITE | OpenFlag.CREAT
        for number in range(max(1, self._tried), _MOST_COPIES):
            # What an attempt has made whose end is not known is ours.
            exclusive = OpenFlag.EXCL if number != self._tried else OpenFlag.TRUNC
            self._tried = number
            self.name = copy_name(self._file, self._at_s, number)
            mode = self._unsent.mode & _PERMISSIONS
            try:
                return (await remote.open(self._path(self.name), flags | exclusive, mode)).handle
            except FileExistsError:
                continue
        raise OSError(errno.EEXIST, "there are too many conflict copies")

    async def _begin_with(self, remote: Remote, handle: bytes) -> None:
        """Copy what the file has now, unless the path is another file's."""
        if self._file_id is None or COPY_DATA not in remote.client.extensions:
            return
        try:
            opened = await remote.open(self._path(self._file), OpenFlag.READ)
        except OSError as error:
            if is_others_doing(error):
                return
            raise
        if opened.attributes.file_id == self._file_id and opened.attributes.size:
            whole = CopyData(opened.handle, 0, 0, handle, 0)
            await remote.client.order(COPY_DATA, encode_record(whole))
        await remote.client.close(opened.handle)
