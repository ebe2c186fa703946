"""Snapshots of all trees, once an hour."""

import asyncio
import contextlib
import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dit4c_p2p.fileserver.snapshots import FolderSnapshots, Stopped
from dit4c_p2p.fileserver.trees import Trees

_log = logging.getLogger(__name__)

HOUR_S = 3600.0
_FIRST_S = 15.0
_INSTANCES = "instances"


class Housekeeping:
    """Walks all trees, one folder after the other, in a thread; :meth:`run` goes on for ever.

    :param hourly: for how many hours an hourly snapshot is kept; ``daily`` the same for days. Both
        0: none are made.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        trees: Trees,
        *,
        hourly: int,
        daily: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._trees = trees
        self._hourly = hourly
        self._daily = daily
        self._clock = clock
        self._stopped = threading.Event()

    async def run(self) -> None:
        """Look once an hour, soon after the start for the first time."""
        await asyncio.sleep(_FIRST_S)
        while True:
            try:
                await self.round()
            except Exception:  # noqa: BLE001  what fails here must not end the server
                _log.exception("the hourly round has failed; the next one goes on")
            await asyncio.sleep(HOUR_S)

    def stop(self) -> None:
        """Leave unfinished what is being made."""
        self._stopped.set()

    async def round(self) -> None:
        """Do all that is due."""
        for tree in await asyncio.to_thread(self._trees.names_on_disk):
            await asyncio.to_thread(self._remove_orphans, tree)
            if self._hourly or self._daily:
                working = asyncio.create_task(
                    asyncio.to_thread(self._snapshots_of, tree), name=f"snapshots of {tree}"
                )
                try:
                    await asyncio.shield(working)
                except asyncio.CancelledError:
                    self.stop()
                    await working
                    raise

    # ---- snapshots; in a thread

    def _snapshots_of(self, tree: str) -> None:
        files, kept = self._trees.paths(tree)
        now = self._clock()
        for folder in folders_of(files):
            snapshots = FolderSnapshots(files / folder, kept / folder, self._stopped.is_set)
            try:
                # Old ones first: on a full disk they make room.
                snapshots.thin(now, self._hourly, self._daily)
                made = snapshots.make(now)
            except Stopped:
                return
            except (OSError, RecursionError) as error:
                _log.warning("no snapshot of %s in %s: %s", folder, tree, error)
                continue
            if made is not None:
                _log.info("snapshot of %s in %s: %d changes", folder, tree, made.changed)

    def _remove_orphans(self, tree: str) -> None:
        """Remove the snapshots of instances whose folders are gone; see ``expired_folders``."""
        files, kept = self._trees.paths(tree)
        for path in _below_for_housekeeping(kept / _INSTANCES):
            if not (files / _INSTANCES / path.name).exists():
                _remove_for_housekeeping(path)


def folders_of(files: Path) -> Iterator[Path]:
    """The folders of a tree that have snapshots of their own, relative to its files."""
    for path in _below_for_housekeeping(files):
        if path.name == _INSTANCES:
            yield from (inner.relative_to(files) for inner in _below_for_housekeeping(path))
        else:
            yield path.relative_to(files)


def _below_for_housekeeping(folder: Path) -> Iterator[Path]:
    """The directories in a directory; none if there is no such directory."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                yield path


def _remove_for_housekeeping(folder: Path) -> None:
    """Remove a folder; what can't be removed is logged, and tried again in an hour."""

    def failed(function: object, path: str, error: object) -> None:
        _log.warning("%s can't be removed: %s", path, sys.exc_info()[1])

    if folder.exists():
        try:
            shutil.rmtree(folder, onerror=failed)
        except RecursionError:
            _log.warning("%s can't be removed: its folders are too deep", folder)
