"""The mount's tree of names and nodes: look-ups, listings and what is believed of them."""

import asyncio
import errno
import logging
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pyfuse3

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes
from dit4c_p2p.helpers.storage.nodes import Node, NodeTable
from dit4c_p2p.helpers.storage.remote import Entry, Remote
from dit4c_p2p.helpers.storage.server_link import ServerLink
from dit4c_p2p.sftp.operations import OWN_ID

_log = logging.getLogger(__name__)

NAME_MAX = 255
# For how long the kernel and the mount believe what a server has said that grants no leases.
BELIEVED_S = 1.0
# After so many look-ups of known names a folder is listed whole, unless it is larger than that.
_MISSES = 2
_MOST_LISTED = 2000
# Programs read and write in pieces of this size if they go by it.
BLOCK_BYTES = 128 * 1024


class Kernel:
    """What the mount tells the kernel of its own accord; by default nothing, as without a mount."""

    def forget_attributes(self, number: int) -> None:
        """Attributes of that node are to be asked for again."""


class OpenFolder:
    """One opening of a folder: its entries as they were when it was read from the start."""

    __slots__ = ("changes", "entries", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.entries: Sequence[Entry] | None = None
        self.changes = 0


class Tree:
    """Names and nodes of a mount, and the calls that fill them.

    :param owner: numeric user and group that every file looks owned by.
    """

    def __init__(self, owner: tuple[int, int], kernel: Kernel | None = None) -> None:
        self.uid, self.gid = owner
        self.table = NodeTable()
        self.kernel = kernel or Kernel()
        self._made_ns = time.time_ns()
        self._folders: dict[int, OpenFolder] = {}
        self._last_number = 0

    async def _look_up(self, parent: Node, name: bytes) -> Node:
        if len(name) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        child = parent.children.get(name)
        if child is not None and (child.base is not None or child.link is None):
            return child
        if parent.link is None:
            raise OSError(errno.ENOENT, "no such file")
        if child is not None:
            if child.file is not None:
                await child.file.drain()
            if self._is_fresh(child):
                return child
        if await self._listed(parent):
            child = parent.children.get(name)
            if child is None:
                raise OSError(errno.ENOENT, "no such file")
            if self._is_fresh(child):
                return child
        changes = 0 if child is None else child.changes
        path = parent.child_path(name)
        try:
            attributes = await parent.link.call(lambda remote: remote.getattr(path))
        except FileNotFoundError:
            if parent.children.get(name) is child:
                self.table.detach(parent, name)
            raise
        node = self.table.found(parent, name, attributes)
        if node is not child or node.changes == changes:
            node.fresh_until = time.monotonic() + BELIEVED_S
        return node

    async def _listed(self, parent: Node) -> bool:
        """List a folder whole when several of its names are asked for in a row.

        Whether a listing has begun after this look-up and is done: it says what there is. What it
        says of other names is believed as long as other answers are, but not that there is none.
        """
        parent.misses += 1
        if (
            parent.misses < _MISSES
            or len(parent.children) > _MOST_LISTED
            or parent.listed_at > time.monotonic() - BELIEVED_S
        ):
            return False
        begun_by_us = parent.listing is None
        if parent.listing is None:
            parent.listing = asyncio.ensure_future(self._list_for_lookups(parent))
        return await asyncio.shield(parent.listing) and begun_by_us

    async def _list_for_lookups(self, folder: Node) -> bool:
        """Whether it could be listed, and nothing of it changed meanwhile."""
        try:
            opening = OpenFolder(folder)
            for entry in await self._list(opening):
                child = folder.children.get(entry.name)
                if child is not None and (child.base is not None or child.file is not None):
                    continue
                found = self.table.found(folder, entry.name, entry.attributes)
                self._learn(found, entry.attributes, found.changes)
            return folder.changes == opening.changes
        except OSError as error:
            _log.info("a folder can't be listed ahead: %s", error)
            return False
        finally:
            folder.misses, folder.listing = 0, None
            folder.listed_at = time.monotonic()

    async def _refresh(self, node: Node) -> None:
        """Have the attributes of ``node`` be the server's of now."""
        if node.link is None:
            return
        if node.file is not None:
            await node.file.drain()
        if self._is_fresh(node):
            return
        changes = node.changes
        opening = self._handle_for(node, False) if not node.names and node.base is None else None

        async def ask(remote: Remote) -> Attributes:
            if opening is not None:
                return await remote.fgetattr(await opening.on(remote))
            return await remote.getattr(node.path())

        attributes = await node.link.call(ask)
        if opening is None and attributes.file_id != node.attributes.file_id and node.base is None:
            raise OSError(errno.ESTALE, "another file has this name now")
        self._learn(node, attributes, changes)

    def _learn(self, node: Node, attributes: Attributes, changes: int) -> None:
        """The server said this of ``node`` when it had been changed so many times."""
        if node.changes == changes:
            node.attributes = attributes
            node.fresh_until = time.monotonic() + BELIEVED_S

    async def _settle(self, node: Node) -> None:
        """What was written to a file is at the server."""
        if node.file is not None:
            await node.file.drain()

    def _handle_for(self, node: Node, writable: bool) -> Any:
        """The server's handle of a file that is open, which a file without a name is reached by."""
        if node.file is None:
            return None
        openings = node.file.openings
        fitting = next((one for one in openings if one.writable or not writable), None)
        if fitting is None or (node.names and not writable):
            return None
        return fitting.remote

    async def _make(
        self,
        parent_inode: int,
        name: bytes,
        ctx: Any,
        make: Callable[[Remote, bytes], Awaitable[Attributes]],
    ) -> pyfuse3.EntryAttributes:
        parent = self.table.get(parent_inode)
        owner = self._new_owner(parent, ctx)
        path = self._new_path(parent, name)
        link = self._link_of(parent)
        tried = False

        async def attempt(remote: Remote) -> Attributes:
            nonlocal tried
            try:
                again, tried = tried, True
                return await self._given(remote, path, await make(remote, path), owner)
            except FileExistsError:
                if not again:
                    raise
                return await remote.getattr(path)  # an earlier attempt has made it

        attributes = await link.call(attempt)
        parent.changed()
        node = self.table.found(parent, name, attributes)
        self._learn(node, attributes, node.changes)
        node.lookups += 1
        return self._entry(node)

    def _new_owner(self, parent: Node, ctx: Any) -> Changes:
        """Who owns what a program makes in a folder; no changes: the mount's own user and group.

        A folder with the set-group-ID bit gives its group on.
        """
        inherited = parent.attributes.gid if parent.attributes.mode & stat.S_ISGID else None
        uid = OWN_ID if ctx.uid == self.uid else ctx.uid
        gid = OWN_ID if ctx.gid == self.gid else ctx.gid
        gid = gid if inherited is None else inherited
        return Changes(
            uid=uid if uid != OWN_ID else None,
            gid=gid if gid != OWN_ID else None,
        )

    @staticmethod
    async def _given(
        remote: Remote, path: bytes, made: Attributes, owner: Changes, handle: bytes | None = None
    ) -> Attributes:
        """What was made belongs to ``owner``, where the server keeps owners."""
        if owner == Changes() or not remote.keeps_owners:
            return made
        return await remote.setattr(path, handle, owner, made)

    async def _list(self, opening: OpenFolder) -> Sequence[Entry]:
        folder = opening.node
        opening.changes = folder.changes
        own = [
            Entry(name, child.attributes)
            for name, child in folder.children.items()
            if child.base is not None or child.link is None
        ]
        if folder.link is None:
            return own
        path = folder.path()

        async def listing(remote: Remote) -> list[Entry]:
            found: list[Entry] = []
            async for some in remote.list_folder(path):
                found.extend(some)
            return found

        entries = await folder.link.call(listing)
        own_names = {entry.name for entry in own}
        valid = [entry for entry in entries if _is_name(entry.name) and entry.name not in own_names]
        if folder.changes == opening.changes:
            there = {entry.name for entry in valid} | own_names
            for name in [name for name in folder.children if name not in there]:
                self.table.detach(folder, name)
        return own + valid

    def _gone(self, parent: Node, name: bytes) -> None:
        parent.changed()
        node = self.table.detach(parent, name)
        if node is not None:
            node.changed()
            if node.attributes.links:
                node.attributes.links -= 1

    def _exchange(self, parent: Node, name: bytes, other: Node, other_name: bytes) -> None:
        first, second = parent.children.get(name), other.children.get(other_name)
        self.table.detach(parent, name)
        self.table.detach(other, other_name)
        for node, new_parent, new_name in (
            (first, other, other_name),
            (second, parent, name),
        ):
            if node is not None:
                node.changed()
                self.table.add_name(node, new_parent, new_name)

    def _child(self, parent_inode: int, name: bytes) -> tuple[Node, bytes]:
        parent = self.table.get(parent_inode)
        return parent, self._new_path(parent, name)

    def _new_path(self, parent: Node, name: bytes) -> bytes:
        if len(name) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        self._link_of(parent)
        return parent.child_path(name)

    def _named(self, inode: int) -> tuple[bytes, ServerLink]:
        node = self.table.get(inode)
        if node.link is None:
            raise OSError(errno.EOPNOTSUPP, "a part of the mount")
        return node.path(), node.link

    @staticmethod
    def _link_of(node: Node) -> ServerLink:
        if node.link is None:
            raise OSError(errno.EROFS, "this folder is a part of the mount")
        return node.link

    @staticmethod
    def _is_fresh(node: Node) -> bool:
        return node.fresh_until > time.monotonic()

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _entry(self, node: Node) -> pyfuse3.EntryAttributes:
        attributes = node.attributes
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node.number
        entry.st_mode = attributes.mode
        entry.st_uid = self.uid if attributes.uid == OWN_ID else attributes.uid
        entry.st_gid = self.gid if attributes.gid == OWN_ID else attributes.gid
        folder = attributes.is_folder
        if attributes.links is not None:
            entry.st_nlink = attributes.links
        else:
            entry.st_nlink = 2 if folder else len(node.names)
        entry.st_size = attributes.size
        entry.st_blksize = BLOCK_BYTES
        blocks = attributes.blocks
        entry.st_blocks = -(-attributes.size // 512) if blocks is None else blocks
        made = self._made_ns if node.link is None else 0
        entry.st_atime_ns = attributes.atime_ns or made
        entry.st_mtime_ns = attributes.mtime_ns or made
        entry.st_ctime_ns = (
            entry.st_mtime_ns if attributes.ctime_ns is None else attributes.ctime_ns
        )
        entry.entry_timeout = entry.attr_timeout = BELIEVED_S
        return entry


def is_dirty(node: Node) -> bool:
    """Whether written data of the node was not sent yet."""
    return node.file is not None and node.file.dirty


def _is_name(name: bytes) -> bool:
    """Whether a server's entry can be a name: others would lead out of their folder."""
    return (
        0 < len(name) <= NAME_MAX
        and b"/" not in name
        and b"\0" not in name
        and name
        not in (
            b".",
            b"..",
        )
    )
