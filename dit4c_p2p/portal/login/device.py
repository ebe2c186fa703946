"""Letting a program in by a code that its person confirms in a browser (RFC 8628).

The program gets what a person may do with their own instances, and nothing that only admins may:
who is talked into confirming a stranger's code gives away no more than that.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from dit4c_p2p.database import in_transaction, once_committed
from dit4c_p2p.portal.accounts import api_tokens
from dit4c_p2p.portal.accounts.api_tokens import USER_SCOPES, Scope
from dit4c_p2p.portal.accounts.names import checked_name
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import BadRequest, NotFound, PortalError, TooMany
from dit4c_p2p.portal.models import DeviceCode
from dit4c_p2p.portal.opaque_tokens import digest, new_token, public_id
from dit4c_p2p.portal.services import accounts

_log = logging.getLogger(__name__)

CLIENT_ID = "dit4c-cli"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
DEVICE_PATH = "/device"
LIFETIME_S = 600.0
INTERVAL_S = 5
TOKEN_DAYS = 90
# Without vowels, so that no words come out: 25 thousand million codes.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_HALF = 4
_MAX_PENDING = 2000
_MAX_PENDING_PER_ADDRESS = 20
# Of one person: whoever guesses codes finds one in a thousand years.
_MAX_WRONG = 10
_MAX_NAME_CHARS = 60


class DeviceRefused(PortalError):
    """A program is not let in, or not yet; ``error`` is RFC 8628's word."""

    code = "device"
    status = 400
    title = "Not let in"

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True)
class OfferedDeviceCode:
    """What a program is told to begin with."""

    device_code: str
    user_code: str


class DeviceCodes:
    """The programs that wait for their person."""

    def __init__(self, audit: Audit, *, clock: Callable[[], float]) -> None:
        self._audit = audit
        self._clock = clock
        # When a person's count of wrong codes began, and the count.
        self._wrong: dict[str, tuple[float, int]] = {}

    # ---- by a program

    async def begin(self, name: str, scopes: frozenset[str], *, origin: str) -> OfferedDeviceCode:
        """A code for a program that wants to be let in.

        :param name: what it calls itself, such as ``dit4c on laptop``.
        :param scopes: what it wants to do; empty for what is usual.
        :param origin: the address that it asks from.
        :raises DeviceRefused: not a name, or more than a program is given in this way.
        :raises TooMany: too many wait already.
        """
        try:
            name = checked_name(name[:_MAX_NAME_CHARS], required=True)
        except BadRequest as error:
            raise DeviceRefused("invalid_request", str(error)) from None
        wanted = scopes or USER_SCOPES
        if not wanted <= USER_SCOPES:
            raise DeviceRefused(
                "invalid_scope",
                f"a program gets {' and '.join(sorted(USER_SCOPES))} in this way; make other "
                "tokens on the account page",
            )
        now, device_code, user_code = self._clock(), new_token(), _new_user_code()
        async with in_transaction("portal"):
            await DeviceCode.filter(expires_at__lte=now).delete()
            pending = DeviceCode.all()
            here = await pending.filter(origin=origin).count()
            if here >= _MAX_PENDING_PER_ADDRESS or await pending.count() >= _MAX_PENDING:
                raise TooMany("too many programs wait to be let in", hint="try again in 10 minutes")
            await DeviceCode.create(
                digest=digest(device_code),
                user_code=digest(user_code),
                name=name,
                origin=origin,
                scopes=" ".join(sorted(wanted)),
                created_at=now,
                expires_at=now + LIFETIME_S,
            )
        return OfferedDeviceCode(device_code, user_code)

    async def poll(self, device_code: str) -> tuple[str, list[Scope]]:
        """The token of a program that was let in, this one time, and what it may do.

        :raises DeviceRefused: not yet, asked too often, or never.
        """
        now = self._clock()
        async with in_transaction("portal"):
            found = await DeviceCode.get_or_none(digest=digest(device_code))
            if found is None or found.expires_at <= now:
                refused = DeviceRefused("expired_token", "the code is over; log in again")
            elif found.decided == "denied":
                await found.delete()
                refused = DeviceRefused("access_denied", "it was refused in the browser")
            elif found.decided == "approved":
                return await self._token(found, now)
            else:
                early = found.polled_at is not None and now - found.polled_at < INTERVAL_S - 1
                await DeviceCode.filter(digest=found.digest).update(polled_at=now)
                refused = (
                    DeviceRefused("slow_down", f"ask every {INTERVAL_S} seconds")
                    if early
                    else DeviceRefused("authorization_pending", "nobody has let it in yet")
                )
        raise refused

    async def _token(self, found: DeviceCode, now: float) -> tuple[str, list[Scope]]:
        person = str(found.person_id)
        taken = {token.label for token in await api_tokens.tokens_of_person(person)}
        made, text = await accounts.create_api_token(
            self._audit,
            person,
            label=_free_token_label(found.name, taken),
            scopes=frozenset(found.scopes.split()),
            days=TOKEN_DAYS,
            now=now,
            who=person,
            how=", by a device code",
        )
        await found.delete()
        return text, api_tokens.scopes_of_token(made)

    # ---- by a person

    async def find(self, user_code: str, *, person: str) -> DeviceCode:
        """The program that a code is of, while it waits.

        :raises NotFound: none.
        :raises TooMany: the person has typed too many wrong ones.
        """
        now = self._clock()
        began, wrong = self._wrong.get(person, (now, 0))
        if now - began >= LIFETIME_S:
            began, wrong = now, 0
        if wrong >= _MAX_WRONG:
            raise TooMany("too many codes were wrong", hint="try again in 10 minutes")
        found = await DeviceCode.get_or_none(
            user_code=digest(clean_user_code(user_code)), expires_at__gt=now, decided=""
        )
        if found is None:
            self._wrong[person] = (began, wrong + 1)
            raise NotFound(
                "no program waits with this code",
                hint="it may be over: start again in the terminal",
            )
        return found

    async def decide(self, user_code: str, *, person: str, approved: bool) -> DeviceCode:
        """Let a program in, or refuse it.

        :raises NotFound, TooMany: see :meth:`find`.
        """
        async with in_transaction("portal"):
            found = await self.find(user_code, person=person)
            found.decided = "approved" if approved else "denied"
            found.person_id = person
            await found.save(update_fields=["decided", "person_id"])
            outcome = "let in" if approved else "refused"
            about = f"device:{public_id(found.digest)} {outcome}, from {found.origin}"
            await self._audit.record_required("device.decide", about=about)
            once_committed(_log.info, "a program of %s: %s", person, outcome)
        self._wrong.pop(person, None)
        return found

    async def remove_expired(self) -> None:
        """Forget programs that nobody has let in in time."""
        now = self._clock()
        await DeviceCode.filter(expires_at__lt=now).delete()
        self._wrong = {
            person: (began, wrong)
            for person, (began, wrong) in self._wrong.items()
            if now - began < LIFETIME_S
        }


def clean_user_code(typed: str) -> str:
    """A code as it is kept, of what somebody has typed: ``bcdf ghjk`` is ``BCDF-GHJK``."""
    letters = "".join(char for char in typed.upper()[:40] if char in _LETTERS)
    return f"{letters[:_HALF]}-{letters[_HALF:]}"


def _new_user_code() -> str:
    return clean_user_code("".join(secrets.choice(_LETTERS) for _ in range(2 * _HALF)))


def _free_token_label(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free = f"{name} {number}"
        number += 1
    return free
