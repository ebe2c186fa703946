"""Numbers of SFTP version 3 (draft-ietf-secsh-filexfer-02), and the limits of both ends."""

from enum import IntEnum, IntFlag

SFTP_VERSION = 3

# OpenSSH's own limits (sftp-common.h); a stock client asks for them with limits@openssh.com.
MAX_PACKET_BYTES = 256 * 1024
MAX_DATA_BYTES = 255 * 1024
MAX_HANDLE_BYTES = 256


class PacketType(IntEnum):
    """Section 3: the first byte of a packet."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class StatusCode(IntEnum):
    """Section 7: how a request ended."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class OpenFlag(IntFlag):
    """Section 6.3: ``pflags`` of OPEN."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREAT = 0x08
    TRUNC = 0x10
    EXCL = 0x20


class AttrFlag(IntFlag):
    """Section 5: which fields of ATTRS are there."""

    SIZE = 0x01
    UIDGID = 0x02
    PERMISSIONS = 0x04
    ACMODTIME = 0x08
    EXTENDED = 0x80000000
