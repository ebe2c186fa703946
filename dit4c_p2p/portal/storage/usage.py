"""How much is stored, as the file servers say it (``statvfs@openssh.com``), kept for a moment.

A page asks for it more often than it changes, and a file server that does not answer holds no page
up: what it said before is shown, or nothing.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

from dit4c_p2p.portal.errors import PortalError
from dit4c_p2p.portal.storage.file_servers import FileServers
from dit4c_p2p.portal.storage.grants import PlacedFolder

_log = logging.getLogger(__name__)

_KEPT_S = 30.0
_MAX_KEPT = 10_000
_ANSWER_S = 3.0


@dataclass(frozen=True)
class Usage:
    """How much of a tree is used, and how much there may be, in bytes."""

    used_bytes: int
    total_bytes: int

    @property
    def fraction(self) -> float:
        """Used of what there may be, 0 to 1; 1 where there may be nothing."""
        if self.total_bytes <= 0:
            return 1.0
        return min(self.used_bytes / self.total_bytes, 1.0)


class UsageCache:
    """Asks the file servers, as the person whose trees they are."""

    def __init__(
        self, file_servers: FileServers, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file_servers = file_servers
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Usage]] = OrderedDict()

    async def of(self, person: str, folders: list[PlacedFolder]) -> dict[str, Usage]:
        """By tree: what is known of the trees of ``folders``; those not known are left out."""
        by_server: dict[str, dict[str, str]] = {}
        now = self._clock()
        for folder in folders:
            tree, server = folder.grant.tree, folder.server
            at, _ = self._kept.get(tree, (float("-inf"), None))
            if server is not None and now - at > _KEPT_S:
                by_server.setdefault(server, {}).setdefault(tree, folder.grant.path)
        await asyncio.gather(
            *(self._ask(server, person, trees) for server, trees in by_server.items())
        )
        return {
            folder.grant.tree: self._kept[folder.grant.tree][1]
            for folder in folders
            if folder.grant.tree in self._kept
        }

    async def _ask(self, server: str, person: str, trees: dict[str, str]) -> None:
        """Ask a file server about trees, each by a path within it."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                async with self._file_servers.session(server, person) as sftp:
                    for tree, path in trees.items():
                        said = await sftp.statvfs(b"/" + path.encode())
                        self._keep(tree, _usage(said))
        except (PortalError, asyncssh.Error, OSError, TimeoutError) as error:
            _log.info("how much is stored at fileserver-%s is not known: %s", server, error)

    def _keep(self, tree: str, usage: Usage) -> None:
        self._kept[tree] = self._clock(), usage
        self._kept.move_to_end(tree)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)


def _usage(said: asyncssh.SFTPVFSAttrs) -> Usage:
    block = said.frsize or said.bsize
    return Usage(max(said.blocks - said.bfree, 0) * block, said.blocks * block)
