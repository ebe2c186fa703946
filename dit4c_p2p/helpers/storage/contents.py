"""Small files, whole, as long as a lease covers them."""

from collections import OrderedDict

from dit4c_p2p.helpers.storage.lease_book import Coverage
from dit4c_p2p.helpers.storage.nodes import Node

SMALL_BYTES = 64 * 1024
_MOST_BYTES = 32 * 1024 * 1024
# What is fetched with a file that is read, of those that follow it in its folder.
_MOST_AHEAD_BYTES = 192 * 1024
_MOST_AHEAD = 48


class Contents:
    """A cache that keeps what was used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Node, tuple[Coverage, int, bytes]] = OrderedDict()
        self._bytes = 0

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

    def neighbours(self, node: Node) -> list[Node]:
        """Small files that follow ``node`` in its folder, and are not here."""
        folder, name = next(iter(node.names), (None, b""))
        if folder is None or not folder.knows_all:
            return []
        names = list(folder.children)
        found: list[Node] = []
        room = _MOST_AHEAD_BYTES
        for other_name in names[names.index(name) + 1 :]:
            other = folder.children[other_name]
            size = other.attributes.size
            if not other.is_sure or not other.attributes.is_regular:
                continue
            if not 0 < size <= SMALL_BYTES or other.file is not None or self.get(other) is not None:
                continue
            room -= size
            if room < 0 or len(found) == _MOST_AHEAD:
                break
            found.append(other)
        return found
