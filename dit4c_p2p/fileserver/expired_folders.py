"""Removes the folders of instances that were discarded long ago, as their grants say.

``Grants.delete_after`` is the only reason to remove anything. A portal that does not answer, or
does not know an instance, is none.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from dit4c_p2p.errors import DitError
from dit4c_p2p.fileserver.grants import GrantsClient
from dit4c_p2p.fileserver.quota import scan_usage
from dit4c_p2p.fileserver.trees import Trees
from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 6 * 3600.0
_FIRST_LOOK_S = 60.0
# Between two questions to the portal: a large server asks about thousands of folders.
_PAUSE_S = 0.02


class ExpiredFolders:
    """Looks at all folders of instances every few hours for as long as :meth:`run` runs.

    :param folder: where the trees are.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        trees: Trees,
        grants: GrantsClient,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._trees = trees
        self._grants = grants
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(_FIRST_LOOK_S)
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Ask about each folder of an instance, and remove those whose time is over."""
        for tree, instance in await asyncio.to_thread(_folders, self._folder):
            if await self._is_expired(instance):
                try:
                    await self._remove(tree, instance)
                except (OSError, RecursionError) as error:
                    about = f"instance-{instance.id} of {tree}"
                    _log.warning("the folder of %s is not removed: %s", about, error)
            await asyncio.sleep(_PAUSE_S)

    async def _is_expired(self, instance: PeerName) -> bool:
        try:
            grants = await self._grants.of(instance)
        except DitError:
            return False
        after = grants.delete_after
        return after is not None and not grants.folders and self._clock() > after

    async def _remove(self, tree: str, instance: PeerName) -> None:
        freed = await asyncio.to_thread(
            _remove_for_expired_folders, self._folder / tree / "files", instance.id
        )
        for known in self._trees.all():
            if known.name == tree:
                known.usage.give_back(freed)
        _log.info("removed the folder of %s of %s: it was discarded long ago", instance, tree)


def _folders(folder: Path) -> list[tuple[str, PeerName]]:
    """Each folder of an instance: the name of its tree, and the instance."""
    found = []
    for path in sorted(folder.glob("user-*/files/instances/*")):
        try:
            found.append((path.parts[-4], PeerName(Kind.INSTANCE, path.name)))
        except InvalidName:
            continue
    return found


def _remove_for_expired_folders(files: Path, instance: str) -> int:
    """Remove a folder with everything in it, links not followed; return how many bytes it held."""
    parent = os.open(files / "instances", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        folder = os.open(instance, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            held = scan_usage(folder, lambda: False) or 0
        finally:
            os.close(folder)
        shutil.rmtree(instance, dir_fd=parent)
    finally:
        os.close(parent)
    return held
