"""Which changes of names and attributes are sent behind, and what becomes of their errors."""

import dataclasses
import logging
import time
from functools import partial

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes, from_file_attrs
from dit4c_p2p.helpers.storage.behind import Change
from dit4c_p2p.helpers.storage.conflicts import ChangedElsewhere
from dit4c_p2p.helpers.storage.entries import is_dirty
from dit4c_p2p.helpers.storage.lease_book import Kernel
from dit4c_p2p.helpers.storage.leases import HeldLease
from dit4c_p2p.helpers.storage.nodes import Node, shown_path
from dit4c_p2p.helpers.storage.remote import Remote
from dit4c_p2p.helpers.storage.server_link import RemoteFile, ServerLink
from dit4c_p2p.helpers.storage.tree import Tree
from dit4c_p2p.sftp.compound import Operation, Result
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS, LeaseKind
from dit4c_p2p.sftp.operations import (
    AttrsResult,
    CloseFile,
    Done,
    Failed,
    FileResult,
    FSetAttr,
    ParentResult,
    RemoveDir,
    SetAttr,
    Unlink,
)

_log = logging.getLogger(__name__)

# A tree with less room than this is written to with nothing behind: its quota may be reached.
_ROOM_BYTES = 64 * 1024 * 1024
_ROOM_KNOWN_S = 2.0
_SHARED = b"shared"


