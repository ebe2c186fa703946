"""Private files, written atomically.

After a full disk or a power cut a file has its old content or all of its new content, never a part
of it, and it is never empty.
"""

import errno
import os
from pathlib import Path

from dit4c_p2p.errors import DitError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


class NotWritten(DitError):
    """A file could not be written, because of ``error``; what it held before is still in it."""

    code = "not_written"

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} can't be written: {error.strerror or error}", hint=full_disk_hint(error)
        )
        self.error = error


def write_whole(
    path: Path, content: bytes, *, lasting: bool = True, like: Path | None = None
) -> None:
    """Write a file with mode 0600; its folder is made, with mode 0700.

    :param lasting: sync the file, so that it survives a power cut; False for content that can be
        fetched again.
    :param like: a file whose owner, group and mode are used instead; it may be ``path``.
    :raises NotWritten: the file can't be written.
    """
    folder = path.parent
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        new = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            # The folder may be everybody's, such as /tmp: what is there already is nobody's to use.
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                if like is not None:
                    whose = like.stat()
                    os.fchown(descriptor, whose.st_uid, whose.st_gid)
                    os.fchmod(descriptor, whose.st_mode & 0o777)
                file.write(content)
                file.flush()
                if lasting:
                    os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if lasting:
            for changed in (folder, *(one.parent for one in new)):
                sync_folder(changed)
    except OSError as error:
        raise NotWritten(path, error) from None


def is_full_disk_error(error: OSError) -> bool:
    """Whether the error is that of a full disk or an exceeded quota."""
    return error.errno in _FULL


def full_disk_hint(error: OSError) -> str:
    """Return a hint for an error of a file; it may be empty."""
    if is_full_disk_error(error):
        return "make room on its disk, and try again"
    if error.errno in _NOT_OURS:
        return "make it writable for the user that runs this"
    return ""


def sync_folder(folder: Path) -> None:
    """Sync the folder, so that its entries survive a power cut.

    :raises OSError: the folder can't be synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
