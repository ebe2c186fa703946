"""Small files, whole, as long as a lease covers them."""

import asyncio
from collections import OrderedDict

from dit4c_p2p.helpers.storage.lease_book import Coverage
from dit4c_p2p.helpers.storage.nodes import Node
from dit4c_p2p.helpers.storage.server_link import ServerLink

SMALL_BYTES = 64 * 1024
_MOST_BYTES = 32 * 1024 * 1024
# What one message fetches.
_MESSAGE_BYTES = 192 * 1024
_MESSAGE_FILES = 48
# What is fetched of a folder with a file that is read: twice as much each time, up to this.
_FIRST_AHEAD_BYTES = 192 * 1024
_MOST_AHEAD_BYTES = 2 * 1024 * 1024
# With so many small files that are read in a folder, others are likely to be read too.
_READS = 2


class Contents:
    """A cache that keeps what was used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Node, tuple[Coverage, int, bytes]] = OrderedDict()
        self._bytes = 0
        self._fetching: dict[Node, asyncio.Task[None]] = {}

    async def fetch(self, node: Node) -> bytes | None:
        """A small file that a lease covers; others of its folder are fetched along with it.

        Returns None if it can't be had so.
        """
        link, folder = node.link, next(iter(node.names), (node, b""))[0]
        if link is None or not node.is_sure or not 0 < node.attributes.size <= SMALL_BYTES:
            return None
        if node not in self._fetching:
            folder.reads += 1
            nodes = [node, *self._neighbours(node, folder)]
            while nodes:
                nodes = self._fetch_some(link, nodes)
        await asyncio.shield(self._fetching[node])
        return self.get(node)

    def _fetch_some(self, link: ServerLink, nodes: list[Node]) -> list[Node]:
        """Fetch as many as one message has room for; returns those that are left."""
        count, room = 0, _MESSAGE_BYTES
        for node in nodes[:_MESSAGE_FILES]:
            room -= node.attributes.size
            if room < 0 and count:
                break
            count += 1
        task = asyncio.ensure_future(self._fetch_all(link, nodes[:count]))
        task.add_done_callback(lambda task: self._fetched(task, nodes[:count]))
        self._fetching.update(dict.fromkeys(nodes[:count], task))
        return nodes[count:]

    async def _fetch_all(self, link: ServerLink, nodes: list[Node]) -> None:
        before = [(node.path(), node.changes, node.sure) for node in nodes]
        paths = [path for path, _, _ in before]
        wholes = await link.call(lambda remote: remote.read_files(paths))
        for node, (_, changes, covered), whole in zip(nodes, before, wholes, strict=True):
            if (
                whole is not None
                and whole.attributes.file_id == node.attributes.file_id
                and node.sure == covered
            ):
                self.put(node, changes, whole.data)

    def _fetched(self, task: "asyncio.Task[None]", nodes: list[Node]) -> None:
        for node in nodes:
            del self._fetching[node]
        if not task.cancelled():
            task.exception()  # is told to who reads one of the files; nobody may

    def get(self, node: Node) -> bytes | None:
        """All contents of a file, if they can be counted on now."""
        kept = self._kept.get(node)
        if kept is None:
            return None
        covered, changes, data = kept
        if node.sure != covered or node.changes != changes or not node.is_sure:
            self._drop(node)
            return None
        self._kept.move_to_end(node)
        return data

    def put(self, node: Node, changes: int, data: bytes) -> None:
        """These are the contents of a file that had been changed so many times."""
        if node.changes != changes or not node.is_sure or node.sure is None:
            return
        if node in self._kept:
            self._drop(node)
        self._kept[node] = node.sure, changes, data
        self._bytes += len(data)
        while self._bytes > _MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, node: Node) -> None:
        self._bytes -= len(self._kept.pop(node)[2])

    def _neighbours(self, node: Node, folder: Node) -> list[Node]:
        """Small files of ``node``'s folder that are not here: those behind it, then the others.

        None where it is the first that is read in the folder.
        """
        if folder.reads < _READS or not folder.knows_all:
            return []
        names = list(folder.children)
        at = names.index(next(iter(node.names))[1])
        found: list[Node] = []
        room = min(_FIRST_AHEAD_BYTES << min(folder.reads - _READS, 8), _MOST_AHEAD_BYTES)
        for other_name in (*names[at + 1 :], *names[:at]):
            other = folder.children[other_name]
            size = other.attributes.size
            if not other.is_sure or not other.attributes.is_regular or other in self._fetching:
                continue
            if not 0 < size <= SMALL_BYTES or other.file is not None or self.get(other) is not None:
                continue
            room -= size
            if room < 0:
                break
            found.append(other)
        return found
