"""Attempts to log in that a browser has begun and has to finish itself, once and in time.

What the portal has to remember of an attempt (a challenge, a state, a nonce) is sealed into a
cookie of that browser: encrypted and authenticated, so that nobody else can finish the attempt, and
strangers who begin attempts cost no memory. A finished attempt is written down as used.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncssh
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import UsedToken
from dit4c_p2p.portal.opaque_tokens import digest

# From the button to the answer: an authenticator asks at most for two minutes, and at a provider
# somebody may have to find their telephone first.
ATTEMPT_S = 600
# Fernet takes tokens from the future of up to a minute, for clocks that differ.
_SKEW_S = 60


class AttemptOver(BadRequest):
    """The attempt was not begun in this browser, has taken too long, or was finished before."""

    code = "attempt_over"

    def __init__(self, message: str = "the login took too long, or was begun elsewhere") -> None:
        super().__init__(message, hint="start again from the login page, in this browser")


@dataclass(frozen=True)
class LoginAttempt:
    """One attempt as its browser has brought it back; ``data`` is what was sealed."""

    data: Mapping[str, str]
    used: str


class LoginAttempts:
    """Seals attempts and opens them again.

    :param key: the portal's private key, which the sealing key is derived from.
    :param clock: the time in seconds since 1970.
    """

    def __init__(self, key: asyncssh.SSHKey, clock: Callable[[], float]) -> None:
        secret = HKDF(SHA256(), 32, salt=None, info=b"dit4c login attempts").derive(
            key.export_private_key("pkcs8-der")
        )
        self._seal = Fernet(urlsafe_b64encode(secret))
        self._clock = clock

    def begin(self, purpose: str, **data: str) -> str:
        """A new attempt, as the text of its cookie.

        :param purpose: what the attempt is good for, and for nothing else.
        """
        content = json.dumps({"purpose": purpose, "data": data}).encode()
        return self._seal.encrypt_at_time(content, int(self._clock())).decode()

    def opened(self, purpose: str, sealed: str) -> LoginAttempt:
        """The attempt of a cookie; its end stands open still, see :meth:`finish`.

        :raises AttemptOver: not one of this portal's, of another purpose, or too old.
        """
        try:
            content = self._seal.decrypt_at_time(sealed, ATTEMPT_S, int(self._clock()))
        except (InvalidToken, ValueError):
            raise AttemptOver from None
        attempt = json.loads(content)
        if attempt["purpose"] != purpose:
            raise AttemptOver
        return LoginAttempt(attempt["data"], digest("login attempt", sealed))

    async def finish(self, attempt: LoginAttempt) -> None:
        """Mark an attempt as used, in the transaction that acts on it.

        :raises AttemptOver: it was finished before.
        """
        if await UsedToken.exists(digest=attempt.used):
            raise AttemptOver("this login was finished already")
        expires_at = self._clock() + ATTEMPT_S + _SKEW_S
        await UsedToken.create(digest=attempt.used, expires_at=expires_at)
