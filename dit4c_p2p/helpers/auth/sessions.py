"""Sessions of an instance, in memory; the browser has a random value only.

A session lives for 12 h at most and ends with its access token. It ends at once when the portal
says so, which is asked in the background: soon after it began, every 40 s while it is used, and
whenever a router brings the news that something of its person's access was taken away. From that
news on the session is *doubted*: nothing passes, and what it has open is cut after 3 s, until the
portal has said that it goes on. Without such news a portal that does not answer ends nothing.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from collections import OrderedDict
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
# What a doubted session has open is cut after this (security.md: 5 s after a log-out), and nobody
# waits longer for the portal.
DOUBT_LIMIT_S = 3.0
# Until the portal has said what becomes of it, it is asked again after this.
_DOUBT_RETRY_S = 1.0
# A session that begins so soon after news of its person may have been granted before it.
_NEWS_LASTS_S = 60.0
_MAX_NEWS = 1000
# At once; a thousand sessions are through well within the limit.
_RECHECKS_AT_ONCE = 8


class OpenStream(Protocol):
    """An open stream of a session, such as a WebSocket."""

    def cut(self) -> None:
        """End the stream at once."""


@dataclass(eq=False)
class AppSession:
    """One login of one person; times on the clock of :class:`AppSessions`."""

    id: bytes  # SHA-256 of the cookie's value
    person: str
    access_token: str = field(repr=False)
    expires: float
    checked: float
    used: float
    ended: bool = False
    is_new: bool = True  # not asked about yet
    doubts: int = 0  # how often news has come; the portal's word counts if none came meanwhile
    doubted: bool = False
    open: set[OpenStream] = field(default_factory=set)


class AppSessions:
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
        self._by_id: dict[bytes, AppSession] = {}
        self._checking: dict[bytes, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(_RECHECKS_AT_ONCE)
        self._silent_until = float("-inf")
        # By person: the newest news there was, and when it came on our own clock.
        self._news: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._settling: set[asyncio.Task[None]] = set()

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
        session = AppSession(_session_id(value), person, access_token, now + lifetime_s, now, now)
        self._by_id[session.id] = session
        logger.info("session of %s began", person)
        if person in self._news and now - self._news[person][1] < _NEWS_LASTS_S:
            self._doubt(session)
        return value, int(lifetime_s)

    def find(self, value: str | None) -> AppSession | None:
        """The live session of a cookie's value, marked as used; None if there is none."""
        if value is None or not 1 <= len(value) <= 128:
            return None
        session = self._by_id.get(_session_id(value))
        if session is None:
            return None
        now = self._clock()
        if now >= session.expires:
            self.end(session, "its time was over")
            return None
        session.used = now
        return session

    def use(self, session: AppSession) -> bool:
        """Mark one that was found before as used again; False if it has to be found anew."""
        now = self._clock()
        if (
            session.ended
            or session.doubted
            or now >= session.expires
            or now - session.checked >= RECHECK_LIMIT_S
        ):
            return False
        session.used = now
        return True

    def is_fresh(self, session: AppSession) -> bool:
        """Whether :meth:`confirm` would return at once."""
        return (
            not session.ended
            and not session.doubted
            and self._clock() - session.checked < RECHECK_LIMIT_S
        )

    async def confirm(self, session: AppSession) -> bool:
        """Ask the portal about it if that is due; whether something of it may pass.

        It is over if it has ``ended``. Otherwise False means that it is doubted, and the portal has
        not answered in time.
        """
        if not self.is_fresh(session):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DOUBT_LIMIT_S):
                    await self._recheck(session)
        return not session.ended and not session.doubted

    def doubt(self, person: str, at: float) -> None:
        """News: something of a person's access was taken away.

        :param at: the news' own time, in seconds since 1970; what is not newer was known before.
        """
        if at <= self._news.get(person, (float("-inf"), 0.0))[0]:
            return
        self._news[person] = (at, self._clock())
        self._news.move_to_end(person)
        while len(self._news) > _MAX_NEWS:
            self._news.popitem(last=False)
        for session in [one for one in self._by_id.values() if one.person == person]:
            self._doubt(session)

    def end(self, session: AppSession, why: str) -> None:
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
        """Maintain the sessions until cancelled."""
        try:
            while True:
                await asyncio.sleep(SWEEP_EVERY_S)
                await self.sweep()
        finally:
            tasks = [*self._checking.values(), *self._settling]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self) -> None:
        """One round: end what is over, ask the portal about those in use."""
        now = self._clock()
        due = []
        for session in list(self._by_id.values()):
            if now >= session.expires:
                self.end(session, "its time was over")
            elif session.is_new or (
                now - session.checked >= RECHECK_AFTER_S
                and (session.open or session.used > session.checked)
            ):
                due.append(session)
        await asyncio.gather(*(self._recheck(session) for session in due))

    async def _recheck(self, session: AppSession) -> None:
        """Ask about one session; those who ask meanwhile wait for the same answer."""
        task = self._checking.get(session.id)
        if task is None:
            task = asyncio.create_task(self._ask(session), name="recheck session")
            self._checking[session.id] = task
            task.add_done_callback(lambda _: self._checking.pop(session.id, None))
        await asyncio.shield(task)

    async def _ask(self, session: AppSession) -> None:
        async with self._at_once:
            doubts = session.doubts
            if not session.doubted and self._clock() < self._silent_until:
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
            session.is_new = False
            if session.doubts == doubts:
                session.doubted = False
        else:
            self.end(session, "the portal says that it is over")

    def _doubt(self, session: AppSession) -> None:
        session.doubts += 1
        if session.doubted:
            return
        session.doubted = True
        task = asyncio.create_task(self._settle(session), name="settle a doubted session")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, session: AppSession) -> None:
        """Ask the portal until it has said what becomes of a session; cut what it has open."""
        timer = asyncio.get_running_loop().call_later(DOUBT_LIMIT_S, self._cut_doubted, session)
        try:
            while session.doubted and not session.ended:
                await self._recheck(session)
                if session.doubted and not session.ended:
                    await asyncio.sleep(_DOUBT_RETRY_S)
        finally:
            timer.cancel()

    def _cut_doubted(self, session: AppSession) -> None:
        if session.doubted and session.open:
            logger.info("cut what %s has open: the portal has not confirmed it", session.person)
            for one in list(session.open):
                one.cut()


def _session_id(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
