"""System calls that Python has no function for: openat2(2), renameat2(2), syncfs(2), FICLONE.

Every path that comes from a client is resolved by :func:`open_beneath`, at the time of its use.
"""

import ctypes
import errno
import fcntl
import os
from enum import IntFlag

# The same number on every architecture but alpha; Linux 5.6.
_SYS_OPENAT2 = 437
_FICLONE = 0x40049409
# A path with ".." in a link is refused with EAGAIN while folders above are being renamed.
_TRIES = 64


class Resolve(IntFlag):
    """``resolve`` of openat2(2)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08


# Nothing leaves the folder: not by "..", not by an absolute link, not by a link of /proc, and not
# by something that is mounted in it.
BENEATH = Resolve.BENEATH | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV


class _OpenHow(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_HOW_BYTES = ctypes.sizeof(_OpenHow)


def open_beneath(
    folder: int, path: bytes, flags: int, mode: int = 0, resolve: int = BENEATH
) -> int:
    """Open ``path``, which never leads out of ``folder``; returns a file descriptor.

    :param folder: descriptor of a directory.
    :param flags: as of open(2); close-on-exec is added.
    :param resolve: of :class:`Resolve`; :data:`BENEATH`, and more.
    :raises OSError: as openat2(2) says; EXDEV for a path that leads out.
    """
    if b"\0" in path:
        raise os_error(errno.EINVAL)
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_TRIES):
        descriptor: int = _syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(folder),
            ctypes.c_char_p(path or b"."),
            ctypes.byref(how),
            ctypes.c_size_t(_HOW_BYTES),
        )
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            raise os_error(number)
    raise os_error(errno.EAGAIN)


def rename_with_flags(old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int) -> None:
    """renameat2(2); ``flags``: 1 fails if ``new`` is there, 2 exchanges the two.

    :raises OSError: as the system call says.
    """
    if b"\0" in old or b"\0" in new:
        raise os_error(errno.EINVAL)
    result = _libc.renameat2(
        ctypes.c_int(old_dir),
        ctypes.c_char_p(old),
        ctypes.c_int(new_dir),
        ctypes.c_char_p(new),
        ctypes.c_uint(flags),
    )
    if result != 0:
        raise os_error(ctypes.get_errno())


def sync_filesystem(descriptor: int) -> None:
    """syncfs(2): everything written so far to the file system of ``descriptor`` is on its disk.

    :raises OSError: something could not be written.
    """
    if _libc.syncfs(ctypes.c_int(descriptor)) != 0:
        raise os_error(ctypes.get_errno())


def clone_file(source: int, target: int) -> bool:
    """Share the contents of one open file with another; False where the file system can't."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def os_error(number: int) -> OSError:
    """The exception for an errno, of the subclass that Python has for it."""
    return OSError(number, os.strerror(number))
