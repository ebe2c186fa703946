"""The mount's answers to the kernel about open files."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pyfuse3

from dit4c_p2p.helpers.storage.attributes import SECOND_NS, Attributes
from dit4c_p2p.helpers.storage.conflicts import ChangedElsewhere, ConflictCopy, Unsent
from dit4c_p2p.helpers.storage.contents import SMALL_BYTES, Contents
from dit4c_p2p.helpers.storage.entries import is_dirty
from dit4c_p2p.helpers.storage.files import NodeFile, OpenFile
from dit4c_p2p.helpers.storage.filesystem import Folders, filesystem_handler
from dit4c_p2p.helpers.storage.lease_book import Kernel
from dit4c_p2p.helpers.storage.nodes import Node, shown_path
from dit4c_p2p.helpers.storage.remote import Opened, Remote
from dit4c_p2p.helpers.storage.server_link import RemoteFile
from dit4c_p2p.sftp.constants import OpenFlag

_log = logging.getLogger(__name__)

_PERMISSIONS = 0o7777
# What may be on its way when a program's close has returned.
_MOST_AFTER_CLOSE = 1024 * 1024
# Two changes within one step of a server's clock can't be told apart by version 3's times.
_COARSE_NS = 2 * SECOND_NS
# … nor by a file system's, whose clock has steps of up to 10 ms.
_TICK_NS = 20_000_000


class StorageFilesystem(Folders):
    """The whole file system."""

    def __init__(self, owner: tuple[int, int], kernel: Kernel | None = None) -> None:
        super().__init__(owner, kernel)
        self._open: dict[int, OpenFile] = {}
        # Written since they were last known to be on the server's disk.
        self._unsynced: dict[Node, None] = {}
        self._contents = Contents()
        # Files whose conflict copies could not be made.
        self.not_kept: list[bytes] = []
        self.conflict_copies: list[bytes] = []
        self.on_conflict: Callable[[], None] = lambda: None

    @filesystem_handler
    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        """Open a file, and see whether its contents are those that the kernel may still have."""
        node = self.table.get(inode)
        await self._settle(node)
        while True:
            try:
                return await self._open_node(node, flags)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE) or not node.names:
                    raise
                # That name is another file's now; there may be a second.
                self.table.detach(*next(iter(node.names)))
                if not node.names:
                    raise OSError(errno.ESTALE, "another file has this name now") from None

    async def _open_node(self, node: Node, flags: int) -> pyfuse3.FileInfo:
        """:raises OSError: ENOENT or ESTALE, the node's first name is not its own any more."""
        link = self._link_of(node)
        wire = _wire_flags(flags)
        if wire == OpenFlag.READ and node.attributes.is_regular and node.is_sure_by_path:
            kept = self._keep_pages(node, node.attributes)
            return self._add(
                node,
                RemoteFile(node.path, wire, file_id=node.attributes.file_id),
                flags,
                kept,
            )
        before, changes = node.attributes, node.changes
        # A small file comes with the answer, all of it.
        small = wire == OpenFlag.READ and 0 < before.size <= SMALL_BYTES
        ahead = before.size if small else 0
        folder = next(iter(node.names), (node, b""))[0]
        asking = self.leases.ask(folder)

        async def attempt(remote: Remote) -> tuple[Remote, Opened]:
            path = node.path()
            return remote, await remote.open(path, wire, ahead=ahead, folder=asking.wish)

        remote, opened = await link.call(attempt)
        self.leases.answered(asking, folder, opened.folder)
        remote_file = RemoteFile(
            node.path,
            wire & ~OpenFlag.TRUNC,
            (remote, opened.handle),
            file_id=opened.attributes.file_id,
        )
        if opened.attributes.file_id != node.attributes.file_id:
            remote_file.close()
            raise OSError(errno.ESTALE, "another file has this name now")
        if flags & os.O_TRUNC:
            node.changed()
            node.attributes.size = 0
        else:
            self._learn(node, opened.attributes, changes, asking.covered)
        kept = self._keep_pages(node, opened.attributes)
        info = self._add(node, remote_file, flags, kept)
        if ahead and node.changes == changes and len(opened.start) == opened.attributes.size:
            self._open[info.fh].file.seed(self._open[info.fh], opened.start)
        return info

    @filesystem_handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Make a file and open it; one that is there already is opened, unless that is refused."""
        parent = self.table.get(parent_inode)
        path = self._new_path(parent, name)
        link = self._link_of(parent)
        owner = self._new_owner(parent, ctx)
        wire = _wire_flags(flags) | OpenFlag.CREAT
        if flags & os.O_EXCL:
            wire |= OpenFlag.EXCL
        tried = False
        await self._arrived(parent)
        asking = self.leases.ask(parent)

        async def attempt(remote: Remote) -> tuple[Remote, Opened]:
            nonlocal tried
            # A file that is there now was made by the attempt whose end is not known.
            now = wire & ~OpenFlag.EXCL if tried else wire
            tried = True
            opened = await remote.open(path, now, mode & _PERMISSIONS, folder=asking.wish)
            if opened.created:
                attributes = await self._given(
                    remote, path, opened.attributes, owner, opened.handle
                )
                opened = opened._replace(attributes=attributes)
            return remote, opened

        remote, opened = await link.call(attempt)
        self.leases.answered(asking, parent, opened.folder)
        self._entries_changed(parent, asking, opened.parent)
        node = self._found(parent, name, opened.attributes, asking.covered)
        await self._settle(node)
        node.changed()
        self._learn(node, opened.attributes, node.changes, asking.covered)
        self._keep_pages(node, opened.attributes)
        again = wire & ~(OpenFlag.TRUNC | OpenFlag.CREAT | OpenFlag.EXCL)
        remote_file = RemoteFile(
            node.path, again, (remote, opened.handle), file_id=opened.attributes.file_id
        )
        self._unsynced[node] = None
        info = self._add(node, remote_file, flags, False)
        node.lookups += 1
        return info, self._entry(node, parent, name)

    @filesystem_handler
    async def read(self, fh: int, off: int, size: int) -> bytes | memoryview:  # type: ignore[override]
        """Bytes of an open file; pyfuse3 takes whatever has a buffer."""
        opening = self._open[fh]
        file = opening.file
        if not file.dirty:
            data = self._contents.get(file.node)
            if data is None and not opening.remote.opened:
                data = await self._contents.fetch(file.node)
            if data is not None:
                return data[off : off + size]
        return await file.read(opening, off, size)

    def _keep_pages(self, node: Node, attributes: Attributes) -> bool:
        """A file is opened: whether the kernel's copy of its contents is still good."""
        covered = node.sure if node.is_sure else None
        kept = covered is not None and node.pages == covered
        if not kept and not _is_recent(attributes):
            kept = node.pages_version == attributes.version()
        node.pages, node.pages_version = covered, attributes.version()
        newest_ns = node.link.newest_ns if node.link is not None else 0
        if attributes.ctime_ns is not None and attributes.ctime_ns + _TICK_NS >= newest_ns:
            node.pages_version = None  # the next change may have the very same times
        if not kept:
            self.kernel.forget_attributes(node.number)
            if node.file is not None:
                node.file.forget_reads()
        return kept

    @filesystem_handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Take bytes, which are sent behind."""
        opening = self._open[fh]
        await opening.file.write(opening, off, buf)
        return len(buf)

    @filesystem_handler
    async def flush(self, fh: int) -> None:
        """A program closes one of its descriptors: what was written has arrived, or it is told."""
        opening = self._open[fh]
        file = opening.file
        if self._may_arrive_later(file):
            file.send()
        else:
            await file.drain()
        opening.errors_at_close = file.error_count
        file.raise_error(opening, told=False)

    def _may_arrive_later(self, file: NodeFile) -> bool:
        """Whether a file may be closed before what was written to it has been answered."""
        if not 0 < file.unsent_bytes <= _MOST_AFTER_CLOSE or self._covering(file.node) is None:
            return False
        return self._has_room(next(iter(file.node.names))[0])

    @filesystem_handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        """What was written is on the server's disk, or the caller is told."""
        opening = self._open[fh]
        node = opening.file.node
        await opening.file.drain()
        await self._arrived(node)
        opening.file.raise_error(opening, told=True)
        self._unsynced.pop(node, None)

        async def sync(remote: Remote) -> None:
            await remote.fsync(await opening.remote.on(remote))

        try:
            await opening.file.link.call(sync)
        except OSError:
            self._unsynced[node] = None
            raise

    @filesystem_handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """What was written below a folder is on the server's disk, or the caller is told."""
        folder = self._folders[fh].node
        below = list(folder.below())
        await drain(below)
        for behind in self._behinds.values():
            await behind.drain()
        for node in below:
            if node.file is not None:
                for opening in node.file.openings:
                    node.file.raise_error(opening, told=False)
        for top in [folder] if folder.link is not None else below:
            if top.link is not None and (top is folder or top.base is not None):
                await self._sync_tree(top)
        for node in below:
            error, node.failed = node.failed, None
            if error is not None:
                raise error

    @filesystem_handler
    async def release(self, fh: int) -> None:
        """The last descriptor of an opening is closed."""
        opening = self._open.pop(fh, None)
        if opening is None:
            return
        file, node = opening.file, opening.file.node
        closing = False
        try:
            await file.drain()
            closing = opening.writable and self._close_behind(node, opening.remote)
            if not closing:
                await self._arrived(node)
        finally:
            file.remove(opening)
            if not file.openings and node.file is file:
                node.file = None
            if not closing:
                opening.remote.close()
            self.table.release(node)

    async def finish(self) -> None:
        """The mount ends: everything that was written is sent, and no server waits for it."""
        await drain(list(self.table.root.below()))
        for behind in self._behinds.values():
            await behind.drain()
        await self.leases.give_all_back()

    def unsent(self) -> list[bytes]:
        """Names, as the mount shows them, of files whose changes have not arrived, or have failed
        and no program was told.
        """
        names = [
            shown_path(node)
            for node in self.table.root.below()
            if is_dirty(node)
            or (node.failed is not None and not isinstance(node.failed, ChangedElsewhere))
        ]
        behind = (name for behind in self._behinds.values() for name in behind.names())
        return [*names, *self.not_kept, *behind]

    def _add(self, node: Node, remote_file: RemoteFile, flags: int, kept: bool) -> pyfuse3.FileInfo:
        if node.file is None:
            link = self._link_of(node)

            def written() -> None:
                self._unsynced[node] = None

            node.file = NodeFile(node, link, written, partial(self._keep, node))
        number = self._next_number()
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        opening = OpenFile(number, node.file, remote_file, writable)
        node.file.add(opening)
        self._open[number] = opening
        return pyfuse3.FileInfo(fh=number, keep_cache=kept)

    async def _keep(self, node: Node, unsent: Unsent) -> None:
        """Somebody else has changed a file: keep what this mount has not sent beside it."""
        folder, name = next(iter(node.names), node.last_name or (node, b""))
        shown = shown_path(folder) + b"/" + name
        node.changed()
        self.kernel.forget_attributes(node.number)
        try:
            copy = await self._copy_beside(folder, name, node, unsent)
        except OSError as error:
            _log.warning("a conflict copy of %r can't be made: %s", shown, error)
            self.not_kept.append(shown)
        else:
            _log.warning("%r was changed elsewhere; ours is %r", shown, copy)
            self.conflict_copies.append(copy)
            self.on_conflict()

    async def _copy_beside(self, folder: Node, name: bytes, node: Node, unsent: Unsent) -> bytes:
        """Where the conflict copy is; in a folder further up if somebody has removed its own."""
        while True:
            try:
                copy = ConflictCopy(folder.path(), name, node.attributes.file_id, unsent)
                await self._link_of(node).call(copy.make)
            except OSError as error:
                above = next(iter(folder.names), folder.last_name)
                gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
                if not gone or folder.base is not None or above is None:
                    raise
                folder = above[0]
            else:
                folder.changed()
                folder.complete = -1
                return shown_path(folder) + b"/" + copy.name

    async def _sync_tree(self, folder: Node) -> None:
        known = {node.number for node in folder.below()}
        nodes = [node for node in self._unsynced if node.number in known and node.names]
        paths = [node.path() for node in nodes]
        path = folder.path()
        for node in nodes:
            self._unsynced.pop(node, None)
        try:
            await self._link_of(folder).call(lambda remote: remote.sync_tree(path, paths))
        except OSError:
            self._unsynced.update(dict.fromkeys(nodes))
            raise


async def drain(nodes: Iterable[Node]) -> None:
    """What was written to these files has been answered by their servers."""
    files = [node.file for node in nodes if node.file is not None]
    if files:
        await asyncio.gather(*(file.drain() for file in files))


def _wire_flags(flags: int) -> int:
    """``open(2)``'s flags as SFTP's. Appending is the kernel's doing: it knows the size."""
    wire = {
        os.O_RDONLY: OpenFlag.READ,
        os.O_WRONLY: OpenFlag.WRITE,
        os.O_RDWR: OpenFlag.READ | OpenFlag.WRITE,
    }.get(flags & os.O_ACCMODE, OpenFlag.READ)
    if flags & os.O_TRUNC:
        wire |= OpenFlag.TRUNC
    return int(wire)


def _is_recent(attributes: Attributes) -> bool:
    """Whether an unseen change may hide behind times of whole seconds."""
    return attributes.ctime_ns is None and attributes.mtime_ns > time.time_ns() - _COARSE_NS
