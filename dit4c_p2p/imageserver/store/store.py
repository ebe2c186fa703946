"""The parts of a store together."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from dit4c_p2p.imageserver.store.blobs import Blobs
from dit4c_p2p.imageserver.store.chunks import Chunks
from dit4c_p2p.imageserver.store.files import Files
from dit4c_p2p.imageserver.store.garbage import Garbage
from dit4c_p2p.imageserver.store.index import Index, Transaction
from dit4c_p2p.imageserver.store.manifests import Manifests
from dit4c_p2p.imageserver.store.uploads import Uploads


class Store:
    """Everything that an image server keeps, in a folder of its own; :meth:`close` it in the end.

    :param max_blob_bytes: of one blob.
    :param keep_free: bytes of the disk that uploads leave free.
    :param unfinished_s: how long stays what no image names.
    :raises ConfigError: what is in the folder is something else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_blob_bytes: int,
        keep_free: int,
        unfinished_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.files = Files(folder, keep_free)
        self.index = Index(folder / "index.sqlite3")
        self.uploads = Uploads(self.index, self.files, max_blob_bytes, clock)
        self.chunks = Chunks(self.index, self.files, unfinished_s, clock)
        self.blobs = Blobs(self.index, self.files, self.chunks, clock)
        self.manifests = Manifests(self.index, self.blobs, clock)
        self.garbage = Garbage(self.index, self.files, self.uploads, unfinished_s, clock)

    async def counts(self) -> tuple[dict[str, float], dict[str, float]]:
        """How many there are of what, and how many bytes they take on the disk."""

        def work(at: Transaction) -> tuple[dict[str, float], dict[str, float]]:
            tables = ("repository", "blob", "manifest", "chunk", "upload", "pack")
            kept = {
                table: float(at.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in tables
            }
            blobs = "SELECT total(size) FROM blob WHERE recipe IS NULL"
            packs = "SELECT total(size) FROM pack"
            sizes = {
                "blobs": float(at.execute(blobs).fetchone()[0]),
                "packs": float(at.execute(packs).fetchone()[0]),
            }
            return kept, sizes

        return await self.index.read(work)

    async def close(self) -> None:
        """Finish what has been begun."""
        await self.chunks.close()
        await asyncio.to_thread(self.index.close)
