"""Leases as their holder counts on them: a pure state machine (docs/protocol.md, "Leases").

The mount asks for leases on folders alone: a folder's lease covers its names, its own attributes,
and the attributes and contents of its entries that are no folders and have one link. A folder whose
lease was lost begins a new *epoch*; what is known of it counts while its lease is valid and its
epoch is the one in which it was learned.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dit4c_p2p.sftp.extensions import Grant, LeaseKind

# Recalls of leases that are not held are remembered for answers on their way, so many of them.
_MOST_VOIDED = 10_000


@dataclass(slots=True, eq=False)
class HeldLease:
    """A lease that a session was granted.

    :ivar period: of the session, in which it was granted.
    :ivar broken: the server has said that it is gone.
    """

    kind: LeaseKind
    seq: int
    session: "LeaseSession"
    period: int
    broken: bool = False

    @property
    def valid(self) -> bool:
        """Whether it can be counted on now."""
        return not self.broken and self.period == self.session.period and self.session.left_s > 0


class LeaseSession:
    """How long the leases of one session last at their holder.

    :param lease_s: a lease ends so long after the last request that was answered had been sent.
    :param clock: seconds of a clock that goes on while the machine sleeps.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float]) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._ends_at = 0.0
        self._acknowledged_at = clock()
        # Counted up whenever all leases have ended.
        self.period = 0
        # By file id: grants up to this number are void, and when that was said.
        self._voided: dict[int, tuple[int, float]] = {}

    @property
    def left_s(self) -> float:
        """For how long leases last if no further answer comes; not above 0: they have ended."""
        return self._ends_at - self._clock()

    @property
    def acknowledged_at(self) -> float:
        """When the last request was sent that was answered; of this session's clock."""
        return self._acknowledged_at

    def acknowledged(self, sent_at: float) -> None:
        """A request that was sent at ``sent_at`` has been answered."""
        if sent_at >= self._ends_at:
            self.period += 1  # the server may have ended them in between
        self._ends_at = max(self._ends_at, sent_at + self._lease_s)
        self._acknowledged_at = max(self._acknowledged_at, sent_at)

    def end(self) -> None:
        """The session is over, and its leases with it."""
        self._ends_at = 0.0
        self.period += 1

    def granted(self, file_id: int, grant: Grant) -> HeldLease | None:
        """The lease of an answer; None if there is none, or it has been recalled meanwhile."""
        if grant.kind == LeaseKind.NONE or self.is_void(file_id, grant.seq):
            return None
        return HeldLease(LeaseKind(grant.kind), grant.seq, self, self.period)

    def is_void(self, file_id: int, seq: int) -> bool:
        """Whether a grant has been recalled, maybe since it arrived."""
        return seq <= self._voided.get(file_id, (0, 0.0))[0]

    def recalled(self, file_id: int, seq: int) -> None:
        """The server voids the grants of a file up to ``seq``, those on their way included."""
        before = self._voided.pop(file_id, (0, 0.0))[0]
        self._voided[file_id] = max(seq, before), self._clock()
        if len(self._voided) > _MOST_VOIDED:
            # An answer on its way may be older than what is forgotten here: nothing counts then.
            self._voided.pop(next(iter(self._voided)))
            self.period += 1