class DelayedChanges(Tree):
    """Changes under write leases; see :class:`Tree` for the arguments."""

    def __init__(self, owner: tuple[int, int], kernel: Kernel | None = None) -> None:
        super().__init__(owner, kernel)
        # By server and tree: free bytes, and when they were known (monotonic clock).
        self._rooms: dict[tuple[ServerLink, bytes], tuple[int, float]] = {}
        self._asking: set[tuple[ServerLink, bytes]] = set()

    def _owned(self, folder: Node) -> HeldLease | None:
        """The write lease on a folder in which a change has succeeded, if there is one."""
        lease = folder.lease
        if (
            lease is None
            or lease.kind != LeaseKind.WRITE
            or not lease.valid
            or folder.proved != folder.epoch
        ):
            return None
        return lease

    def _covering(self, node: Node) -> HeldLease | None:
        """The write lease that covers a file's attributes and contents."""
        name = next(iter(node.names), None)
        if name is None or node.attributes.links != 1 or not node.attributes.is_regular:
            return None
        return self._owned(name[0])

    def _knows_enough(self, node: Node) -> bool:
        """Whether its attributes are known, but for the time of change, before changes arrive."""
        if node.told_times != node.changes:
            return False
        if node.attributes.is_folder:
            return self._owned(node) is not None
        return self._covering(node) is not None

    async def _unlink_behind(self, parent: Node, name: bytes, node: Node) -> bool:
        """Whether a file's name is removed behind."""
        link = parent.link
        if link is None or node.attributes.is_folder or not parent.knows(name):
            return False
        await self._sent(node)  # other changes of it are behind as well, and before this one
        lease = self._owned(parent)
        if lease is None or not parent.knows(name) or parent.children.get(name) is not node:
            return False
        path, file_id = parent.child_path(name), node.attributes.file_id
        self._gone(parent, name)
        self._remove_behind(link, parent, node, lease, Unlink(path), file_id)
        await self._behind(link).room()
        return True

    async def _rmdir_behind(self, parent: Node, name: bytes, node: Node) -> bool:
        """Whether a folder that is known to be empty is removed behind."""
        link = parent.link
        if link is None or not node.attributes.is_folder or not parent.knows(name):
            return False
        lease = self._owned(parent)
        own = node.lease
        if (
            lease is None
            or own is None
            or own.kind != LeaseKind.WRITE
            or not node.knows_all
            or node.children
        ):
            return False
        path, file_id = parent.child_path(name), node.attributes.file_id
        self._gone(parent, name)
        self._remove_behind(link, parent, node, lease, RemoveDir(path), file_id)
        return True

    def _remove_behind(
        self,
        link: ServerLink,
        parent: Node,
        node: Node,
        lease: HeldLease,
        operation: Unlink | RemoveDir,
        file_id: int | None,
    ) -> None:
        async def again(remote: Remote) -> Result:
            path, since_ns = operation.path, link.since_ns
            return await remote.run_unchanged(operation, path, file_id or 0, since_ns)

        # The kernel asks for a folder's mode before each change: its times are estimated meanwhile.
        now = _next_time_ns(link, parent.attributes)
        parent.attributes = dataclasses.replace(parent.attributes, mtime_ns=now, ctime_ns=now)
        if node.attributes.is_folder and parent.attributes.links:
            parent.attributes.links -= 1
        parent.changed()
        before = parent.told_times = parent.changes

        def done(result: Result) -> None:
            if isinstance(result, Failed):
                parent.complete = -1
                self._failed(parent, result, operation.path)
            elif isinstance(result, ParentResult):
                self._learn_folder(parent, from_file_attrs(result.parent), before)

        name = shown_path(parent) + b"/" + operation.path.rpartition(b"/")[2]
        change = Change((parent, node), name, lease, operation, again, done)
        self._behind(link).add(change)

    async def _set_behind(self, node: Node, changes: Changes) -> bool:
        """Whether attributes of a file, but its size, are set behind."""
        link, lease = node.link, self._covering(node)
        if link is None or lease is None or changes.size is not None or changes == Changes():
            return False
        file, folder = node.file, next(iter(node.names))[0]
        attrs = changes.to_set_attrs()
        path, file_id = node.path(), node.attributes.file_id
        operation: Operation = SetAttr(path, attrs)
        if file is not None and file.dirty:
            # After the writes that are on their way, which are of the same handle.
            handle = await file.send_before_handle()
            if handle is None:
                return False
            operation = FSetAttr(attrs, handle)

        async def again(remote: Remote) -> Result:
            by_path = SetAttr(path, attrs)
            return await remote.run_unchanged(by_path, path, file_id or 0, link.since_ns)

        def done(before: int, result: Result) -> None:
            if isinstance(result, Failed):
                node.changed()
                self._failed(node, result, path)
            elif isinstance(result, AttrsResult | FileResult):
                # Of a write since then the attributes are not told: it counts as a change.
                sure = (folder, folder.epoch) if lease.valid and folder.lease is lease else None
                self._learn(node, from_file_attrs(result.attrs), before, sure)

        times_known = changes.mtime_ns is not None or node.told_times == node.changes
        node.changed()
        changed_ns = _next_time_ns(link, node.attributes)
        node.attributes = _with_for_delayed_changes(node.attributes, changes, changed_ns)
        if times_known:
            node.told_times = node.changes
        told = partial(done, node.changes)
        change = Change((node,), shown_path(node), lease, operation, again, told)
        behind = self._behind(link)
        behind.add(change)
        await behind.room()
        return True

    def _close_behind(self, node: Node, remote_file: RemoteFile) -> bool:
        """Whether a file is closed behind what was changed of it, and what it has become is learnt.

        Nobody waits for this.
        """
        link, lease = node.link, self._covering(node)
        handle = remote_file.handle_on(link.remote) if link is not None else None
        if link is None or lease is None or handle is None:
            return False
        folder = next(iter(node.names))[0]

        async def again(remote: Remote) -> Result:
            remote_file.close()
            return Done()

        def done(before: int, result: Result) -> None:
            if isinstance(result, FileResult) and not is_dirty(node):
                sure = (folder, folder.epoch) if lease.valid and folder.lease is lease else None
                self._learn(node, from_file_attrs(result.attrs), before, sure)
            self.table.forget(node.number, 1)

        node.lookups += 1  # whoever looks it up meanwhile finds that a change is on its way
        told = partial(done, node.changes)
        self._behind(link).add(Change((node,), b"", lease, CloseFile(handle), again, told))
        return True

    def _failed(self, node: Node, result: Failed, path: bytes) -> None:
        """A change behind has failed: the next close or fsync of ``node`` is told."""
        words = result.message.decode(errors="replace")
        _log.warning("a change of %r behind its caller has failed: %s", path, words)
        others_doing = result.errno == CHANGED_BY_OTHERS
        error = ChangedElsewhere() if others_doing else OSError(result.errno, words)
        if node.file is not None:
            node.file.fail(error)
        else:
            node.failed = error

    # ---- owning folders

    def _changed_in(self, folder: Node) -> None:
        """A change of names in a folder has succeeded: whoever makes several makes them behind."""
        folder.own_changes += 1
        lease = folder.lease
        if lease is not None and lease.valid and lease.kind == LeaseKind.WRITE:
            folder.proved = folder.epoch
            return
        above = next(iter(folder.names), (folder, b""))[0]
        busy = max(folder.own_changes, above.own_changes) > 1
        if busy and not folder.owning and folder.contested_until < time.monotonic():
            folder.owning = True
            self._spawn(self._own(folder))

    async def _own(self, folder: Node) -> None:
        """Ask for a write lease on a folder in which a change has succeeded."""
        link = folder.link
        try:
            if link is None or link.remote is None or link.remote.leases is None:
                return
            path, asking = folder.path(), self.leases.ask(folder)
            leased = await link.call(lambda remote: remote.lease(path, LeaseKind.WRITE))
            self.leases.answered(asking, folder, leased)
            if asking.covered is not None:
                folder.proved = folder.epoch
        except OSError as error:
            _log.info("a folder can't be leased: %s", error)
        finally:
            folder.owning = False

    # ---- room

    def _has_room(self, folder: Node) -> bool:
        """Whether a tree is known to be far from its quota; asks if that is not known."""
        link, path = folder.link, folder.path()
        if link is None:
            return False
        parts = path.split(b"/")[1:]
        tree = b"/" + b"/".join(parts[: 2 if parts[0] == _SHARED else 1])
        key = link, tree
        free, known_at = self._rooms.get(key, (0, 0.0))
        if known_at + _ROOM_KNOWN_S / 2 < time.monotonic() and key not in self._asking:
            self._asking.add(key)
            self._spawn(self._ask_room(link, tree))
        return free > _ROOM_BYTES and known_at + _ROOM_KNOWN_S > time.monotonic()

    async def _ask_room(self, link: ServerLink, tree: bytes) -> None:
        try:
            room = await link.call(lambda remote: remote.statfs(tree))
            free = room.blocks_available * room.fragment_bytes
            self._rooms[link, tree] = free, time.monotonic()
        except OSError as error:
            _log.info("the room of a tree is not known: %s", error)
        finally:
            self._asking.discard((link, tree))


def _next_time_ns(link: ServerLink, before: Attributes) -> int:
    """A time of change that is newer than the one before, and no newer than the server will give.

    It is of the server's clock, which may not be that of this machine.
    """
    return max(before.ctime_ns or 0, link.newest_ns) + 1


def _with_for_delayed_changes(
    attributes: Attributes, changes: Changes, changed_ns: int
) -> Attributes:
    """The attributes after a change, as far as they are known here."""
    new = dataclasses.replace(attributes, blocks=None, ctime_ns=changed_ns)
    if changes.mode is not None:
        new.mode = attributes.kind | changes.mode
    if changes.atime_ns is not None:
        new.atime_ns = changes.atime_ns
    if changes.mtime_ns is not None:
        new.mtime_ns = changes.mtime_ns
    if changes.uid is not None:
        new.uid = changes.uid
    if changes.gid is not None:
        new.gid = changes.gid
    return new
