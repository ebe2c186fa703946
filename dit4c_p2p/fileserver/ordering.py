"""Which requests of a session may run at once: plain objects, without I/O.

Each request makes claims. Two requests with conflicting claims run in the order in which they came;
all others may run at the same time (draft-ietf-secsh-filexfer-02 section 6.1: operations on one
file have to appear as if they were done in order).
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

END = 1 << 64


class Claim(NamedTuple):
    """A request uses a range of something.

    :ivar shared: others that share it may run at the same time.
    """

    key: Hashable
    shared: bool
    start: int = 0
    end: int = END


@dataclass(eq=False, slots=True)
class Request:
    """A request on its way.

    :ivar waits: how many requests it waits for; it may run at 0.
    """

    request_id: int
    content: Any
    claims: tuple[Claim, ...]
    size: int
    waits: int = 0
    followers: "list[tuple[Hashable, Request]]" = field(default_factory=list)


class _Users:
    """Who claims one thing."""

    __slots__ = ("exclusive", "shared")

    def __init__(self) -> None:
        self.shared: dict[Request, Claim] = {}
        self.exclusive: dict[Request, Claim] = {}


class Ordering:
    """The claims of all requests of one session that are not done."""

    def __init__(self) -> None:
        self._users: dict[Hashable, _Users] = {}

    def free(self, claim: Claim) -> bool:
        """Whether a request with this one claim could run now, and be done at once."""
        users = self._users.get(claim.key)
        if users is None:
            return True
        others = [users.exclusive] if claim.shared else [users.exclusive, users.shared]
        return not any(
            other.start < claim.end and claim.start < other.end
            for claims in others
            for other in claims.values()
        )

    def add(self, request: Request) -> bool:
        """Take a request in; returns whether it may run now."""
        for claim in request.claims:
            users = self._users.get(claim.key)
            if users is None:
                users = self._users[claim.key] = _Users()
            self._wait_for(request, claim, users.exclusive)
            if claim.shared:
                users.shared[request] = claim
            else:
                self._wait_for(request, claim, users.shared)
                users.exclusive[request] = claim
        return request.waits == 0

    def _wait_for(self, request: Request, claim: Claim, users: dict[Request, Claim]) -> None:
        for other, its in users.items():
            if its.start < claim.end and claim.start < its.end and other is not request:
                other.followers.append((claim.key, request))
                request.waits += 1

    def done(self, request: Request) -> list[Request]:
        """A request is done; returns those that may run now."""
        for claim in request.claims:
            self._drop(request, claim.key)
        followers, request.followers = request.followers, []
        return _released_for_ordering(followers)

    def give_up(self, request: Request, key: Hashable) -> list[Request]:
        """Have nobody wait any more for the claim of one thing; returns those that may run now."""
        self._drop(request, key)
        released = [one for one in request.followers if one[0] == key]
        request.followers = [one for one in request.followers if one[0] != key]
        return _released_for_ordering(released)

    def _drop(self, request: Request, key: Hashable) -> None:
        users = self._users.get(key)
        if users is None:
            return
        users.shared.pop(request, None)
        users.exclusive.pop(request, None)
        if not users.shared and not users.exclusive:
            del self._users[key]


def _released_for_ordering(followers: list[tuple[Hashable, Request]]) -> list[Request]:
    ready = []
    for _, follower in followers:
        follower.waits -= 1
        if follower.waits == 0:
            ready.append(follower)
    return ready
