"""ATTRS: what SFTP version 3 says about a file (draft-ietf-secsh-filexfer-02 section 5)."""

import stat
import struct
import time

from dit4c_p2p.sftp.constants import AttrFlag
from dit4c_p2p.sftp.wire import MalformedPacket, Reader, Record

_FULL = struct.Struct(">IQIIIII")
_FULL_FLAGS = AttrFlag.SIZE | AttrFlag.UIDGID | AttrFlag.PERMISSIONS | AttrFlag.ACMODTIME
# A hostile packet could hold thousands of extended attributes; nobody sends any in version 3.
_MAX_EXTENDED = 16


class Attrs(Record, frozen=True):
    """Every field is None where it isn't given; ``uid`` and ``gid``, ``atime`` and ``mtime`` come
    in pairs. Times are whole seconds since 1970; ``mode`` has the file's type as well.
    """

    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    atime: int | None = None
    mtime: int | None = None

    def encode(self) -> bytes:
        """The structure as it stands in a packet."""
        flags, body = AttrFlag(0), b""
        if self.size is not None:
            flags |= AttrFlag.SIZE
            body += struct.pack(">Q", self.size)
        if self.uid is not None and self.gid is not None:
            flags |= AttrFlag.UIDGID
            body += struct.pack(">II", self.uid, self.gid)
        if self.mode is not None:
            flags |= AttrFlag.PERMISSIONS
            body += struct.pack(">I", self.mode)
        if self.atime is not None and self.mtime is not None:
            flags |= AttrFlag.ACMODTIME
            body += struct.pack(">II", self.atime & 0xFFFFFFFF, self.mtime & 0xFFFFFFFF)
        return struct.pack(">I", flags) + body


def read_attrs(reader: Reader) -> Attrs:
    """Read one structure; extended attributes are passed over.

    :raises MalformedPacket: it is not there in full, or has a flag of another version.
    """
    flags = reader.u32()
    if flags & ~(_FULL_FLAGS | AttrFlag.EXTENDED):
        raise MalformedPacket(f"attribute flags {flags:#x} are not of version 3")
    size = uid = gid = mode = atime = mtime = None
    if flags & AttrFlag.SIZE:
        size = reader.u64()
    if flags & AttrFlag.UIDGID:
        uid, gid = reader.u32(), reader.u32()
    if flags & AttrFlag.PERMISSIONS:
        mode = reader.u32()
    if flags & AttrFlag.ACMODTIME:
        atime, mtime = reader.u32(), reader.u32()
    if flags & AttrFlag.EXTENDED:
        count = reader.u32()
        if count > _MAX_EXTENDED:
            raise MalformedPacket(f"{count} extended attributes")
        for _ in range(2 * count):
            reader.string()
    return Attrs(size, uid, gid, mode, atime, mtime)


def encode_full_attrs(size: int, uid: int, gid: int, mode: int, atime: int, mtime: int) -> bytes:
    """The structure with all its fields; times beyond 32 bits are cut to the nearest."""
    return _FULL.pack(
        _FULL_FLAGS, size, uid, gid, mode, _clamp_sftp_time(atime), _clamp_sftp_time(mtime)
    )


def _clamp_sftp_time(seconds: int) -> int:
    return min(max(seconds, 0), 0xFFFFFFFF)


def long_name(name: bytes, mode: int, nlink: int, owner: str, size: int, mtime: float) -> bytes:
    """The line that ``ls -l`` would print, for NAME's ``longname``; the owner stands for the group.

    :param mtime: seconds since 1970; it is shown in the server's time zone.
    """
    when = time.localtime(mtime)
    recent = abs(time.time() - mtime) < 182 * 86400
    shown = time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", when)
    line = f"{stat.filemode(mode)} {nlink:4} {owner:<8} {owner:<8} {size:8} {shown} "
    return line.encode() + name
