"""Making what has a new name: folders, links, FIFOs; and whose it is."""

import stat
from collections.abc import Awaitable, Callable
from typing import Any

import pyfuse3

from dit4c_p2p.helpers.storage.attributes import Attributes, Changes
from dit4c_p2p.helpers.storage.delayed import DelayedChanges
from dit4c_p2p.helpers.storage.nodes import Node
from dit4c_p2p.helpers.storage.remote import Leased, Made, Remote
from dit4c_p2p.sftp.operations import OWN_ID


class NewNames(DelayedChanges):
    """Makes files; see :class:`Tree` for the arguments."""

    async def _make(
        self,
        parent_inode: int,
        name: bytes,
        ctx: Any,
        make: Callable[[Remote, bytes], Awaitable[Made]],
    ) -> pyfuse3.EntryAttributes:
        parent = self.table.get(parent_inode)
        owner = self._new_owner(parent, ctx)
        path = self._new_path(parent, name)
        link = self._link_of(parent)
        tried = False

        async def attempt(remote: Remote) -> Made:
            nonlocal tried
            try:
                again, tried = tried, True
                made = await make(remote, path)
                attributes = await self._given(remote, path, made.attributes, owner)
                return made._replace(attributes=attributes)
            except FileExistsError:
                if not again:
                    raise
                return Made(await remote.getattr(path))  # an earlier attempt has made it

        await self._arrived(parent)
        asking = self.leases.ask(parent)
        made = await link.call(attempt)
        self._entries_changed(parent, asking, made.parent)
        node = self._found(parent, name, made.attributes, asking.covered)
        if made.lease is not None:
            self.leases.made(node, Leased(made.attributes, made.lease))
        node.lookups += 1
        return self._entry(node, parent, name)

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
