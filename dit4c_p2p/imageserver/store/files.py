"""Files of the store: where they are, and how they get there and away."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dit4c_p2p.atomic_file import sync_folder
from dit4c_p2p.imageserver.store.errors import DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Files:
    """The folders ``blobs``, ``packs`` and ``incoming`` below ``root``; they are made.

    :param keep_free: bytes of the disk that uploads leave free, for the index to go on.
    """

    def __init__(self, root: Path, keep_free: int) -> None:
        self.root = root
        self._keep_free = keep_free
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        for kind in ("blobs", "packs"):
            (root / kind).mkdir(exist_ok=True, mode=0o700)
        sync_folder(root)

    def blob(self, name: str) -> Path:
        """Where a blob with these hexadecimal digits is."""
        return self.root / "blobs" / name[:2] / name

    def pack(self, name: str) -> Path:
        """Where a pack with these hexadecimal digits is."""
        return self.root / "packs" / name[:2] / name

    def incoming(self, name: str) -> Path:
        """Where what is not finished is."""
        return self._incoming / name

    def all_incoming(self) -> list[Path]:
        """What is not finished."""
        return list(self._incoming.iterdir())

    def all_of(self, kind: str) -> list[Path]:
        """Every file of ``blobs`` or ``packs``."""
        return [path for folder in (self.root / kind).iterdir() for path in folder.iterdir()]

    def check_room(self, size: int = 0) -> None:
        """See that ``size`` more bytes leave enough free.

        :raises DiskFull: they don't.
        """
        if shutil.disk_usage(self.root).free - size < self._keep_free:
            raise DiskFull

    @property
    def free(self) -> int:
        """Bytes that are free on the disk."""
        return shutil.disk_usage(self.root).free


def new_name() -> str:
    """A name for a new file: 32 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(16)


def put_in_place(source: Path, target: Path) -> None:
    """Give a file that is on disk its final name, which outlives a power cut.

    Called by the thread that writes to the index.

    :raises DiskFull: there is no room for the name.
    """
    folder = target.parent
    with disk_errors():
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
        source.replace(target)
        sync_folder(folder)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Have the lack of room said.

    :raises DiskFull: there was none.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull from None
        raise


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write everything.

    :raises DiskFull: there is no room for it.
    """
    view = memoryview(data)
    with disk_errors():
        while view:
            view = view[os.write(descriptor, view) :]
