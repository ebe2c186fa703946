"""Who is logged in, kept here in memory; the browser has only a random value.

A session lives for 12 h at most, ends with its access token, and is asked about at the portal at
least every 60 s while it is used. What it has open is cut when it ends. A portal that does not
answer ends nothing.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

logger = logging.getLogger(__name__)

MAX_LIFETIME_S = 12 * 3600
MAX_SESSIONS = 1000
# A request waits for the portal if its session was not asked about for this long …
RECHECK_LIMIT_S = 60.0
# … which is rare, as sessions in use are asked about in the background before that.
RECHECK_AFTER_S = 40.0
SWEEP_EVERY_S = 5.0
# After the portal did not answer, nobody waits for it again for so long.
RETRY_AFTER_S = 10.0
# At once; a thousand sessions are through well within the limit.
_RECHECKS_AT_ONCE = 8


class Open(Protocol):
    """Something that lives on a session, such as a WebSocket."""

    def cut(self) -> None:
        """End it at once."""


@dataclass(eq=False)
class Session:
    """One login of one person; times on the clock of :class:`Sessions`."""

    id: bytes  # SHA-256 of the cookie's value
    person: str
    access_token: str = field(repr=False)
    expires: float
    checked: float
    used: float
    ended: bool = False
    open: set[Open] = field(default_factory=set)


class Sessions:
    """The sessions of this instance.

    :param is_active: asks the portal about an access token: True, False, or None if it can't tell.
    :param clock: seconds, never going back.
    """

    def __init__(
        self,
        is_active: Callable[[str], Awaitable[bool | None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_active = is_active
        self._clock = clock
        self._by_id: dict[bytes, Session] = {}
        self._checking: dict[bytes, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(_RECHECKS_AT_ONCE)
        self._silent_until = float("-inf")

    def __len__(self) -> int:
        return len(self._by_id)

    def start(self, person: str, access_token: str, expires_in_s: float) -> tuple[str, int]:
        """Begin a session; the cookie's value and its lifetime in seconds.

        Over the cap, the one that was not used for longest ends.
        """
        while len(self._by_id) >= MAX_SESSIONS:
            self.end(min(self._by_id.values(), key=lambda one: one.used), "too many sessions")
        value = secrets.token_urlsafe(32)
        lifetime_s = min(float(MAX_LIFETIME_S), expires_in_s)
        now = self._clock()
        session = Session(_id(value), person, access_token, now + lifetime_s, now, now)
        self._by_id[session.id] = session
        logger.info("session of %s began", person)
        return value, int(lifetime_s)

    def find(self, value: str | None) -> Session | None:
        """The live session of a cookie's value, marked as used; None if there is none."""
        if value is None or not 1 <= len(value) <= 128:
            return None
        session = self._by_id.get(_id(value))
        if session is None:
            return None
        now = self._clock()
        if now >= session.expires:
            self.end(session, "its time was over")
            return None
        session.used = now
        return session

    def use(self, session: Session) -> bool:
        """Mark one that was found before as used again; False if it has to be found anew."""
        now = self._clock()
        if session.ended or now >= session.expires or now - session.checked >= RECHECK_LIMIT_S:
            return False
        session.used = now
        return True

    def is_fresh(self, session: Session) -> bool:
        """Whether :meth:`confirm` would return at once."""
        return not session.ended and self._clock() - session.checked < RECHECK_LIMIT_S

    async def confirm(self, session: Session) -> bool:
        """Ask the portal about it if that is due; whether it goes on."""
        if not self.is_fresh(session):
            await self._recheck(session)
        return not session.ended

    def end(self, session: Session, why: str) -> None:
        """End it and cut what it has open."""
        if session.ended:
            return
        session.ended = True
        self._by_id.pop(session.id, None)
        logger.info("session of %s ended: %s", session.person, why)
        for one in list(session.open):
            one.cut()

    def end_all_of(self, person: str, why: str) -> None:
        """End every session of a person."""
        for session in [one for one in self._by_id.values() if one.person == person]:
            self.end(session, why)

    async def run(self) -> None:
        """Look after the sessions for ever."""
        try:
            while True:
                await asyncio.sleep(SWEEP_EVERY_S)
                await self.sweep()
        finally:
            for task in list(self._checking.values()):
                task.cancel()
            await asyncio.gather(*self._checking.values(), return_exceptions=True)

    async def sweep(self) -> None:
        """One round: end what is over, ask the portal about those in use."""
        now = self._clock()
        due = []
        for session in list(self._by_id.values()):
            if now >= session.expires:
                self.end(session, "its time was over")
            elif now - session.checked >= RECHECK_AFTER_S and (
                session.open or session.used > session.checked
            ):
                due.append(session)
        await asyncio.gather(*(self._recheck(session) for session in due))

    async def _recheck(self, session: Session) -> None:
        """Ask about one session; those who ask meanwhile wait for the same answer."""
        task = self._checking.get(session.id)
        if task is None:
            task = asyncio.create_task(self._ask(session), name="recheck session")
            self._checking[session.id] = task
            task.add_done_callback(lambda _: self._checking.pop(session.id, None))
        await asyncio.shield(task)

    async def _ask(self, session: Session) -> None:
        async with self._at_once:
            if self._clock() < self._silent_until:
                active = None
            else:
                active = await self._is_active(session.access_token)
        now = self._clock()
        if active is None:  # not told is not denied
            if now >= self._silent_until:
                self._silent_until = now + RETRY_AFTER_S
            session.checked = now - RECHECK_AFTER_S + RETRY_AFTER_S
        elif active:
            session.checked = now
        else:
            self.end(session, "the portal says that it is over")


def _id(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
