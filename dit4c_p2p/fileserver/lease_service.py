"""The lease table of a tree, shared by worker threads and the loop.

Worker threads ask for accesses and never wait: what is in the way is a :class:`LeaseConflict`,
which the session waits for on the loop (:meth:`LeaseService.wait`) before it runs the operation
again.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Iterable

from dit4c_p2p.fileserver.leases import NO_GRANT, Conflict, LeaseTable, Notice, Session
from dit4c_p2p.sftp.extensions import SERVER_LEASE_S, Grant, LeaseKind


def now_s() -> float:
    """Seconds of a clock that never goes back, and goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseConflict(Exception):
    """An operation has to wait for a lease to come back; nothing of it was done.

    :ivar service: of the tree in question.
    :ivar seen: how often leases had come back before.
    """

    def __init__(self, service: "LeaseService", conflict: Conflict, seen: int) -> None:
        super().__init__("a lease is in the way")
        self.service = service
        self.conflict = conflict
        self.seen = seen


class LeaseService:
    """See above.

    :param loop: where notices are sent and waits take place.
    :param send: sends a notice to its session; called on the loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[list[Notice]], None],
        *,
        clock: Callable[[], float] = now_s,
    ) -> None:
        self._table = LeaseTable()
        self._lock = threading.Lock()
        self._loop = loop
        self._send = send
        self._clock = clock
        self._waiting: set[asyncio.Future[None]] = set()
        self._returns = 0

    # ---- sessions; called on the loop

    def join(self, session: Session, mount: int = 0) -> None:
        """The session may be granted leases; an earlier one of its mount has none any more."""
        with self._lock:
            self._table.join(session, self._clock(), mount, _who(session))
            self._returned()

    def leave(self, session: Session) -> None:
        """The session has ended; its mount may count on its leases for a while."""
        with self._lock:
            waits = self._table.leave(session, self._clock())
            self._returned()
        if waits:
            self._loop.call_later(SERVER_LEASE_S, self.forget, session)

    def forget(self, session: Session) -> None:
        """The session has no leases any more, and gets none."""
        with self._lock:
            self._table.forget(session, self._clock())
            self._returned()

    def renew(self, session: Session) -> None:
        """A request of the session has arrived."""
        with self._lock:
            self._table.renew(session, self._clock())
            notices = self._table.take_notices()
            if notices:
                self._returned()
        # Before the request is answered: an answer lets the holder count on what it has.
        if notices:
            self._send(notices)

    @property
    def count(self) -> int:
        """How many leases there are."""
        return self._table.count

    # ---- accesses; called in worker threads

    def begin(
        self, session: Session, reads: Iterable[int] = (), changes: Iterable[int] = ()
    ) -> None:
        """An access begins; one with changes is ended by :meth:`end`.

        :raises LeaseConflict: it has to wait.
        """
        with self._lock:
            table = self._table
            if table.count:
                conflict = table.check(session, reads, changes, self._clock())
                self._flush()
                if conflict is not None:
                    raise LeaseConflict(self, conflict, self._returns)
            if changes:
                table.begin_change(session, changes)

    def begin_listing(self, session: Session, directory: int) -> None:
        """A directory's entries are read with their attributes.

        :raises LeaseConflict: it has to wait.
        """
        if self._table.count:
            with self._lock:
                entries = self._table.leased_entries(directory)
            self.begin(session, (directory, *entries))

    def end(self, session: Session, changes: Iterable[int]) -> None:
        """The change has been done, or has failed."""
        with self._lock:
            self._table.end_change(session, changes)

    def writers_but(self, session: Session) -> bool:
        """Whether others have WRITE leases, so that a path has to be walked step by step."""
        return self._table.writers_but(session)

    def acquire(
        self, session: Session, file_id: int, kind: int, *, parents: Iterable[int] = ()
    ) -> Grant:
        """Grant what can be granted; what is leased is read after that."""
        if kind == LeaseKind.NONE:
            return NO_GRANT
        wished = LeaseKind.WRITE if kind >= LeaseKind.WRITE else LeaseKind.READ
        with self._lock:
            return self._table.acquire(session, file_id, wished, self._clock(), parents=parents)

    def release(self, session: Session, grant: Grant, file_id: int) -> None:
        """Take back a grant that was not told yet."""
        if grant.kind:
            with self._lock:
                self._table.release(session, grant, file_id)
                self._returned()

    def give_back(self, session: Session, file_id: int, seq: int, keep: int) -> None:
        """The holder gives a lease back."""
        kept = LeaseKind(min(keep, LeaseKind.WRITE))
        with self._lock:
            self._table.give_back(session, file_id, seq, kept)
            self._returned()

    def give_all_back(self, session: Session) -> None:
        """The holder gives every lease back."""
        with self._lock:
            self._table.give_all_back(session)
            self._returned()

    def withdraw(self, file_id: int) -> None:
        """Break all leases on a file."""
        if self._table.count:
            with self._lock:
                self._table.withdraw(file_id)
                self._flush()

    def move(self, file_id: int, parent: int) -> None:
        """A file is an entry of another directory now."""
        if self._table.count:
            with self._lock:
                self._table.move(file_id, parent)

    def changed_by_others(self, session: Session, file_ids: Iterable[int]) -> bool:
        """Whether another session is changing one of these right now."""
        with self._lock:
            return any(self._table.changed_by_others(session, one) for one in file_ids)

    # ---- changes of contents; called in worker threads

    @property
    def point(self) -> int:
        """How many changes of contents there were, for :meth:`overtaken`."""
        return self._table.changes.point

    def changes_contents(self, session: Session, file_id: int, *, made: bool = False) -> None:
        """A session is about to change a file's contents, after :meth:`begin` has allowed it.

        :param made: it has made the file.
        """
        with self._lock:
            self._table.changes.note(_who(session), file_id, self._clock(), made=made)

    def is_away(self, session: Session) -> bool:
        """Whether the session may still send what it had kept while it could not be reached."""
        return self._table.is_away(session, self._clock())

    def holds(self, session: Session, file_id: int, kind: LeaseKind) -> bool:
        """Whether the session has such a lease, or a higher one."""
        with self._lock:
            return self._table.held(session, file_id, self._clock()) >= kind

    def overtaken(self, session: Session, file_id: int, opened_at: int) -> bool:
        """Whether somebody else has changed a file while the session could not be reached."""
        with self._lock:
            return self._table.overtaken(session, file_id, opened_at, self._clock())

    def is_new(self, session: Session) -> bool:
        """Whether a session's mount may have been away, and its earlier sessions are not known."""
        with self._lock:
            return self._table.is_new(session, self._clock())

    # ---- waiting; on the loop

    async def wait(self, conflict: LeaseConflict) -> None:
        """Return when leases have come back since, or at the conflict's end."""
        if conflict.seen != self._returns:
            return
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(max(0.0, conflict.conflict.until - self._clock()) + 0.001):
                await future
        except TimeoutError:
            return
        finally:
            self._waiting.discard(future)

    def await_access(self, session: Session, file_ids: Iterable[int]) -> None:
        """An operation waits for these until :meth:`end_await`: others get no lease on them."""
        with self._lock:
            self._table.await_access(session, file_ids)

    def end_await(self, session: Session, file_ids: Iterable[int]) -> None:
        """The operation has been run, or given up."""
        with self._lock:
            self._table.end_await(session, file_ids)

    # ---- inside

    def _flush(self) -> None:
        """Send what the table wants sent; called under the lock."""
        notices = self._table.take_notices()
        if notices:
            self._loop.call_soon_threadsafe(self._send, notices)
            if any(notice.broken for notice in notices):
                self._returned()

    def _returned(self) -> None:
        """Leases have come back; called under the lock."""
        self._returns += 1
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def _who(session: Session) -> Hashable:
    """By what a session's changes are known: no object that lives as long as its changes count."""
    return getattr(session, "who", session)
