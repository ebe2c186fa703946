"""A file system with little room, to be filled: what a full disk does to real files (root only)."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

ONLY_ROOT = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]
_PAGE = bytes(4096)


class SmallDisk:
    """``with SmallDisk(folder) as disk``: it is at ``folder``, which is made.

    A file on it that does not end with a page (4 KiB) can grow to the end of it however full the
    disk is: a test writes on until it is refused.
    """

    def __init__(self, folder: Path, *, size: str = "8m") -> None:
        self.folder = folder
        self._size = size
        self._filler = folder / "filler"

    def __enter__(self) -> "SmallDisk":
        self.folder.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size},mode=700", "tmpfs", self.folder)
        return self

    def __exit__(self, *error: object) -> None:
        # Lazily: a process that a failed test left behind may still hold a file of it.
        _run("umount", "-l", self.folder)

    def fill(self) -> None:
        """No page is left."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(descriptor, _PAGE)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        finally:
            os.close(descriptor)

    def make_room(self) -> None:
        """As it was before :meth:`fill`."""
        self._filler.unlink()


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)
