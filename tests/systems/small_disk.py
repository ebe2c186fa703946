"""A file system with little room, to be filled: what a full disk does to real files (root only)."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ONLY_ROOT = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]
_PAGE = bytes(4096)
_FILES = 256


class SmallDisk:
    """``with SmallDisk(folder) as disk``: it is at ``folder``, which is made.

    A file on it that does not end with a page (4 KiB) can grow to the end of it however full the
    disk is: a test writes on until it is refused.
    """

    def __init__(self, folder: Path, *, size: str = "8m") -> None:
        self.folder = folder
        self._size = size
        self._filler = folder / "filler"
        self._more = folder / "fillers"

    def __enter__(self) -> "SmallDisk":
        self.folder.mkdir(parents=True)
        options = f"size={self._size},nr_inodes={_FILES},mode=700"
        _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder)
        return self

    def __exit__(self, *error: object) -> None:
        # Lazily: a process that a failed test left behind may still hold a file of it.
        _run("umount", "-l", self.folder)

    def fill(self, *, leaving: int = 0, files: bool = True) -> None:
        """No page is left, and no other file can be made.

        :param leaving: so many bytes are left, in whole pages.
        :param files: False: files can be made, as long as they are empty.
        """
        self._more.mkdir()
        with _until_full(), self._filler.open("ab", buffering=0) as filler:
            while True:
                filler.write(_PAGE)
        if leaving:
            os.truncate(self._filler, self._filler.stat().st_size - leaving)
        if files and not leaving:
            with _until_full():
                for number in range(_FILES):
                    (self._more / str(number)).touch()

    def make_room(self) -> None:
        """As it was before :meth:`fill`, if it was filled."""
        self._filler.unlink(missing_ok=True)
        if self._more.exists():
            shutil.rmtree(self._more)


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    else:
        raise AssertionError("the small disk does not become full")


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)
