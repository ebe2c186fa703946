"""OpenSSH's extensions of SFTP (its PROTOCOL file, sections 4.1 to 4.10).

Each is an EXTENDED request whose data is one of these records; :data:`OPENSSH_EXTENSIONS` is what a
server announces in VERSION.
"""

from dit4c_p2p.sftp.wire import U64, Record

POSIX_RENAME = b"posix-rename@openssh.com"
STATVFS = b"statvfs@openssh.com"
FSTATVFS = b"fstatvfs@openssh.com"
HARDLINK = b"hardlink@openssh.com"
FSYNC = b"fsync@openssh.com"
LSETSTAT = b"lsetstat@openssh.com"
LIMITS = b"limits@openssh.com"
EXPAND_PATH = b"expand-path@openssh.com"
COPY_DATA = b"copy-data"

OPENSSH_EXTENSIONS: tuple[tuple[bytes, bytes], ...] = (
    (POSIX_RENAME, b"1"),
    (STATVFS, b"2"),
    (FSTATVFS, b"2"),
    (HARDLINK, b"1"),
    (FSYNC, b"1"),
    (LSETSTAT, b"1"),
    (LIMITS, b"1"),
    (EXPAND_PATH, b"1"),
    (COPY_DATA, b"1"),
)


class TwoPaths(Record, frozen=True):
    """``posix-rename`` and ``hardlink``: the old path and the new one."""

    old: bytes
    new: bytes


class OnePath(Record, frozen=True):
    """``statvfs`` and ``expand-path``."""

    path: bytes


class OneHandle(Record, frozen=True):
    """``fsync`` and ``fstatvfs``."""

    handle: bytes


class CopyData(Record, frozen=True):
    """``copy-data``: ``length`` bytes from one open file to another; 0: up to the end."""

    source: bytes
    source_offset: U64
    length: U64
    target: bytes
    target_offset: U64


class Limits(Record, frozen=True):
    """The answer to ``limits``; 0: not limited."""

    max_packet_bytes: U64
    max_read_bytes: U64
    max_write_bytes: U64
    max_handles: U64


class StatVfs(Record, frozen=True):
    """The answer to ``statvfs``, as of statvfs(3); ``flags``: 1 read-only, 2 no setuid."""

    block_bytes: U64
    fragment_bytes: U64
    blocks: U64
    blocks_free: U64
    blocks_available: U64
    files: U64
    files_free: U64
    files_available: U64
    filesystem_id: U64
    flags: U64
    max_name_bytes: U64
