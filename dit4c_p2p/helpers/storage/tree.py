"""The mount's tree of names and nodes: look-ups, listings and what is believed of them."""

import asyncio
import errno
import logging
import time
from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Any

from dit4c_p2p.helpers.storage.attributes import Attributes
from dit4c_p2p.helpers.storage.behind import Behind
from dit4c_p2p.helpers.storage.entries import BELIEVED_S, KernelEntries, is_dirty
from dit4c_p2p.helpers.storage.lease_book import (
    Asking,
    Coverage,
    Kernel,
    LeaseBook,
    learn_attributes,
)
from dit4c_p2p.helpers.storage.nodes import Node, NodeTable
from dit4c_p2p.helpers.storage.remote import Entry, Leased, Remote
from dit4c_p2p.helpers.storage.server_link import ServerLink
from dit4c_p2p.sftp.extensions import LeaseKind

_log = logging.getLogger(__name__)

NAME_MAX = 255
# After so many look-ups of known names a folder is listed whole, unless it is larger than that.
_MISSES = 2
_MOST_LISTED = 2000
# A larger folder is not listed unless a program reads it: its entries are too many.
_MOST_LISTED_BYTES = 128 * 1024
# Larger folders are listed for whoever reads them, and not kept.
_MOST_KEPT = 10_000
# A program that reads a folder so soon after the one above walks a tree.
_WALKING_S = 5.0
# Folders that are listed ahead at once.
_MOST_AHEAD = 48
# Above this many a listing fails: its end may never come, and each takes memory.
_MOST_ENTRIES = 250_000


