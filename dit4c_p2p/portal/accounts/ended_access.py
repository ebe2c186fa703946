"""People whose access to instances was taken away, for the routers to pass on.

What stands in the database counts, whoever wrote it there: access tokens that are revoked before
their time. A log-out, log-out everywhere and an admin who disables an account revoke them; those of
an account whose end date has come are revoked here.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from tortoise.exceptions import OperationalError

from dit4c_p2p.database import in_transaction
from dit4c_p2p.messages.registry import EndedAccess
from dit4c_p2p.portal.models import OAuthToken, Person

_log = logging.getLogger(__name__)

# An end date is acted on so late at the most, and a change that nobody told of.
_LOOK_S = 1.0
# A transaction is committed so long after the time that it writes at the most.
_COMMIT_S = 15.0
_MAX_TOLD = 10_000

Tell = Callable[[list[EndedAccess]], None]


class AccessEnds:
    """Finds out whose access has ended, and tells it once; :meth:`run` has to run beside it.

    :param tell: called with what is new.
    :param clock: seconds since 1970.
    """

    def __init__(self, tell: Tell, *, clock: Callable[[], float] = time.time) -> None:
        self._tell = tell
        self._clock = clock
        self._wake = asyncio.Event()
        self._since = clock()
        self._told: dict[tuple[str, str], float] = {}
        self._well = True

    def look(self) -> None:
        """Look now: somebody's access may have ended."""
        self._wake.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.look_once()
            except (OSError, OperationalError) as error:
                if self._well:
                    _log.warning("whose access has ended can't be read: %s", error)
                self._well = False
            else:
                self._well = True

    async def look_once(self) -> None:
        """Act on end dates that have come, and tell what is new."""
        now = self._clock()
        await self._end_accounts(now)
        new = []
        for one in await self._ended(self._since - _COMMIT_S, now):
            key = one.instance, one.person
            if self._told.get(key, 0.0) < one.at:
                self._told.pop(key, None)
                self._told[key] = one.at
                new.append(one)
        self._since = now
        while len(self._told) > _MAX_TOLD:
            del self._told[next(iter(self._told))]
        if new:
            self._tell(new)

    async def standing(self) -> list[EndedAccess]:
        """All that counts still: no session that began before has ended by itself since."""
        return await self._ended(0.0, self._clock())

    async def _ended(self, since: float, now: float) -> list[EndedAccess]:
        rows = await OAuthToken.filter(revoked_at__gt=since, expires_at__gt=now).values_list(
            "instance", "person_id", "revoked_at"
        )
        return _newest_ended_access(EndedAccess(*row) for row in rows)

    async def _end_accounts(self, now: float) -> None:
        """Revoke the tokens of accounts whose end date has come."""
        over = await Person.filter(ends_at__lte=now).values_list("id", flat=True)
        mine = OAuthToken.filter(
            person_id__in=list(over), revoked_at__isnull=True, expires_at__gt=now
        )
        if over and await mine.exists():
            async with in_transaction("portal"):
                await mine.update(revoked_at=now)


def _newest_ended_access(ended: Iterable[EndedAccess]) -> list[EndedAccess]:
    """One for each instance and person."""
    found: dict[tuple[str, str], EndedAccess] = {}
    for one in ended:
        before = found.get((one.instance, one.person))
        if before is None or before.at < one.at:
            found[one.instance, one.person] = one
    return list(found.values())
