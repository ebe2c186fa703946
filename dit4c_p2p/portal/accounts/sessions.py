"""Sessions of logged-in browsers, stored at the server; deleting one ends it everywhere."""

import base64
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.last_used import LastUsed
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.audit import Audit, set_request_identity
from dit4c_p2p.portal.errors import AccountClosed, NotFound, PortalError
from dit4c_p2p.portal.live_updates import LiveUpdates
from dit4c_p2p.portal.login.passkeys import Passkeys
from dit4c_p2p.portal.models import LoginLink, OAuthCode, OAuthToken, Person, Session
from dit4c_p2p.portal.opaque_tokens import digest, new_token, public_id


@dataclass(frozen=True)
class LoggedIn:
    """A session in force. ``csrf`` is in each form; the cookie can't be derived from it.

    ``since`` is when its person logged in.
    """

    digest: str
    who: Caller
    csrf: str
    since: float


class LoginSessions:
    """Begun by a link, a passkey or a provider; ended by logout or by their lifetime."""

    def __init__(
        self,
        hub: LiveUpdates,
        audit: Audit,
        last_used: LastUsed,
        *,
        idle_s: float,
        lifetime_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._audit = audit
        self._last_used = last_used
        self._idle_s = idle_s
        self.lifetime_s = lifetime_s
        self._clock = clock

    async def log_in(self, link_token: str, *, browser: str = "") -> str | None:
        """Spend a login link; the new session's token, or None if the link is not good any more.

        :param browser: what the person will know the session by.
        :raises AccountClosed: the account is not in force.
        :raises NotAudited: it can't be written down; the link stays unspent.
        """
        try:
            token = await self._log_in(link_token, browser)
        except AccountClosed as error:
            await self._audit.record_refusal("login", error)
            raise
        if token is None:
            await self._audit.record_refusal("login", "no such link, or not good any more")
        return token

    async def _log_in(self, link_token: str, browser: str) -> str | None:
        async with in_transaction("portal"):
            person = await people.spend_login_link(link_token, now=self._clock())
            if person is None:
                return None
            return await self.begin(person.id, browser=browser)

    async def log_in_by_passkey(
        self, passkeys: Passkeys, sealed: str, answer: Mapping[str, Any], *, browser: str = ""
    ) -> str:
        """Let in whoever's passkey has answered; returns the new session's token.

        :param sealed: the attempt as its browser has kept it.
        :param answer: what the authenticator says.
        :raises PortalError: see :meth:`Passkeys.finish_login`.
        :raises NotAudited: it can't be written down.
        """
        try:
            async with in_transaction("portal"):
                passkey = await passkeys.finish_login(sealed, answer)
                by = f"passkey:{public_id(passkey.digest)}"
                return await self.begin(passkey.person_id, by=by, browser=browser)
        except PortalError as error:
            await self._audit.record_refusal("login", error)
            raise

    async def begin(self, person: str, *, by: str = "", browser: str = "") -> str:
        """Begin a session in the caller's transaction; returns its token.

        :param by: what has let the person in, for the audit log; empty for a link.
        :param browser: what the person will know the session by.
        :raises NotAudited: it can't be written down; the caller's transaction must not commit.
        """
        token, now = new_token(), self._clock()
        await Session.create(
            digest=digest(token),
            person_id=person,
            created_at=now,
            used_at=now,
            browser=browser,
        )
        await Person.filter(id=person).update(seen_at=now)
        set_request_identity(person, session=digest(token))
        await self._audit.record_required("login", about=f"{person} {by}".rstrip())
        return token

    async def find(self, token: str, *, use: bool = True) -> LoggedIn | None:
        """The session of a cookie, if it is in force; using it keeps it so.

        :param use: False only looks, as an open page does that nobody may be sitting at.
        :raises AccountClosed: it would be, but for the account.
        """
        now = self._clock()
        session = await Session.get_or_none(
            digest=digest(token),
            created_at__gt=now - self.lifetime_s,
            used_at__gt=now - self._idle_s,
        ).prefetch_related("person")
        if session is None:
            return None
        people.check_account_in_force(session.person, now)
        if session.ended_at is not None:
            return None
        if use:
            await self._last_used.note(session)
        return LoggedIn(
            session.digest,
            people.caller_of_person(session.person),
            csrf_token(token),
            session.created_at,
        )

    async def of(self, person: str) -> list[Session]:
        """Return a person's sessions in force, the most recently used first."""
        now = self._clock()
        return await Session.filter(
            person_id=person,
            ended_at=None,
            created_at__gt=now - self.lifetime_s,
            used_at__gt=now - self._idle_s,
        ).order_by("-used_at", "digest")

    async def log_out(self, session: LoggedIn, *, everywhere: bool = False) -> None:
        """End this session or all of the person's, and every instance's session made from them.

        :param everywhere: all of them, and the links that the person has made for other browsers.
        """
        await self._end(session.who.id, None if everywhere else session.digest)

    async def end_one(self, person: str, id: str) -> None:
        """End one of a person's sessions by its :func:`~dit4c_p2p.portal.opaque_tokens.public_id`.

        :raises NotFound: the person has none such.
        """
        for session in await self.of(person):
            if public_id(session.digest) == id:
                await self._end(person, session.digest)
                return
        raise NotFound("there is no such session")

    async def _end(self, person: str, session: str | None) -> None:
        now = self._clock()
        async with in_transaction("portal"):
            if session is None:
                mine = {"person_id": person}
                await Session.filter(person_id=person).delete()
                # A link made in a browser that somebody else has taken would let them in again.
                await LoginLink.filter(person_id=person, made_by=person, spent_at=None).update(
                    spent_at=now
                )
            else:
                mine = {"session": session}
                await Session.filter(digest=session).delete()
            await OAuthCode.filter(**mine).delete()
            await OAuthToken.filter(**mine, revoked_at=None).update(revoked_at=now)
        which = f"session:{public_id(session)}" if session else "all sessions"
        await self._audit.record_best_effort("logout", about=f"{person} {which}")
        self.look_again(person)

    def look_again(self, person: str) -> None:
        """Have a person's live views see whether they may go on; after the commit."""
        self._hub.tell(f"person:{person}", "session")

    async def remove_expired(self) -> None:
        """Forget sessions past their lifetime."""
        now = self._clock()
        await Session.filter(created_at__lt=now - self.lifetime_s).delete()
        await Session.filter(used_at__lt=now - self._idle_s).delete()


def csrf_token(session_token: str) -> str:
    """Return the token that forms of this session carry; the cookie can't be derived from it."""
    mac = hmac.digest(session_token.encode(), b"dit4c csrf", "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