class OpenFolder:
    """One opening of a folder: its entries as they were when it was read from the start."""

    __slots__ = ("changes", "entries", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.entries: Sequence[Entry] | None = None
        self.changes = 0


class Tree(KernelEntries):
    """Names and nodes of a mount, and the calls that fill them.

    :param owner: numeric user and group that every file looks owned by.
    """

    def __init__(self, owner: tuple[int, int], kernel: Kernel | None = None) -> None:
        super().__init__(owner)
        self.table = NodeTable()
        self.kernel = kernel or Kernel()
        self.leases = LeaseBook(self.table, self.kernel, self._before_return)
        self._folders: dict[int, OpenFolder] = {}
        self._behinds: dict[ServerLink, Behind] = {}
        # Folders that are being listed ahead of a program.
        self._listings = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_number = 0

    def _behind(self, link: ServerLink) -> Behind:
        """The changes that are sent behind to a server."""
        if link not in self._behinds:
            self._behinds[link] = Behind(link)
        return self._behinds[link]

    async def _arrived(self, *nodes: Node) -> None:
        """Changes that were sent behind and touch these nodes have been carried out."""
        behind = self._behinds.get(nodes[0].link) if nodes[0].link is not None else None
        if behind is not None:
            await behind.settled(*nodes)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that nobody waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
            await self._arrived(child)
            if child.fresh_until > time.monotonic() or (parent.knows(name) and child.is_sure):
                return child
        elif parent.knows_all:
            raise OSError(errno.ENOENT, "no such file")
        if child is not None and child.attributes.is_folder and parent.knows(name):
            await self._refresh(child)
            return child
        await self._arrived(parent)
        names = await self._listed(parent)
        if names is not None:
            if name not in names:
                raise OSError(errno.ENOENT, "no such file")
            child = parent.children.get(name)
            if child is not None and self._is_fresh(child):
                return child
        changes = 0 if child is None else child.changes
        path, asking = parent.child_path(name), self.leases.ask(parent)
        try:
            found = await parent.link.call(lambda remote: remote.look_up(path, asking.wish))
        except FileNotFoundError:
            if parent.children.get(name) is child:
                self.table.detach(parent, name)
            raise
        self.leases.answered(asking, parent, found.folder)
        return self._found(parent, name, found.attributes, asking.covered, (child, changes))

    def _found(
        self,
        parent: Node,
        name: bytes,
        attributes: Attributes,
        covered: Coverage | None,
        before: tuple[Node | None, int] = (None, 0),
    ) -> Node:
        """The node of a name that the server has just spoken of.

        :param before: the node that had the name when the server was asked, and its changes.
        """
        child, changes = before
        known = self.table.found(parent, name, attributes)
        if known.changes == (changes if known is child else 0):
            learn_attributes(known, attributes, covered, self._believed_until(parent))
        if covered is not None:
            known.names[(parent, name)] = covered[1]
        return known

    @staticmethod
    def _believed_until(folder: Node) -> float:
        """Until when something in a folder is believed without a lease (monotonic clock)."""
        remote = folder.link.remote if folder.link is not None else None
        if remote is not None and remote.leases is not None:
            return 0.0
        return time.monotonic() + BELIEVED_S

    async def _listed(self, parent: Node) -> Collection[bytes] | None:
        """List a folder whole when several of its names are asked for in a row.

        Returns its names if a listing has begun after this look-up and is done. What it says of
        other names is believed as long as other answers are, but not that there is none.
        """
        parent.misses += 1
        if (
            parent.misses < _MISSES
            or len(parent.children) > _MOST_LISTED
            or parent.listed_at > time.monotonic() - BELIEVED_S
        ):
            return None
        begun_by_us = parent.listing is None
        if parent.listing is None:
            parent.listing = asyncio.ensure_future(self._list_for_lookups(parent))
        names = await asyncio.shield(parent.listing)
        return names if begun_by_us else None

    async def _list_for_lookups(self, folder: Node) -> Collection[bytes] | None:
        """Its names, if it could be listed and nothing of it changed meanwhile."""
        try:
            opening = OpenFolder(folder)
            entries = await self._list(opening)
            if not folder.knows_all:
                for entry in entries:
                    child = folder.children.get(entry.name)
                    if child is not None and (child.base is not None or child.file is not None):
                        continue
                    self._found(folder, entry.name, entry.attributes, None)
            if folder.changes != opening.changes:
                return None
            return {entry.name for entry in entries}
        except OSError as error:
            _log.info("a folder can't be listed ahead: %s", error)
            return None
        finally:
            folder.misses, folder.listing = 0, None
            folder.listed_at = time.monotonic()

    def _list_ahead(self, folder: Node) -> None:
        """A program reads a folder soon after the one above: it walks a tree.

        Those folders are listed that it comes to next.
        """
        above = next(iter(folder.names), (folder, b""))[0]
        if above is not folder and above.read_at + _WALKING_S > time.monotonic():
            self._list_some((*above.children.values(), *folder.children.values()), _MOST_AHEAD)

    def _enter(self, folder: Node) -> None:
        """A program goes into a folder; it may go into those beside it as well, or read them."""
        above = next(iter(folder.names), (folder, b""))[0]
        above.entered += 1
        # Names come in the same message as attributes, and are asked for next.
        self._begin_listing(folder)
        if above is not folder and above.entered >= _MISSES:
            # Of many folders a program may need few.
            self._list_some(above.children.values(), 4 * above.entered**2)
        self._list_ahead(folder)

    def _list_some(self, folders: Iterable[Node], most: int) -> None:
        for folder in folders:
            if self._listings >= _MOST_AHEAD or not most:
                return
            most -= self._begin_listing(folder)

    def _begin_listing(self, folder: Node) -> bool:
        """List a folder with a lease on it; False if that is no use or was done lately."""
        now = time.monotonic()
        remote = folder.link.remote if folder.link is not None else None
        if (
            not folder.attributes.is_folder
            or folder.base is not None
            or folder.leased
            or folder.listing is not None
            or remote is None
            or remote.leases is None
            or folder.contested_until >= now
            or folder.listed_at >= now - BELIEVED_S
            or folder.attributes.size > _MOST_LISTED_BYTES
        ):
            return False
        self._listings += 1
        folder.listing = asyncio.ensure_future(self._list_for_lookups(folder))
        folder.listing.add_done_callback(self._ahead_listed)
        return True

    def _ahead_listed(self, listing: "asyncio.Task[Collection[bytes] | None]") -> None:
        self._listings -= 1

    @staticmethod
    async def _listing_of(folder: Node) -> None:
        """Return when a listing that is on its way has arrived."""
        if folder.listing is not None:
            await asyncio.shield(folder.listing)

    async def _refresh(self, node: Node) -> None:
        """Have the attributes of ``node`` be the server's of now."""
        if node.link is None:
            return
        if node.file is not None:
            await node.file.drain()
        await self._arrived(node)
        if self._is_fresh(node):
            return
        if node.attributes.is_folder:
            self._enter(node)
            await self._listing_of(node)
            if self._is_fresh(node):
                return
        while node.names and node.base is None:
            try:
                await self._refresh_by_path(node, node.link)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
                # That name is another file's now; there may be a second, or an open handle.
                self.table.detach(*next(iter(node.names)))
                if not node.names and node.file is None:
                    raise
            else:
                return
        opening = self._handle_for(node, False) if node.base is None else None
        if opening is None:
            await self._refresh_by_path(node, node.link)
            return
        changes = node.changes

        async def ask(remote: Remote) -> Attributes:
            return await remote.fgetattr(await opening.on(remote))

        self._learn(node, await node.link.call(ask), changes)

    async def _refresh_by_path(self, node: Node, link: ServerLink) -> None:
        """:raises OSError: ENOENT or ESTALE, the node's first name is not its own any more."""
        changes = node.changes
        name = next(iter(node.names), None)
        folder = name[0] if name is not None and not node.attributes.is_folder else node
        asking = self.leases.ask(folder)
        leased: Leased | None
        if folder is node and asking.wish is not None:
            leased = await link.call(lambda remote: remote.lease(node.path(), LeaseKind.READ))
            attributes = leased.attributes
        else:
            attributes, leased = await link.call(
                lambda remote: remote.look_up(node.path(), asking.wish)
            )
        if attributes.file_id != node.attributes.file_id and node.base is None:
            raise OSError(errno.ESTALE, "another file has this name now")
        self.leases.answered(asking, folder, leased)
        covered = asking.covered
        self._learn(node, attributes, changes, covered)
        if covered is not None and covered[0] is not node and name in node.names:
            node.names[name] = covered[1]

    def _learn(
        self, node: Node, attributes: Attributes, changes: int, covered: Coverage | None = None
    ) -> None:
        """The server said this of ``node`` when it had been changed so many times."""
        if node.changes == changes:
            parent = next(iter(node.names), (node, b""))[0]
            learn_attributes(node, attributes, covered, self._believed_until(parent))

    def _learn_folder(self, folder: Node, attributes: Attributes | None, changes: int) -> None:
        """A change in a folder has made it so, when it had been changed so many times."""
        if attributes is not None and attributes.file_id == folder.attributes.file_id:
            covered = (folder, folder.epoch) if folder.leased else None
            self._learn(folder, attributes, changes, covered)

    async def _settle(self, node: Node) -> None:
        """What was written to a file is at the server, and so are its handles and attributes."""
        await self._sent(node)
        await self._arrived(node)

    @staticmethod
    async def _sent(node: Node) -> None:
        """What was written to a file is at the server, and so are its handles."""
        file = node.file  # it may be closed meanwhile
        if file is not None:
            await file.open_all()
            await file.drain()

    async def _before_return(self, nodes: Iterable[Node]) -> None:
        """A lease that covers these goes back: what was opened under it stays what it is."""
        nodes = list(nodes)
        for node in nodes:
            if node.file is not None:
                node.file.send()
        for file in [node.file for node in nodes if node.file is not None]:
            await file.open_all()
            await file.drain()
        await self._arrived(*nodes)

    def _handle_for(self, node: Node, writable: bool) -> Any:
        """The server's handle of a file that is open, which a file without a name is reached by."""
        if node.file is None:
            return None
        openings = node.file.openings
        fitting = next((one for one in openings if one.writable or not writable), None)
        if fitting is None or (node.names and not writable):
            return None
        return fitting.remote

    def _entries_changed(self, folder: Node, asking: Asking, attributes: Attributes | None) -> None:
        """A change of names has succeeded; ``attributes`` are the folder's afterwards."""
        alone = folder.changes == asking.changes
        folder.changed()
        if alone:
            self._learn_folder(folder, attributes, folder.changes)
        self._changed_in(folder)

    def _changed_in(self, folder: Node) -> None:
        """A change of names in a folder has succeeded."""

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
        if folder.knows_all:
            return [Entry(name, child.attributes) for name, child in folder.children.items()]
        await self._arrived(folder)
        path, asking = folder.path(), self.leases.ask(folder)

        async def listing(remote: Remote) -> list[Entry]:
            found: list[Entry] = []
            async for some in remote.list_folder(path, lease=asking.wish is not None):
                self.leases.answered(asking, folder, some.folder)
                found.extend(some.entries)
                if len(found) > _MOST_ENTRIES:
                    raise OSError(errno.EFBIG, "the folder has too many entries")
            return found

        known = {name: (child, child.changes) for name, child in folder.children.items()}
        entries = await folder.link.call(listing)
        own_names = {entry.name for entry in own}
        valid = [
            entry
            for entry in entries
            if _is_name_for_tree_of_mount(entry.name) and entry.name not in own_names
        ]
        if folder.changes == opening.changes:
            there = {entry.name for entry in valid} | own_names
            for name in [name for name in folder.children if name not in there]:
                self.table.detach(folder, name)
            covered = asking.covered
            if covered is not None and len(valid) <= _MOST_KEPT:
                for entry in valid:
                    child, _ = before = known.get(entry.name, (None, 0))
                    if child is None or not is_dirty(child):
                        self._found(folder, entry.name, entry.attributes, covered, before)
                folder.complete = folder.epoch
        return own + valid

    def _gone(self, parent: Node, name: bytes) -> None:
        parent.changed()
        node = self.table.detach(parent, name)
        if node is not None:
            node.changed()
            node.last_name = None
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
        return node.is_sure or node.fresh_until > time.monotonic()

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number


def _is_name_for_tree_of_mount(name: bytes) -> bool:
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
