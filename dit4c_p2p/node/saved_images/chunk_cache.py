"""Chunks that were fetched, kept for the next image: of two saves of one instance most are alike.

Each chunk is a file as it came by wire, below ``<data>/node/chunks/``. The whole has a limit: what
was not used for longest goes first. A file that is damaged is found out by its digest, and is
fetched again.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from dit4c_p2p.oci.chunks import Chunk
from dit4c_p2p.oci.errors import InvalidChunks
from dit4c_p2p.oci.exchange import HEAD_BYTES, Head, Packed, unpack_chunk

_log = logging.getLogger(__name__)

LIMIT_BYTES = 2 * 1024**3
# Tidied down to that, so that not every fetch has to.
_TIDIED_TO = 0.8


class ChunkCache:
    """The cache of one agent. Its calls block: they are for threads."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit_bytes

    def get(self, chunk: Chunk) -> bytes | None:
        """A chunk's content, verified; None: it is not here, or not as it was."""
        path = self._path(chunk)
        try:
            data = path.read_bytes()
            packed = Packed(Head.decode(data[:HEAD_BYTES]), data[HEAD_BYTES:])
            content = unpack_chunk(packed)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, InvalidChunks, ValueError) as error:
            _log.warning("a chunk that was kept can't be used: %s", error)
            return None
        return content if packed.head.chunk == chunk else None

    def put(self, chunks: Iterable[Packed]) -> None:
        """Keep chunks, which :meth:`get` verifies.

        Where that can't be done, they are fetched again one day.
        """
        try:
            for packed in chunks:
                path = self._path(packed.head.chunk)
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                being_written = path.with_suffix(".new")
                being_written.write_bytes(packed.wire)
                being_written.replace(path)
        except OSError as error:
            _log.warning("chunks can't be kept: %s", error)

    def tidy(self) -> None:
        """Remove what is over the limit, and what a crash has left half written."""
        found: list[tuple[float, int, Path]] = []
        try:
            for path in self._folder.rglob("*"):
                about = path.lstat()
                if path.suffix == ".new":
                    path.unlink(missing_ok=True)
                elif path.is_file():
                    found.append((about.st_mtime, about.st_size, path))
            size = sum(one for _, one, _ in found)
            if size <= self._limit:
                return
            for _, one, path in sorted(found):
                if size <= self._limit * _TIDIED_TO:
                    break
                path.unlink(missing_ok=True)
                size -= one
        except OSError as error:
            _log.warning("the chunk cache can't be cleaned up: %s", error)

    def _path(self, chunk: Chunk) -> Path:
        name = chunk.digest.hex()
        return self._folder / name[:2] / name
