"""Where folders of several file servers appear in one mount."""

import asyncio
import logging
from collections.abc import Sequence

from dit4c_p2p.helpers.storage.nodes import Node, NodeTable
from dit4c_p2p.helpers.storage.remote import Remote
from dit4c_p2p.helpers.storage.server_link import ServerLink

_log = logging.getLogger(__name__)

# Groups are joined and left while a pod runs.
_LOOK_EVERY_S = 5.0
# Each server shows its groups below this folder; the mount shows those of all servers.
_SHARED = b"shared"


async def follow_roots(table: NodeTable, links: Sequence[ServerLink]) -> None:
    """Show what each server shows at its root, until cancelled."""
    planted: dict[bytes, tuple[ServerLink, Node]] = {}
    while True:
        for link in links:
            try:
                paths = await _shown_by_for_roots(link)
            except OSError as error:
                _log.info("%s: its folders can't be listed: %s", link.name, error)
                continue
            for path in [path for path, (by, _) in planted.items() if by is link]:
                if path not in paths:
                    table.uproot(planted.pop(path)[1])
            for path in paths:
                if path not in planted:
                    planted[path] = link, table.plant(path, link, b"/" + path)
        await asyncio.sleep(_LOOK_EVERY_S)


async def _shown_by_for_roots(link: ServerLink) -> set[bytes]:
    paths = set()
    for name in await link.call(lambda remote: _names_for_roots(remote, b"/")):
        if name == _SHARED:
            groups = await link.call(lambda remote: _names_for_roots(remote, b"/" + _SHARED))
            paths |= {_SHARED + b"/" + group for group in groups}
        else:
            paths.add(name)
    return paths


async def _names_for_roots(remote: Remote, path: bytes) -> list[bytes]:
    found = []
    async for listed in remote.list_folder(path):
        found += [entry.name for entry in listed.entries if entry.attributes.is_folder]
    return found
