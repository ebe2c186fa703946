"""The files that the kernel knows of: their numbers, names and attributes.

A node is one file or folder, whatever its names; the kernel calls it by :attr:`Node.number`, which
is also its inode number. With a server of this project that is the server's file id, the same in
every mount; otherwise it is made of the path, which lasts until a file is renamed. Paths are put
together from names whenever they are needed, so that a folder's rename changes one name.
"""

import asyncio
import errno
import hashlib
import stat
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from dit4c_p2p.helpers.storage.attributes import Attributes
from dit4c_p2p.helpers.storage.leases import HeldLease
from dit4c_p2p.helpers.storage.server_link import ServerLink

if TYPE_CHECKING:
    from dit4c_p2p.helpers.storage.files import NodeFile

ROOT_NUMBER = 1
_NUMBERS = (1 << 63) - 1
# Deeper than any path may be (PATH_MAX is 4,096 bytes): a server that makes it so lies.
_MAX_DEPTH = 2048


class Node:
    """One file or folder. ``link`` is None for a folder that only the mount has.

    :ivar names: where it is, each with the epoch of that folder in which this was learned.
    :ivar last_name: the name that it has lost last, unless this mount has removed it.
    :ivar lease: a folder's.
    :ivar epoch: of a folder: how many times it has begun to be leased.
    :ivar complete: of a folder: the epoch in which all its names became known.
    :ivar sure: the folder whose lease covers this node's attributes, and its epoch.
    :ivar told_times: its number of changes when a program had last set its times itself, so that
        all of its attributes but the time of change are known.
    :ivar contested_until: of a folder: until then others use it too (monotonic clock), and it is
        no use to lease it.
    :ivar own_changes: of a folder: how many changes of its names this mount has made.
    :ivar owning: of a folder: a write lease on it is being asked for.
    :ivar proved: of a folder: the epoch in which a change of this mount has succeeded there.
    :ivar failed: an error of a change that was sent behind, of which nobody was told yet.
    :ivar pages: the state that the kernel's copy of the contents is of, as :attr:`sure`.
    :ivar pages_version: the same as a version of the attributes.
    """

    __slots__ = (
        "attributes",
        "base",
        "changes",
        "children",
        "complete",
        "contested_until",
        "entered",
        "epoch",
        "failed",
        "file",
        "fresh_until",
        "generation",
        "last_name",
        "lease",
        "link",
        "listed_at",
        "listing",
        "lookups",
        "misses",
        "names",
        "names_until",
        "number",
        "own_changes",
        "owning",
        "pages",
        "pages_version",
        "proved",
        "read_at",
        "reads",
        "sure",
        "told_times",
    )

    def __init__(self, number: int, attributes: Attributes, link: ServerLink | None) -> None:
        self.number = number
        self.attributes = attributes
        self.link = link
        self.generation = 0
        self.lookups = 0
        self.fresh_until = 0.0
        self.changes = 0
        # Look-ups in this folder that the server was asked for, and the listing that spares more.
        self.misses = 0
        # Of a folder: how many times the server was asked about a folder in it.
        self.entered = 0
        self.listing: asyncio.Task[Collection[bytes] | None] | None = None
        self.listed_at = 0.0
        self.names: dict[tuple[Node, bytes], int] = {}
        self.last_name: tuple[Node, bytes] | None = None
        self.children: dict[bytes, Node] = {}
        self.base: bytes | None = None
        self.file: NodeFile | None = None
        self.lease: HeldLease | None = None
        self.epoch = 0
        self.complete = -1
        self.sure: tuple[Node, int] | None = None
        self.told_times = -1
        # Of a folder: until when the kernel may go by what it was told of names (monotonic clock).
        self.names_until = -1e9
        self.contested_until = 0.0
        self.own_changes = 0
        self.owning = False
        self.proved = -1
        self.failed: OSError | None = None
        # Of a folder: small files of it that were fetched because somebody read them.
        self.reads = 0
        # Of a folder: when a program has last read it (monotonic clock).
        self.read_at = -1e9
        self.pages: tuple[Node, int] | None = None
        self.pages_version: tuple[int, int, int | None] | None = None

    @property
    def leased(self) -> bool:
        """Whether a lease on this folder can be counted on now."""
        return self.lease is not None and self.lease.valid

    @property
    def is_sure(self) -> bool:
        """Whether a lease covers what is known of its attributes, and of a file's contents."""
        if self.sure is None:
            return False
        folder, epoch = self.sure
        if folder is not self and (self.attributes.links != 1 or self.attributes.is_folder):
            return False
        return folder.epoch == epoch and folder.leased

    @property
    def is_sure_by_path(self) -> bool:
        """Whether leases cover its way from the mount's root as well."""
        if not self.is_sure:
            return False
        node, depth = self, 0
        while node.base is None:
            key = next(iter(node.names), None)
            depth += 1
            if key is None or depth > _MAX_DEPTH or not key[0].knows(key[1]):
                return False
            node = key[0]
        return True

    def knows(self, name: bytes) -> bool:
        """Whether a lease covers that this folder's child ``name`` is what it is known to be."""
        child = self.children.get(name)
        return child is not None and child.names.get((self, name)) == self.epoch and self.leased

    @property
    def knows_all(self) -> bool:
        """Whether a lease covers that this folder has no other names than its children's."""
        return self.complete == self.epoch and self.leased

    def changed(self) -> None:
        """What is known of its attributes, or of its names if it is a folder, is out of date."""
        self.changes += 1
        self.fresh_until = 0.0
        self.sure = None

    def path(self) -> bytes:
        """Where it is at its server.

        :raises OSError: ESTALE, it has no name any more.
        """
        parts: list[bytes] = []
        node = self
        while node.base is None:
            key = next(iter(node.names), None)
            if key is None or len(parts) > _MAX_DEPTH:
                raise OSError(errno.ESTALE, "the file has no name any more")
            node, name = key
            parts.append(name)
        if not parts:
            return node.base or b"/"
        parts.append(node.base)
        parts.reverse()
        return b"/".join(parts)

    def child_path(self, name: bytes) -> bytes:
        """Where a file of that name in this folder is.

        :raises OSError: ESTALE, the folder has gone.
        """
        return self.path().rstrip(b"/") + b"/" + name

    def below(self) -> "Iterator[Node]":
        """All known nodes under this one, itself included."""
        waiting, seen = [self], {self.number}
        while waiting:
            node = waiting.pop()
            yield node
            for child in node.children.values():
                if child.number not in seen:
                    seen.add(child.number)
                    waiting.append(child)

    def is_below(self, other: "Node") -> bool:
        """Whether this folder is ``other`` or somewhere under it."""
        node, depth = self, 0
        while node is not other:
            key = next(iter(node.names), None)
            depth += 1
            if key is None or depth > _MAX_DEPTH:
                return False
            node = key[0]
        return True


