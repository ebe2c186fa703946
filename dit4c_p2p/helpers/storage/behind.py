"""Changes that are answered to their callers before the server has carried them out.

They are made under write leases alone, so nobody else can see that they are not there yet. They are
sent in order, many in one message; one message at a time is on its way. A message waits some
milliseconds for further changes, unless somebody waits for it: whoever needs the server to have
carried out what touches a node waits for :meth:`Behind.settled`.
"""

import asyncio
import contextlib
import errno
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dit4c_p2p.helpers.storage.conflicts import ChangedElsewhere
from dit4c_p2p.helpers.storage.leases import HeldLease
from dit4c_p2p.helpers.storage.nodes import Node
from dit4c_p2p.helpers.storage.remote import Remote
from dit4c_p2p.helpers.storage.server_link import ServerLink
from dit4c_p2p.sftp.compound import Operation, Result
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS
from dit4c_p2p.sftp.operations import Done, Failed

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 200
# A message costs far more than a change in it, at both ends.
_GATHER_S = 0.005
# More than this wait here: whoever makes another change waits too.
_MOST_WAITING = 2000


@dataclass(slots=True, eq=False)
class Change:
    """One change that is sent behind.

    :ivar nodes: what it touches: files, and folders whose names it changes.
    :ivar name: of the file, as the mount shows it; empty: nothing is lost if it is not sent.
    :ivar lease: under which it was made.
    :ivar again: carries it out without that lease, or after an attempt whose end is not known:
        only if nobody else has changed what it is about.
    :ivar done: told how it ended.
    """

    nodes: tuple[Node, ...]
    name: bytes
    lease: HeldLease
    operation: Operation
    again: Callable[[Remote], Awaitable[Result]]
    done: Callable[[Result], None]


class Behind:
    """The changes of one server."""

    def __init__(self, link: ServerLink) -> None:
        self._link = link
        self._waiting: deque[Change] = deque()
        self._sent: list[Change] = []
        self._touched: Counter[Node] = Counter()
        self._changed = asyncio.Event()
        # Somebody waits for what has not been sent.
        self._wanted = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    async def room(self) -> None:
        """Return when another change may be made."""
        while len(self._waiting) >= _MOST_WAITING:
            await self._next()

    def add(self, change: Change) -> None:
        """Send a change after those that were added before."""
        self._waiting.append(change)
        self._touched.update(change.nodes)
        if self._pump is None:
            self._pump = asyncio.ensure_future(self._send_all())

    async def settled(self, *nodes: Node) -> None:
        """Return when no change that touches one of these is on its way."""
        while self._touched and any(node in self._touched for node in nodes):
            await self._next()

    async def drain(self) -> None:
        """Return when every change has been carried out, or has failed."""
        while self._touched:
            await self._next()

    def names(self) -> list[bytes]:
        """Of the files whose changes have not arrived."""
        return [change.name for change in (*self._sent, *self._waiting) if change.name]

    async def _next(self) -> None:
        self._wanted.set()
        self._changed.clear()
        await self._changed.wait()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GATHER_S):
                        await self._wanted.wait()
                count = min(len(self._waiting), _MOST_AT_ONCE)
                self._sent = [self._waiting.popleft() for _ in range(count)]
                if not self._waiting:
                    self._wanted.clear()
                results = await self._send(self._sent)
                sent, self._sent = self._sent, []
                for change, result in zip(sent, results, strict=True):
                    self._end(change, result)
                self._changed.set()
        finally:
            self._pump = None

    def _end(self, change: Change, result: Result) -> None:
        self._touched.subtract(change.nodes)
        for node in change.nodes:
            if self._touched[node] <= 0:
                del self._touched[node]
        change.done(result)

    async def _send(self, changes: list[Change]) -> list[Result]:
        uncertain = False

        async def attempt(remote: Remote) -> list[Result]:
            nonlocal uncertain
            certain, uncertain = not uncertain, True
            if certain and all(
                change.lease.valid and change.lease.session is remote.leases for change in changes
            ):
                return await remote.run_ordered([change.operation for change in changes])
            return [await _carefully_for_sending_behind(change, remote) for change in changes]

        try:
            return await self._link.call(attempt)
        except OSError as error:
            _log.warning("%d changes could not be sent: %s", len(changes), error)
            return [failed_change(error)] * len(changes)


async def _carefully_for_sending_behind(change: Change, remote: Remote) -> Result:
    try:
        return await change.again(remote)
    except FileNotFoundError:
        return Done()  # gone already, by an earlier attempt or by somebody else
    except OSError as error:
        if error.errno == errno.ESTALE:
            return Done()  # somebody else has put another file there, which stays
        if error.errno == CHANGED_BY_OTHERS:
            return failed_change(ChangedElsewhere())
        return failed_change(error)


def failed_change(error: OSError) -> Failed:
    """An error as a result."""
    return Failed(error.errno or 5, str(error.strerror or "").encode()[:200])
