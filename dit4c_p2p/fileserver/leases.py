"""Leases of one tree: a pure state machine. Time comes in as an argument, recalls come out.

docs/protocol.md says what a lease promises. Files and directories are known by their file ids,
sessions by any hashable key. A lease on a directory covers its entries as well, so that whoever
works on an entry names the directory too:

    access                                  reads           changes
    look-up, attributes, contents of F in D  D, F
    contents or attributes of F in D         D               D, F
    names of D                                               D (and the entry, where it was there)
    listing of D                             D and its leased entries

An access of one session conflicts with leases of others: a read with WRITE leases, a change with
all. Each conflicting lease is recalled, and the access is tried again when it has been given back;
after the lease's end it is broken. While a change is going on, no other session is granted a lease
on what is changed, and while an access waits, none is granted on what it waits for.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dit4c_p2p.fileserver.changes import KEPT_S, Changes
from dit4c_p2p.sftp.extensions import RECALL_S, REPLAY_S, SERVER_LEASE_S, Grant, LeaseKind

Session = Hashable

NO_GRANT = Grant()


@dataclass(slots=True)
class Lease:
    """One session's lease on one file.

    :ivar parents: the directories that its file is an entry of; empty for a directory.
    :ivar keep: what a recall leaves of it; None: it is not being recalled.
    :ivar ends_at: when a recalled lease is broken.
    """

    kind: LeaseKind
    seq: int
    parents: frozenset[int]
    keep: LeaseKind | None = None
    ends_at: float = 0.0


class _Away(NamedTuple):
    """A session could not be reached after a point of :class:`Changes`; ``until`` it may send what
    it had kept before.
    """

    since: int
    until: float


@dataclass(slots=True)
class _Holder:
    """A session that may hold leases.

    :ivar mount: the number of its mount; 0: it has none.
    :ivar who: its changes of contents are known by this.
    :ivar point: of the tree's changes, when it was last heard of.
    :ivar left: it has ended, and its leases last as if it were silent.
    :ivar new_until: so long a mount that was not known before may send what it had kept.
    """

    heard_at: float
    mount: int
    who: Hashable
    point: int = 0
    away: _Away | None = None
    left: bool = False
    new_until: float = 0.0
    held: dict[int, Lease] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a session has to be told: its lease is recalled (``broken`` False) or gone."""

    session: Session
    file_id: int
    seq: int
    keep: LeaseKind
    broken: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """An access can't go on now.

    :ivar until: when at the latest the access has to be tried again.
    """

    file_ids: frozenset[int]
    until: float


