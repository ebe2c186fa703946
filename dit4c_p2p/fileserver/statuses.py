"""What an errno is to clients: a status code of SFTP version 3, and words."""

import errno
import os

from dit4c_p2p.sftp.constants import StatusCode
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS
from dit4c_p2p.sftp.packets import Status

OK = Status(StatusCode.OK)
EOF = Status(StatusCode.EOF, "end of file")

_CODES = {
    errno.ENOENT: StatusCode.NO_SUCH_FILE,
    errno.ENOTDIR: StatusCode.NO_SUCH_FILE,
    errno.ELOOP: StatusCode.NO_SUCH_FILE,
    errno.EACCES: StatusCode.PERMISSION_DENIED,
    errno.EPERM: StatusCode.PERMISSION_DENIED,
    errno.EROFS: StatusCode.PERMISSION_DENIED,
    errno.EOPNOTSUPP: StatusCode.OP_UNSUPPORTED,
    errno.ENOSYS: StatusCode.OP_UNSUPPORTED,
}
_WORDS = {
    CHANGED_BY_OTHERS: "somebody else has changed the file meanwhile",
    errno.EDQUOT: "the quota is used up: remove something, or ask for more",
    errno.ENOSPC: "the file server's disk is full",
    errno.EROFS: "this folder is read-only",
    errno.EXDEV: "this leads out of the folder; files are moved between folders by copying",
    errno.EMFILE: "too many files are open in this session",
    errno.ENFILE: "too many files are open on this server",
}


def errno_in_words(number: int) -> str:
    """What an errno means, in words."""
    return _WORDS.get(number) or os.strerror(number)


def status_of(error: OSError, *, with_errno: bool) -> Status:
    """The status for a failed request; the errno itself is for clients that said hello."""
    number = error.errno or errno.EIO
    code = _CODES.get(number, StatusCode.FAILURE)
    return Status(code, errno_in_words(number), number if with_errno else 0)