class NodeTable:
    """All nodes that the kernel or an open file still needs, by number."""

    def __init__(self) -> None:
        self.root = Node(ROOT_NUMBER, Attributes(mode=stat.S_IFDIR | 0o755), None)
        self.root.lookups = 1
        self._nodes: dict[int, Node] = {ROOT_NUMBER: self.root}
        # Told of each server whose folders are shown.
        self.on_link: Callable[[ServerLink], None] = lambda link: None

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, number: int) -> Node:
        """The node of that number.

        :raises OSError: ESTALE, there is none.
        """
        node = self._nodes.get(number)
        if node is None:
            raise OSError(errno.ESTALE, "an unknown file")
        return node

    def plant(self, path: bytes, link: ServerLink, base: bytes) -> Node:
        """Show ``base`` of a server at ``path`` of the mount; missing folders are made up.

        An empty path makes the server's folder the root itself.
        """
        node = self.root
        for name in path.split(b"/") if path else ():
            child = node.children.get(name)
            if child is None:
                child = Node(self._number(path + name), Attributes(mode=stat.S_IFDIR | 0o755), None)
                child.lookups = 1  # never forgotten
                self._nodes[child.number] = child
                self._attach(child, node, name)
            node = child
        node.link, node.base = link, base
        self.on_link(link)
        return node

    def uproot(self, node: Node) -> None:
        """A planted folder is not shown any more; what is open in it fails with ESTALE."""
        for parent, name in list(node.names):
            self.detach(parent, name)
        node.base = None

    def found(self, parent: Node, name: bytes, attributes: Attributes) -> Node:
        """The node that has this name now, which a server has just said.

        :param attributes: those of a node that is new; one that was known keeps its own.
        """
        known = parent.children.get(name)
        node = self._of_id(parent, name, attributes) if attributes.file_id else known
        if node is not None and (
            node.attributes.kind != attributes.kind
            or (attributes.is_folder and parent.is_below(node))
        ):
            node = None
        if node is None:
            number = self._number(parent.child_path(name), attributes.file_id)
            node = Node(number, attributes, parent.link)
            self._nodes[number] = node
        if known is not node:
            if known is not None:
                self.detach(parent, name)
            self._attach(node, parent, name)
        if attributes.links == 1 and not attributes.is_folder:
            for other_parent, other in [key for key in node.names if key != (parent, name)]:
                other_parent.children.pop(other, None)
                del node.names[(other_parent, other)]
        return node

    def detach(self, parent: Node, name: bytes) -> Node | None:
        """The name is gone. Returns the node that had it."""
        node = parent.children.pop(name, None)
        if node is not None:
            node.names.pop((parent, name), None)
            node.last_name = parent, name
            self._drop_unused(node)
        return node

    def add_name(self, node: Node, parent: Node, name: bytes) -> None:
        """The node has this name, in the place of another node, if one had it."""
        if parent.children.get(name) is node:
            return
        self.detach(parent, name)
        self._attach(node, parent, name)

    def move(
        self, node: Node, parent: Node, name: bytes, new_parent: Node, new_name: bytes
    ) -> None:
        """The node's name has become another one."""
        if parent.children.get(name) is node:
            del parent.children[name]
        node.names.pop((parent, name), None)
        other = new_parent.children.get(new_name)
        if other is not None and other is not node:
            self.detach(new_parent, new_name)
        node.names[(new_parent, new_name)] = -1
        new_parent.children[new_name] = node

    def forget(self, number: int, count: int) -> None:
        """The kernel gives back ``count`` references."""
        node = self._nodes.get(number)
        if node is not None and node is not self.root:
            node.lookups = max(0, node.lookups - count)
            self._drop_unused(node)

    def release(self, node: Node) -> None:
        """Nothing is open of the node any more."""
        self._drop_unused(node)

    def _attach(self, node: Node, parent: Node, name: bytes) -> None:
        if node.attributes.is_folder:
            for other_parent, other_name in list(node.names):
                other_parent.children.pop(other_name, None)
            node.names.clear()
        node.names[(parent, name)] = -1
        parent.children[name] = node

    def _drop_unused(self, node: Node) -> None:
        while node.lookups == 0 and node.file is None and not node.children and node.base is None:
            if self._nodes.get(node.number) is not node:
                return
            if node.failed is not None:
                return  # somebody is to be told of it
            if any(parent.knows_all for parent, _ in node.names):
                return  # a part of what is known under a lease; released when that is lost
            del self._nodes[node.number]
            parents = []
            for parent, name in node.names:
                if parent.children.get(name) is node:
                    del parent.children[name]
                    parent.complete = -1
                parents.append(parent)
            node.names.clear()
            for parent in parents[1:]:
                self._drop_unused(parent)
            if not parents:
                return
            node = parents[0]

    def _of_id(self, parent: Node, name: bytes, attributes: Attributes) -> Node | None:
        """The node with the server's id, if it is of that server."""
        number = self._from_id(attributes.file_id or 0)
        node = self._nodes.get(number)
        return node if node is not None and node.link is parent.link else None

    def _number(self, path: bytes, file_id: int | None = None) -> int:
        """A number that is free, the same for the same file where that can be."""
        if file_id:
            number = self._from_id(file_id)
            if number not in self._nodes:
                return number
        salt = 0
        while True:
            digest = hashlib.blake2b(path, digest_size=8, salt=salt.to_bytes(8, "big")).digest()
            number = int.from_bytes(digest, "big") & _NUMBERS
            if number > ROOT_NUMBER and number not in self._nodes:
                return number
            salt += 1

    @staticmethod
    def _from_id(file_id: int) -> int:
        number = file_id & _NUMBERS
        return number if number > ROOT_NUMBER else _NUMBERS - number


def shown_path(node: Node) -> bytes:
    """Where a file is in the mount."""
    parts: list[bytes] = []
    while key := next(iter(node.names), None):
        node, name = key
        parts.append(name)
    return b"/".join(reversed(parts))
