"""Which folders the mount holds leases on: asking for them, counting on them, giving them back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.storage.attributes import Attributes
from dit4c_p2p.helpers.storage.nodes import Node, NodeTable
from dit4c_p2p.helpers.storage.remote import Leased, Remote
from dit4c_p2p.helpers.storage.server_link import ServerLink
from dit4c_p2p.sftp.extensions import ALL_LEASES, Notice, NoticeKind, RecalledLease

_log = logging.getLogger(__name__)

# A folder whose lease was recalled is used by others too: for so long no lease on it is asked for.
CONTESTED_S = 1.0
# So long the kernel goes by what it is told of a name that a lease covers. A file's number may be
# another's soon after its removal, so a lease goes back when that time is over, and not before.
NAMES_S = 0.2
NAMES_SLACK_S = 0.1
_MOST_LEASES = 4000
_MOST_NODES = 200_000
# What has to be done before a lease goes back may take this long: the server waits 5 s.
_BEFORE_RETURN_S = 3.0
_GIVING_BACK_S = 1.0

Coverage = tuple[Node, int]


class Kernel:
    """What the mount tells the kernel of its own accord; by default nothing, as without a mount."""

    def forget_attributes(self, number: int) -> None:
        """Attributes of that node are to be asked for again."""

    def forget_name(self, parent: int, name: bytes) -> None:
        """A file's name is to be looked up again; this may take effect a little later."""


class Asking:
    """One question about a folder and its entries: begun before it is sent.

    :ivar wish: the folder's path if a lease on it is to be asked for with the question.
    """

    __slots__ = ("_epoch", "_folder", "changes", "wish")

    def __init__(self, folder: Node, wish: bytes | None) -> None:
        self._folder = folder
        self._epoch = folder.epoch if folder.leased else None
        self.changes = folder.changes
        self.wish = wish

    @property
    def covered(self) -> Coverage | None:
        """The lease that covers an answer that has just arrived, if one does."""
        if self._epoch == self._folder.epoch and self._folder.leased:
            return self._folder, self._epoch
        return None

    def granted(self) -> None:
        """The answer has begun with a lease."""
        self._epoch = self._folder.epoch


