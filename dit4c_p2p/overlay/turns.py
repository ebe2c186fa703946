"""When those whom a server has no room for yet are to come back: one after the other, as fast as it
gets logins done. A thousand who lost it at once then knock twice each, and not again and again.

The server says so as SSH has it, in a disconnect of the reason "too many connections" (RFC 4253
section 11.1), before anything is encrypted: a hint, which the other end takes as no more than that.
"""

import random
import re

# Before anything was measured.
_FIRST_PACE_S = 0.01
# Logins further apart than this say nothing of how fast they could be.
_BUSY_WITHIN_S = 1.0
_WEIGHT = 0.05
# A little slower than logins are got through, so that there is room when somebody's turn comes.
_SLACK = 1.15
# Nobody is sent away for longer; who comes when the line is that long comes at some time in it.
LONGEST_S = 10.0

_TEXT = "too many connections before login; come back in {:.2f} s"
_SECONDS = re.compile(r"come back in ([0-9]{1,4}(?:\.[0-9]{1,3})?) s$")


class Turns:
    """The line of one server. Times are of any clock that goes on evenly, in seconds."""

    def __init__(self) -> None:
        self._pace_s = _FIRST_PACE_S
        self._last_login = float("-inf")
        self._next = float("-inf")

    def logged_in(self, now: float) -> None:
        """Somebody has got through."""
        since_s = now - self._last_login
        self._last_login = now
        if since_s < _BUSY_WITHIN_S:
            self._pace_s += _WEIGHT * (since_s - self._pace_s)

    def give(self, now: float) -> float:
        """In how many seconds one more may come back."""
        following = max(self._next, now) + self._pace_s * _SLACK
        if following - now > LONGEST_S:
            return random.uniform(LONGEST_S / 2, LONGEST_S)
        self._next = following
        return following - now


def encode(seconds: float) -> str:
    """The reason of a disconnect."""
    return _TEXT.format(seconds)


def decode(reason: str) -> float | None:
    """The seconds in a reason; None: it says none, or too many to be believed."""
    found = _SECONDS.search(reason)
    seconds = float(found[1]) if found else None
    return seconds if seconds is None or seconds <= LONGEST_S else None
