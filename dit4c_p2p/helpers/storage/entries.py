"""What the kernel is told of nodes and their names, and for how long."""

import time

import pyfuse3

from dit4c_p2p.helpers.storage.lease_book import NAMES_S, NAMES_SLACK_S, Coverage
from dit4c_p2p.helpers.storage.nodes import Node
from dit4c_p2p.sftp.operations import OWN_ID

# For how long the kernel and the mount believe what a server has said that grants no leases.
BELIEVED_S = 1.0
# Programs read and write in pieces of this size if they go by it.
BLOCK_BYTES = 128 * 1024


class KernelEntries:
    """Makes the kernel's entries.

    :param owner: numeric user and group that every file looks owned by.
    """

    def __init__(self, owner: tuple[int, int]) -> None:
        self.uid, self.gid = owner
        self._made_ns = time.time_ns()

    def _entry(
        self, node: Node, parent: Node | None = None, name: bytes = b""
    ) -> pyfuse3.EntryAttributes:
        """What the kernel is told of a node, and of its name in ``parent`` if that is asked for."""
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
        believed = max(0.0, min(BELIEVED_S, node.fresh_until - time.monotonic()))
        if node.link is None or is_dirty(node):
            believed = BELIEVED_S
        entry.attr_timeout = max(believed, _lease_left_s(node.sure)) if node.is_sure else believed
        server = node.link.remote if node.link is not None else None
        entry.entry_timeout = 0.0 if server is not None and server.leases is not None else believed
        if parent is not None and parent.knows(name):
            entry.entry_timeout = min(_lease_left_s((parent, parent.epoch)), NAMES_S)
            parent.names_until = time.monotonic() + NAMES_S + NAMES_SLACK_S
        return entry


def _lease_left_s(covered: Coverage | None) -> float:
    """For how long a lease lasts if no further answer comes."""
    lease = covered[0].lease if covered is not None else None
    return max(0.0, lease.session.left_s) if lease is not None else 0.0


def is_dirty(node: Node) -> bool:
    """Whether written data of the node was not sent yet."""
    return node.file is not None and node.file.dirty
