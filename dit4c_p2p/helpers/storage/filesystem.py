"""The mount's answers to the kernel: names, folders, attributes. ``file_operations`` has the rest.

Every handler ends in an answer: any exception but ``FUSEError`` would leave the caller hanging.
What a handler waits for is bounded by :class:`ServerLink`'s limit.
"""

import asyncio
import errno
import functools
import logging
import stat
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes
from dit4c_p2p.helpers.storage.entries import BLOCK_BYTES, is_dirty
from dit4c_p2p.helpers.storage.new_names import NewNames
from dit4c_p2p.helpers.storage.remote import Remote
from dit4c_p2p.helpers.storage.tree import NAME_MAX, OpenFolder
from dit4c_p2p.sftp.operations import OWN_ID

_log = logging.getLogger(__name__)

_PERMISSIONS = 0o7777
# The folder whose quota is what "df" shows: pyfuse3 does not say which one is asked about.
_HOME = b"private"

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Folders")


def filesystem_handler(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Have every error of ``method`` be an answer."""

    @functools.wraps(method)
    async def answered(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except asyncio.CancelledError:
            raise pyfuse3.FUSEError(errno.EIO) from None
        except Exception:  # noqa: BLE001  the kernel's caller would wait for ever
            _log.exception("%s failed", method.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return answered  # type: ignore[return-value]  # wraps() types self by name


class Folders(NewNames, pyfuse3.Operations):
    """Handlers for names, folders and attributes; see :class:`Tree` for the argument."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    # ---- attributes

    @filesystem_handler
    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        """A name in a folder."""
        node = await self._look_up(self.table.get(parent_inode), name)
        node.lookups += 1
        return self._entry(node, self.table.get(parent_inode), name)

    @filesystem_handler
    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        """Attributes, with everything that was written."""
        node = self.table.get(inode)
        if not self._knows_enough(node):
            await self._refresh(node)
        return self._entry(node)

    @filesystem_handler
    async def setattr(
        self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        """Change attributes; who may is the kernel's to check."""
        node = self.table.get(inode)
        link = self._link_of(node)
        changes = Changes(
            size=attr.st_size if fields.update_size else None,
            mode=attr.st_mode & _PERMISSIONS if fields.update_mode else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            uid=_kept_id_for_filesystem(attr.st_uid, self.uid) if fields.update_uid else None,
            gid=_kept_id_for_filesystem(attr.st_gid, self.gid) if fields.update_gid else None,
        )
        if node.file is not None:
            node.file.forget_reads()
        if await self._set_behind(node, changes):
            return self._entry(node)
        await self._settle(node)
        if changes != Changes():
            node.changed()
            now = node.attributes
            has_both = link.remote is not None and link.remote.leases is not None
            if not has_both and (changes.atime_ns is None or changes.mtime_ns is None):
                await self._refresh(node)
                now = node.attributes
            opening = self._handle_for(node, fields.update_size)

            async def change(remote: Remote) -> Attributes:
                handle = await opening.on(remote) if opening is not None else None
                path = b"" if handle is not None else node.path()
                return await remote.setattr(path, handle, changes, now)

            changed = node.changes
            above = next(iter(node.names), (node, b""))[0]
            asking = self.leases.ask(node if node.attributes.is_folder else above)
            self._learn(node, await link.call(change), changed, asking.covered)
        return self._entry(node)

    @filesystem_handler
    async def readlink(self, inode: int, ctx: Any) -> bytes:
        """Where a link points."""
        node = self.table.get(inode)
        path = node.path()
        return await self._link_of(node).call(lambda remote: remote.readlink(path))

    # ---- changes of names

    @filesystem_handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        """Make a folder."""
        parent = self.table.get(parent_inode)
        permissions = mode & _PERMISSIONS | parent.attributes.mode & stat.S_ISGID
        return await self._make(parent_inode, name, ctx, lambda r, path: r.mkdir(path, permissions))

    @filesystem_handler
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        """Make an empty file, a FIFO or a socket; a device is refused."""
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise OSError(errno.EPERM, "no devices here")
        return await self._make(parent_inode, name, ctx, lambda r, path: r.mknod(path, mode))

    @filesystem_handler
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        """Make a symbolic link."""
        return await self._make(parent_inode, name, ctx, lambda r, path: r.symlink(target, path))

    @filesystem_handler
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        """One more name for a file."""
        node, parent = self.table.get(inode), self.table.get(new_parent_inode)
        link = self._link_of(parent)
        if node.link is not link:
            raise OSError(errno.EXDEV, "the files are on different servers")
        await self._settle(node)
        old, new = node.path(), self._new_path(parent, new_name)
        attributes = await link.call(lambda remote: remote.link(old, new), already=(errno.EEXIST,))
        self.table.add_name(node, parent, new_name)
        parent.changed()
        node.changed()
        if attributes is not None:
            self._learn(node, attributes, node.changes)
        node.lookups += 1
        return self._entry(node)

    @filesystem_handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        """Remove a file's name; what has it open goes on with it."""
        parent, path = self._child(parent_inode, name)
        link = self._link_of(parent)
        node = parent.children.get(name)
        if node is not None:
            if await self._unlink_behind(parent, name, node):
                return
            await self._settle(node)
        await self._arrived(parent)
        await link.call(lambda remote: remote.unlink(path), already=(errno.ENOENT,))
        self._gone(parent, name)
        self._changed_in(parent)

    @filesystem_handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        """Remove an empty folder."""
        parent, path = self._child(parent_inode, name)
        node = parent.children.get(name)
        if node is not None and node.base is not None:
            raise OSError(errno.EBUSY, "this folder is a part of the mount")
        link = self._link_of(parent)
        if node is not None:
            if await self._rmdir_behind(parent, name, node):
                return
            await self._arrived(parent, node)
        await link.call(lambda remote: remote.rmdir(path), already=(errno.ENOENT,))
        self._gone(parent, name)
        self._changed_in(parent)

    @filesystem_handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: Any,
    ) -> None:
        """Rename as ``renameat2(2)`` does."""
        old_parent, old = self._child(parent_inode_old, name_old)
        new_parent = self.table.get(parent_inode_new)
        new = self._new_path(new_parent, name_new)
        link = self._link_of(old_parent)
        if new_parent.link is not link:
            raise OSError(errno.EXDEV, "the files are on different servers")
        moved, target = old_parent.children.get(name_old), new_parent.children.get(name_new)
        for node in (moved, target):
            if node is not None and node.base is not None:
                raise OSError(errno.EBUSY, "this folder is a part of the mount")
            if node is not None:
                await self._settle(node)
        await self._arrived(old_parent, new_parent)
        if moved is None or moved.attributes.is_folder:
            await self._behind(link).drain()  # paths below it become others
        await link.call(lambda remote: remote.rename(old, new, flags), already=(errno.ENOENT,))
        old_parent.changed()
        new_parent.changed()
        if moved is not None and moved is target:
            return  # two names of one file: both stay
        if flags & pyfuse3.RENAME_EXCHANGE:
            self._exchange(old_parent, name_old, new_parent, name_new)
            return
        if target is not None:
            self._gone(new_parent, name_new)
        if moved is not None:
            moved.changed()
            self.table.move(moved, old_parent, name_old, new_parent, name_new)

    # ---- folders

    @filesystem_handler
    async def opendir(self, inode: int, ctx: Any) -> int:
        """A number for one reading of a folder."""
        number = self._next_number()
        self._folders[number] = OpenFolder(self.table.get(inode))
        return number

    @filesystem_handler
    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        """Give entries from there on, as many as have room."""
        opening = self._folders[fh]
        if opening.entries is None or start_id == 0:
            await self._listing_of(opening.node)
            opening.entries = await self._list(opening)
            opening.node.read_at = time.monotonic()
            self._list_ahead(opening.node)
        folder, entries = opening.node, opening.entries
        for index, name in enumerate((b".", b"..")[start_id:], start_id):
            # The kernel takes these for no references, and needs their type alone.
            if not pyfuse3.readdir_reply(token, name, self._entry(folder), index + 1):
                return
        for index in range(max(start_id - 2, 0), len(entries)):
            name, attributes = entries[index]
            child = folder.children.get(name)
            if child is None or (
                child.base is None and child.attributes is not attributes and not is_dirty(child)
            ):
                before = (child, child.changes if child is not None else 0)
                child = self._found(folder, name, attributes, None, before)
            entry = self._entry(child, folder, name)
            if folder.changes != opening.changes:
                # It may have gone since: the kernel is to ask.
                entry.entry_timeout = entry.attr_timeout = 0
            if not pyfuse3.readdir_reply(token, name, entry, index + 3):
                self.table.release(child)
                return
            child.lookups += 1

    @filesystem_handler
    async def releasedir(self, fh: int) -> None:
        """A folder is closed."""
        self._folders.pop(fh, None)

    @filesystem_handler
    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        """Room of the person's own folder, or of the first that a server has."""
        shown = next((node for node in self.table.root.below() if node.base is not None), None)
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_namemax = NAME_MAX
        if shown is None:
            return data
        base = shown.base or b"/"
        if _HOME in shown.children:
            base = shown.child_path(_HOME)
        room = await self._link_of(shown).call(lambda remote: remote.statfs(base))
        data.f_bsize = BLOCK_BYTES
        data.f_frsize = room.fragment_bytes
        data.f_blocks = room.blocks
        data.f_bfree = room.blocks_free
        data.f_bavail = room.blocks_available
        data.f_files = room.files
        data.f_ffree = room.files_free
        data.f_favail = room.files_available
        return data

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """The kernel gives references back."""
        for number, count in inode_list:
            self.table.forget(number, count)

    # ---- extended attributes

    @filesystem_handler
    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        """An extended attribute's value; only the user's own are kept."""
        if not name.startswith(b"user."):
            raise OSError(errno.EOPNOTSUPP, "only attributes of users are kept")
        path, link = self._named(inode)
        return await link.call(lambda remote: remote.getxattr(path, name))

    @filesystem_handler
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        """Set an extended attribute."""
        if not name.startswith(b"user."):
            raise OSError(errno.EOPNOTSUPP, "only attributes of users are kept")
        path, link = self._named(inode)
        self.table.get(inode).changed()
        await link.call(lambda remote: remote.setxattr(path, name, value))

    @filesystem_handler
    async def listxattr(self, inode: int, ctx: Any) -> Sequence[bytes]:
        """Names of the extended attributes."""
        path, link = self._named(inode)
        return await link.call(lambda remote: remote.listxattr(path))

    @filesystem_handler
    async def removexattr(self, inode: int, name: bytes, ctx: Any) -> None:
        """Remove an extended attribute."""
        path, link = self._named(inode)
        self.table.get(inode).changed()
        await link.call(lambda remote: remote.removexattr(path, name))


def _kept_id_for_filesystem(number: int, own: int) -> int:
    """A user or group as file servers keep it."""
    return OWN_ID if number == own else number
