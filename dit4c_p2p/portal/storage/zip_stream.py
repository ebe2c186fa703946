"""A ZIP archive that is written while it is sent: nothing of it is kept. Knows no file server.

Files are stored without compression, so that one download takes no processor from everybody else.
Sizes follow the contents (APPNOTE.TXT 4.3.9), for they are not known before; ZIP64 where needed.
"""

import io
import time
import zipfile
from collections.abc import AsyncIterator

_LINK_MODE = 0o120777 << 16
# ZIP has no earlier time (APPNOTE.TXT 4.4.6).
_FIRST = (1980, 1, 1, 0, 0, 0)
_LAST_YEAR = 2107


class _Pipe(io.RawIOBase):
    """Holds what was written until it is taken; can't be rewound."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.held_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        self.held_bytes += len(data)
        return len(data)

    def take(self) -> bytes:
        parts, self._parts, self.held_bytes = self._parts, [], 0
        return b"".join(parts)


class ZipStream:
    """``add_…`` what is to be in it and send what :meth:`take` returns; :meth:`finish` at the end.

    A file is added in blocks::

        async for block in stream.add_file("a/b.txt", mtime, contents):
            await send(block)
    """

    def __init__(self) -> None:
        self._pipe = _Pipe()
        self._zip = zipfile.ZipFile(self._pipe, "w", zipfile.ZIP_STORED, allowZip64=True)

    async def add_file(
        self, name: str, mtime: float, contents: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """A file; yields what there is to send, block by block."""
        entry = _entry(name, mtime)
        entry.external_attr = 0o100644 << 16
        with self._zip.open(entry, "w", force_zip64=True) as file:
            async for block in contents:
                file.write(block)
                yield self.take()
        yield self.take()

    def add_folder(self, name: str, mtime: float) -> bytes:
        """A folder, which may stay empty; returns what there is to send."""
        entry = _entry(name + "/", mtime)
        entry.external_attr = (0o040755 << 16) | 0x10
        self._zip.writestr(entry, b"")
        return self.take()

    def add_link(self, name: str, mtime: float, target: bytes) -> bytes:
        """A symbolic link; returns what there is to send."""
        entry = _entry(name, mtime)
        entry.external_attr = _LINK_MODE
        self._zip.writestr(entry, target)
        return self.take()

    def finish(self) -> bytes:
        """The end of the archive; without it no program takes it for whole."""
        self._zip.close()
        return self.take()

    def discard(self) -> None:
        """Give an archive up that is not finished; a finished one stays as it is."""
        # Without a file, closing writes no end: nobody would read it.
        self._zip.fp = None

    def take(self) -> bytes:
        """What was not sent yet."""
        return self._pipe.take()


def _entry(name: str, mtime: float) -> zipfile.ZipInfo:
    at = time.gmtime(max(mtime, 0))
    moment = at[:6] if _FIRST[0] <= at.tm_year <= _LAST_YEAR else _FIRST
    entry = zipfile.ZipInfo(name, moment)
    entry.create_system = 3  # Unix: the modes count
    return entry
