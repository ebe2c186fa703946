"""Time of the last use of sessions and tokens, and of a person's last visit.

A failure to store it never fails a request, so that reading works while the database is read-only.
"""

import asyncio
import logging
from collections.abc import Callable

from dit4c_p2p.database import FAILURES
from dit4c_p2p.portal.models import ApiToken, Person, Session

_log = logging.getLogger(__name__)

# How exact "last used" is, so that reading pages does not write each time.
_STEP_S = 60
# A locked database lets each writer wait for seconds: one finds out, and the others go on.
_AGAIN_S = 60


class LastUsed:
    """Writes the notes, or leaves them out for a while.

    :param clock: the time in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._failed_at: float | None = None

    async def note(self, used: Session | ApiToken) -> None:
        """Store the use, unless it was stored a moment ago or the database can't be written."""
        now = self._clock()
        if used.used_at is not None and now - used.used_at <= _STEP_S:
            return
        async with self._one_at_a_time:
            if self._failed_at is not None and 0 <= self._clock() - self._failed_at < _AGAIN_S:
                return
            try:
                await type(used).filter(digest=used.digest).update(used_at=now)
                await Person.filter(id=used.person_id).update(seen_at=now)
                self._failed_at = None
            except (OSError, *FAILURES) as error:
                self._failed_at = self._clock()
                _log.warning("what is used is not written down for %s s: %s", _AGAIN_S, error)