class LeaseBook:
    """The leases of all servers of a mount.

    :param before_return: brings what depends on a folder's lease into order before it goes back.
    """

    def __init__(
        self,
        table: NodeTable,
        kernel: Kernel,
        before_return: Callable[[Iterable[Node]], Awaitable[None]],
    ) -> None:
        self._table = table
        self._kernel = kernel
        self._before_return = before_return
        self._leased: dict[tuple[ServerLink, int], Node] = {}
        self._returning: set[asyncio.Task[None]] = set()
        self._links: set[ServerLink] = set()
        table.on_link = self.attach

    def attach(self, link: ServerLink) -> None:
        """Hear what this server says of its leases from now on."""
        self._links.add(link)
        link.on_notice = lambda remote, notice: self._take_notice(link, remote, notice)
        link.on_lost = lambda: self._lose_all(link)

    def ask(self, folder: Node) -> Asking:
        """Begin to ask about ``folder`` or its entries."""
        link = folder.link
        remote = link.remote if link is not None else None
        wished = (
            remote is not None
            and remote.leases is not None
            and folder.attributes.is_folder  # what has no name any more has no folder either
            and not folder.leased
            and folder.contested_until <= time.monotonic()
        )
        path = None
        if wished:
            with contextlib.suppress(OSError):  # a folder that was removed
                path = folder.path()
        return Asking(folder, path)

    def answered(self, asking: Asking, folder: Node, leased: Leased | None) -> None:
        """The answer came with this lease, if with any."""
        if leased is None or leased.lease is None or folder.link is None:
            return
        attributes, lease = leased.attributes, leased.lease
        file_id = attributes.file_id or 0
        if not lease.valid or lease.session.is_void(file_id, lease.seq):
            return
        if folder.attributes.file_id not in (None, file_id):
            return  # what is at that path is another folder now; its lease ends when it is recalled
        if not folder.leased:
            folder.epoch += 1
        elif folder.lease is not None and folder.lease.seq > lease.seq:
            asking.granted()
            return  # the answers have overtaken each other
        folder.lease = lease
        key = folder.link, file_id
        self._leased.pop(key, None)
        self._leased[key] = folder
        asking.granted()
        if folder.changes == asking.changes:
            folder.attributes = attributes
            folder.sure = folder, folder.epoch
        if len(self._leased) > _MOST_LEASES or len(self._table) > _MOST_NODES:
            self._drop_oldest(folder)

    def made(self, folder: Node, leased: Leased) -> None:
        """This mount has just made a folder: it is empty, and may be leased."""
        self.answered(Asking(folder, None), folder, leased)
        if folder.leased and folder.lease is leased.lease:
            folder.complete = folder.proved = folder.epoch

    # ---- losing them

    def lose(self, folder: Node) -> None:
        """The lease on a folder can't be counted on any more."""
        folder.lease = None
        folder.epoch += 1
        self._forget(folder)
        for name, child in list(folder.children.items()):
            if not child.attributes.is_folder:
                self._forget(child)
                if child.lookups and child.file is None:
                    self._kernel.forget_name(folder.number, name)
            self._table.release(child)

    async def give_all_back(self) -> None:
        """Have no server wait for leases of this mount: it ends."""
        for link in self._links:
            remote = link.remote
            if remote is not None and remote.leases is not None:
                self._lose_all(link)
                try:
                    async with asyncio.timeout(_GIVING_BACK_S):
                        await remote.give_back(ALL_LEASES, 0)
                except (OSError, DitError, TimeoutError) as error:
                    _log.info("leases could not be given back: %s", error)

    def _forget(self, node: Node) -> None:
        if node.lookups:
            self._kernel.forget_attributes(node.number)

    def _lose_all(self, link: ServerLink) -> None:
        for key in [key for key in self._leased if key[0] is link]:
            self.lose(self._leased.pop(key))

    def _drop_oldest(self, but: Node) -> None:
        key, folder = next(iter(self._leased.items()))
        lease, remote = folder.lease, key[0].remote
        if folder is but or remote is None:
            return
        del self._leased[key]
        if lease is not None:
            self._return_soon(remote, folder, RecalledLease(key[1], lease.seq, 0))

    def _take_notice(self, link: ServerLink, remote: Remote, notice: Notice) -> None:
        if remote.leases is None or remote is not link.remote:
            return
        for one in notice.leases:
            remote.leases.recalled(one.file_id, one.seq)
            key = link, one.file_id
            folder = self._leased.get(key)
            lease = folder.lease if folder is not None else None
            if lease is None or lease.session is not remote.leases or lease.seq > one.seq:
                folder = None
            else:
                del self._leased[key]
            if notice.kind == NoticeKind.RECALL:
                if folder is not None:
                    folder.contested_until = time.monotonic() + CONTESTED_S
                self._return_soon(remote, folder, one)
            elif folder is not None and lease is not None:
                lease.broken = True
                self.lose(folder)

    def _return_soon(self, remote: Remote, folder: Node | None, lease: RecalledLease) -> None:
        depending: list[Node] = []
        names_until = folder.names_until if folder is not None else 0.0
        if folder is not None:
            depending = [folder, *folder.children.values()]
            self.lose(folder)
        task = asyncio.ensure_future(self._return(remote, depending, names_until, lease))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _return(
        self, remote: Remote, depending: list[Node], names_until: float, lease: RecalledLease
    ) -> None:
        try:
            if depending:
                async with asyncio.timeout(_BEFORE_RETURN_S):
                    await self._before_return(depending)
        except (OSError, TimeoutError) as error:
            _log.info("a lease goes back before everything is in order: %s", error)
        await asyncio.sleep(max(0.0, names_until - time.monotonic()))
        try:
            await remote.give_back(lease.file_id, lease.seq)
        except (OSError, DitError) as error:
            _log.info("a lease could not be given back: %s", error)


def learn_attributes(
    node: Node, attributes: Attributes, covered: Coverage | None, fresh_until: float
) -> None:
    """A server has said this of ``node``.

    :param covered: the lease that covers it. Without one it may be older than what is covered.
    """
    if node.link is not None and attributes.ctime_ns is not None:
        node.link.newest_ns = max(node.link.newest_ns, attributes.ctime_ns)
    if covered is None and node.is_sure:
        return
    node.attributes = attributes
    node.fresh_until = fresh_until
    if covered is not None and (covered[0] is node or not attributes.is_folder):
        node.sure = covered
