"""How many instances a person may have, may have running at once, and may start in a minute. Pure.

Each refusal says which limit it is, what to do, and who can change it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.accounts.limits import InstanceLimit
from dit4c_p2p.portal.config import Limits
from dit4c_p2p.portal.errors import Conflict, TooMany

MINUTE_S = 60.0
# These hold, or are about to take, a place on a machine.
HOLDING = frozenset(
    {State.CREATED, State.WAITING_FOR_IMAGE, State.STARTING, State.RUNNING, State.STOPPING}
)
# People whose starts are remembered; of more, the one who started least lately is forgotten.
_MAX_PEOPLE = 10_000
_DISCARD = "discard one that you no longer need, then start again; "
_STOP = "stop or discard one, then start again; "
_WHO = "an admin can change this limit in the portal's settings"


def check_instance_number(states: Iterable[State], limit: InstanceLimit) -> None:
    """Check that one more instance may be made beside those in ``states``.

    :raises Conflict: the person has as many as they may.
    """
    there = sum(1 for _ in states)
    if there >= limit.number:
        raise Conflict(
            f"you have {_counted_instances(there)}, as many as you may have"
            f" ({limit.of} is {limit.number})",
            hint=f"{_DISCARD if there else ''}{limit.change}",
        )


def check_instances_at_once(holding: int, limit: InstanceLimit) -> None:
    """Check that one more may run beside ``holding`` that run or are being started or stopped.

    :raises Conflict: the person has as many as they may.
    """
    if holding >= limit.number:
        raise Conflict(
            f"{_counted_instances(holding)} of yours run or are being started,"
            f" and {limit.number} may at once ({limit.of})",
            hint=f"{_STOP if holding else ''}{limit.change}",
        )


@dataclass
class StartRate:
    """Who has started how many of late. Times in seconds of any one clock."""

    clock: Callable[[], float]
    _starts: dict[str, deque[float]] = field(default_factory=dict)

    def check(self, person: str, limits: Limits) -> None:
        """Count one more start.

        :raises TooMany: there were as many in the last minute as there may be.
        """
        now, limit = self.clock(), limits.starts_per_minute_per_person
        starts = self._starts.pop(person, deque())
        self._starts[person] = starts
        if len(self._starts) > _MAX_PEOPLE:
            del self._starts[next(iter(self._starts))]
        while starts and not 0 <= now - starts[0] < MINUTE_S:
            starts.popleft()
        if len(starts) >= limit:
            wait_s = max(1, round(starts[0] + MINUTE_S - now))
            raise TooMany(
                f"you have started {limit} within a minute, as many as you may",
                hint=f"try again in {wait_s} s; {_WHO}",
            )
        starts.append(now)


def _counted_instances(number: int) -> str:
    return f"{number} instance{'' if number == 1 else 's'}"