class LeaseTable:
    """All leases of one tree.

    Methods that take ``now`` take seconds of a clock that never goes back. :meth:`take_notices`
    returns what has to be sent after any of them.
    """

    def __init__(self, max_leases: int = 200_000) -> None:
        self._max = max_leases
        self._seq = 0
        self._holders: dict[Session, _Holder] = {}
        self._by_file: dict[int, dict[Session, Lease]] = {}
        # By directory, the leased files that are entries of it, with how many leases each has.
        self._entries: dict[int, Counter[int]] = {}
        self._changing: dict[int, Counter[Session]] = {}
        self._awaited: dict[int, Counter[Session]] = {}
        self._notices: list[Notice] = []
        self._count = 0
        # How many WRITE leases each session has.
        self._writers: Counter[Session] = Counter()
        self.changes = Changes()
        # By mount: since when it can't be reached, and when its last session was forgotten.
        self._departed: dict[int, tuple[int, float]] = {}

    # ---- sessions

    def join(
        self, session: Session, now: float, mount: int = 0, who: Hashable | None = None
    ) -> None:
        """A session may be granted leases from now on; an earlier one of its mount is over.

        :param who: by what its changes of contents are known; by default its mount or itself.
        """
        holder = _Holder(now, mount, who or mount or session, self.changes.point)
        if mount:
            for other, its in list(self._holders.items()):
                if its.mount == mount:
                    self.forget(other, now)
            departed = self._departed.pop(mount, None)
            if departed is None:
                holder.new_until = now + REPLAY_S
            else:
                self._went_away(holder, departed[0], now)
        self._holders[session] = holder

    def leave(self, session: Session, now: float) -> bool:
        """A session has ended. Its mount may not know: its leases last as if it were silent.

        Returns whether there are such, so that it has to be forgotten when they have ended.
        """
        holder = self._holders.get(session)
        if holder is None:
            return False
        holder.left = True
        if holder.held and now < holder.heard_at + SERVER_LEASE_S:
            return True
        self.forget(session, now)
        return False

    def forget(self, session: Session, now: float) -> None:
        """A session has no leases any more, and is granted none."""
        holder = self._holders.pop(session, None)
        if holder is None:
            return
        for file_id in list(holder.held):
            self._remove(session, holder, file_id)
        if holder.mount:
            since = holder.point
            if holder.away is not None and holder.away.until >= holder.heard_at:
                since = min(since, holder.away.since)
            self._departed[holder.mount] = since, now
        for mount, (_, at) in list(self._departed.items()):
            if at > now - KEPT_S:
                break
            del self._departed[mount]

    def renew(self, session: Session, now: float) -> None:
        """A request of the session has arrived.

        Whoever was not heard of for too long has no leases any more.
        """
        holder = self._holders.get(session)
        if holder is None:
            return
        if now >= holder.heard_at + SERVER_LEASE_S:
            for file_id in list(holder.held):
                self._break(session, holder, file_id)
            self._went_away(holder, holder.point, now)
        holder.heard_at = now
        holder.point = self.changes.point

    def _went_away(self, holder: _Holder, since: int, now: float) -> None:
        """A session could not be reached after that point; it is heard of now."""
        if holder.away is not None and holder.away.until >= now:
            since = min(since, holder.away.since)
        holder.away = _Away(since, now + REPLAY_S)
        self.changes.point += 1  # what is opened from now on differs from what was opened before

    # ---- changes of contents

    def is_away(self, session: Session, now: float) -> bool:
        """Whether a session may still send what it had kept while it could not be reached."""
        holder = self._holders.get(session)
        return holder is not None and holder.away is not None and now <= holder.away.until

    def overtaken(self, session: Session, file_id: int, opened_at: int, now: float) -> bool:
        """Whether a write may be older than what somebody else has written meanwhile.

        :param opened_at: the point of changes at which its handle was opened.
        """
        holder = self._holders.get(session)
        away = holder.away if holder is not None else None
        if holder is None or away is None or opened_at > away.since or now > away.until:
            return False
        return self.changes.by_others(holder.who, file_id, *away)

    def is_new(self, session: Session, now: float) -> bool:
        """Whether a session's mount may have been away, and its earlier sessions are not known."""
        holder = self._holders.get(session)
        return holder is not None and now <= holder.new_until

    # ---- accesses

    def writers_but(self, session: Session) -> bool:
        """Whether another session has a WRITE lease."""
        return len(self._writers) > (session in self._writers)

    def leased_entries(self, directory: int) -> tuple[int, ...]:
        """Files with a lease that are entries of a directory."""
        return tuple(self._entries.get(directory, ()))

    def check(
        self, session: Session, reads: Iterable[int], changes: Iterable[int], now: float
    ) -> Conflict | None:
        """Whether an access may go on; recalls what is in its way."""
        blocked: dict[int, float] = {}
        for file_id in reads:
            self._check_one(session, file_id, LeaseKind.READ, now, blocked)
        for file_id in changes:
            self._check_one(session, file_id, LeaseKind.NONE, now, blocked)
        if not blocked:
            return None
        return Conflict(frozenset(blocked), min(blocked.values()))

    def _check_one(
        self, session: Session, file_id: int, keep: LeaseKind, now: float, blocked: dict[int, float]
    ) -> None:
        leases = self._by_file.get(file_id)
        if not leases:
            return
        for other, lease in list(leases.items()):
            if other == session or lease.kind <= keep:
                continue
            holder = self._holders[other]
            if now >= holder.heard_at + SERVER_LEASE_S:
                self._break(other, holder, file_id)
                continue
            if lease.keep is None:
                # Requests that come after this don't renew it.
                lease.ends_at = min(now + RECALL_S, holder.heard_at + SERVER_LEASE_S)
            if lease.keep is None or lease.keep > keep:
                lease.keep = keep
                self._notices.append(Notice(other, file_id, lease.seq, keep, broken=False))
            if now >= lease.ends_at:
                self._went_away(holder, self.changes.point, now)
                self._break(other, holder, file_id)
                continue
            blocked[file_id] = min(blocked.get(file_id, lease.ends_at), lease.ends_at)

    def begin_change(self, session: Session, file_ids: Iterable[int]) -> None:
        """A change of these is going on, after :meth:`check` has allowed it."""
        _count_up_for_leases(self._changing, session, file_ids)

    def end_change(self, session: Session, file_ids: Iterable[int]) -> None:
        """The change is done, or has failed."""
        _count_down_for_leases(self._changing, session, file_ids)

    def changed_by_others(self, session: Session, file_id: int) -> bool:
        """Whether another session is changing it now."""
        return _others_for_leases(self._changing, session, file_id)

    def await_access(self, session: Session, file_ids: Iterable[int]) -> None:
        """An access waits for these: no other session is granted a lease on them meanwhile."""
        _count_up_for_leases(self._awaited, session, file_ids)

    def end_await(self, session: Session, file_ids: Iterable[int]) -> None:
        """The access waits no longer."""
        _count_down_for_leases(self._awaited, session, file_ids)

    # ---- leases

    def acquire(
        self,
        session: Session,
        file_id: int,
        kind: LeaseKind,
        now: float,
        *,
        parents: Iterable[int] = (),
    ) -> Grant:
        """Grant a lease of ``kind``, a lesser one, or none; never takes one away.

        :param parents: the directory that a file is an entry of; for a directory none.
        """
        holder = self._holders.get(session)
        if holder is None or holder.left or kind == LeaseKind.NONE:
            return NO_GRANT
        own = holder.held.get(file_id)
        if own is not None and own.keep is not None:
            return NO_GRANT
        parents = frozenset(parents)
        kind = min(kind, self._most(session, file_id, parents))
        if own is not None and own.kind >= kind:
            kind = own.kind
        if kind == LeaseKind.NONE or (own is None and self._count >= self._max):
            return NO_GRANT
        self._seq += 1
        if own is not None:
            self._remove(session, holder, file_id)
        lease = Lease(kind, self._seq, parents)
        holder.held[file_id] = lease
        self._by_file.setdefault(file_id, {})[session] = lease
        for directory in parents:
            self._entries.setdefault(directory, Counter())[file_id] += 1
        self._count += 1
        if kind == LeaseKind.WRITE:
            self._writers[session] += 1
        return Grant(kind, self._seq)

    def _most(self, session: Session, file_id: int, parents: frozenset[int]) -> LeaseKind:
        """The most that can be granted now."""
        around = (file_id, *parents)
        for one in around:
            if _others_for_leases(self._awaited, session, one) or _others_for_leases(
                self._changing, session, one
            ):
                return LeaseKind.NONE
        related = [*around, *self._entries.get(file_id, ())]
        most = LeaseKind.WRITE
        for one in related:
            for other, lease in self._by_file.get(one, {}).items():
                if other != session:
                    most = min(most, LeaseKind.NONE if lease.kind == LeaseKind.WRITE else
                               LeaseKind.READ)  # fmt: skip
        return most

    def give_back(self, session: Session, file_id: int, seq: int, keep: LeaseKind) -> None:
        """The holder keeps no more than ``keep``; one that was granted after ``seq`` stays.

        Where it keeps more than a recall lets, the recall goes on: the two have crossed.
        """
        holder = self._holders.get(session)
        lease = holder.held.get(file_id) if holder is not None else None
        if holder is None or lease is None or lease.seq > seq:
            return
        self._lower(session, holder, file_id, keep)

    def give_all_back(self, session: Session) -> None:
        """The holder keeps no lease."""
        holder = self._holders.get(session)
        if holder is not None:
            for file_id in list(holder.held):
                self._remove(session, holder, file_id)

    def withdraw(self, file_id: int) -> None:
        """Break every lease on a file, whoever holds it."""
        for session in list(self._by_file.get(file_id, ())):
            self._break(session, self._holders[session], file_id)

    def release(self, session: Session, grant: Grant, file_id: int) -> None:
        """Take a grant back that its session has not been told of."""
        self.give_back(session, file_id, grant.seq, LeaseKind.NONE)

    def move(self, file_id: int, parent: int) -> None:
        """A leased file is an entry of another directory now."""
        for lease in self._by_file.get(file_id, {}).values():
            if lease.parents:
                self._unindex(file_id, lease)
                lease.parents = frozenset([parent])
                self._entries.setdefault(parent, Counter())[file_id] += 1

    def held(self, session: Session, file_id: int, now: float) -> LeaseKind:
        """What the session may count on, as the server sees it."""
        holder = self._holders.get(session)
        lease = holder.held.get(file_id) if holder is not None else None
        if holder is None or lease is None or now >= holder.heard_at + SERVER_LEASE_S:
            return LeaseKind.NONE
        return lease.kind

    def take_notices(self) -> list[Notice]:
        """What has to be sent now, in order."""
        notices, self._notices = self._notices, []
        return notices

    @property
    def count(self) -> int:
        """How many leases there are."""
        return self._count

    # ---- inside

    def _break(self, session: Session, holder: _Holder, file_id: int) -> None:
        seq = holder.held[file_id].seq
        self._notices.append(Notice(session, file_id, seq, LeaseKind.NONE, broken=True))
        self._remove(session, holder, file_id)

    def _lower(self, session: Session, holder: _Holder, file_id: int, keep: LeaseKind) -> None:
        lease = holder.held[file_id]
        if keep == LeaseKind.NONE:
            self._remove(session, holder, file_id)
            return
        if lease.kind == LeaseKind.WRITE and keep == LeaseKind.READ:
            self._writers[session] -= 1
            if not self._writers[session]:
                del self._writers[session]
            lease.kind = LeaseKind.READ
        if lease.keep is not None and keep <= lease.keep:
            lease.keep = None

    def _remove(self, session: Session, holder: _Holder, file_id: int) -> None:
        lease = holder.held.pop(file_id)
        leases = self._by_file[file_id]
        del leases[session]
        if not leases:
            del self._by_file[file_id]
        self._unindex(file_id, lease)
        self._count -= 1
        if lease.kind == LeaseKind.WRITE:
            self._writers[session] -= 1
            if not self._writers[session]:
                del self._writers[session]

    def _unindex(self, file_id: int, lease: Lease) -> None:
        for directory in lease.parents:
            entries = self._entries[directory]
            entries[file_id] -= 1
            if not entries[file_id]:
                del entries[file_id]
            if not entries:
                del self._entries[directory]


def _count_up_for_leases(
    counts: dict[int, Counter[Session]], session: Session, file_ids: Iterable[int]
) -> None:
    for file_id in file_ids:
        counts.setdefault(file_id, Counter())[session] += 1


def _count_down_for_leases(
    counts: dict[int, Counter[Session]], session: Session, file_ids: Iterable[int]
) -> None:
    for file_id in file_ids:
        sessions = counts[file_id]
        sessions[session] -= 1
        if not sessions[session]:
            del sessions[session]
        if not sessions:
            del counts[file_id]


def _others_for_leases(counts: dict[int, Counter[Session]], session: Session, file_id: int) -> bool:
    sessions = counts.get(file_id)
    return sessions is not None and len(sessions) > (session in sessions)
