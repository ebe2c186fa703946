"""OAuth login of a browser, without state in the helper.

RFC 6749 section 4.1 with PKCE (RFC 7636) and the issuer in the answer (RFC 9207). Each attempt has
a random secret of its own, in a ``__Host-`` cookie of its own: tabs that a browser opens together
send no cookie yet, and would overwrite a shared one. ``state`` carries the attempt's number, its
time, the secret's hash and where to return to, under a MAC; so it is good for this browser only.
The PKCE verifier is derived from the same. Strangers who open pages can't use up anything.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.auth.cookies import ATTEMPT_COOKIE_PREFIX

LIFETIME_S = 600
# Longer ones come back to the front page, so that state fits any server's limits.
MAX_RETURN_BYTES = 1200
# A browser's attempts under way at one instance; the oldest is given up for one more.
MAX_ATTEMPTS = 32
# An attempt that has lost its cookie or is too old begins again by itself, this often.
MAX_TRIES = 3

_ATTEMPT = struct.Struct("!I8s")  # when it began, in seconds since 1970, and a random number
_HASH_BYTES = 16
_FIXED_BYTES = _ATTEMPT.size + 1 + _HASH_BYTES
_MAC_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_MAX_PARAMETER_CHARS = 2048


class LoginFailed(DitError):
    """The callback does not belong to a login that this browser began."""

    code = "login_failed"


class LoginLost(LoginFailed):
    """The login began here, and can't be finished: its cookie is gone, or it took too long.

    :ivar return_path: where it was to end.
    :ivar tries: how many logins have been lost in a row, this one included.
    """

    code = "login_lost"

    def __init__(self, message: str, *, return_path: bytes, tries: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.return_path = return_path
        self.tries = tries


@dataclass(frozen=True)
class BegunLogin:
    """The URL to send the browser to, and the cookie with the attempt's secret."""

    location: str
    cookie: bytes
    secret: str


@dataclass(frozen=True)
class AnsweredLogin:
    """A checked callback: ``code`` to exchange with ``verifier``, or an ``error`` word.

    ``cookie`` is the name of the attempt's cookie, which has served.
    """

    code: str
    error: str
    verifier: str
    return_path: bytes
    cookie: bytes


class InstanceLogin:
    """Logins of one instance at its portal.

    :param portal_url: the portal's canonical URL, which is also its issuer.
    :param client_id: the instance's name.
    :param redirect_uri: the exact registered URI.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        portal_url: str,
        client_id: str,
        redirect_uri: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._portal_url = portal_url
        self._client_id = client_id
        self.redirect_uri = redirect_uri
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def begin(self, return_path: bytes, *, tries: int = 0) -> BegunLogin:
        """Start a login that ends at ``return_path``, a path of this origin.

        :param tries: how many logins have been lost before this one, see :class:`LoginLost`.
        """
        if len(return_path) > MAX_RETURN_BYTES:
            return_path = b"/"
        secret = secrets.token_urlsafe(32)
        attempt = _ATTEMPT.pack(int(self._clock()), secrets.token_bytes(8))
        body = b"".join((attempt, bytes([tries]), _login_secret_hash(secret), return_path))
        challenge = _encode_login_state(
            hashlib.sha256(self._verifier(body, secret).encode()).digest()
        )
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._client_id,
                "redirect_uri": self.redirect_uri,
                "state": _encode_login_state(body + self._mac(b"state", body)),
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        return BegunLogin(
            f"{self._portal_url}/oauth/authorize?{query}", _login_cookie_name(attempt), secret
        )

    def finish(self, query: str, find: Callable[[bytes], str | None]) -> AnsweredLogin:
        """Check what the portal sent the browser back with.

        :param find: the value of the browser's cookie of a name, or None.
        :raises LoginFailed: no login that began here, or not from our portal.
        :raises LoginLost: a login that has to begin again.
        """
        parameters = _callback_parameters(query)
        if parameters.get("iss") != self._portal_url:
            raise LoginFailed("The answer does not come from the portal")
        try:
            state = _decode_login_state(parameters.get("state", ""))
        except ValueError:
            raise LoginFailed("The login is not one that began here") from None
        body, mac = state[:-_MAC_BYTES], state[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(b"state", body)):
            raise LoginFailed("The login is not one that began here")
        attempt, return_path = body[: _ATTEMPT.size], body[_FIXED_BYTES:]
        tries, expected = body[_ATTEMPT.size], body[_ATTEMPT.size + 1 : _FIXED_BYTES]
        began, _ = _ATTEMPT.unpack(attempt)
        cookie = _login_cookie_name(attempt)
        secret = find(cookie)
        if not 0 <= self._clock() - began + 1 <= LIFETIME_S:
            raise LoginLost("The login took too long", return_path=return_path, tries=tries + 1)
        if (
            secret is None
            or not _SECRET.fullmatch(secret)
            or not hmac.compare_digest(_login_secret_hash(secret), expected)
        ):
            raise LoginLost(
                "This browser did not begin the login, or did not keep its cookie",
                hint="Allow cookies for this address, then open it again.",
                return_path=return_path,
                tries=tries + 1,
            )
        code, error = parameters.get("code", ""), parameters.get("error", "")
        if bool(code) == bool(error):
            raise LoginFailed("The portal's answer is malformed")
        return AnsweredLogin(code, error, self._verifier(body, secret), return_path, cookie)

    def _mac(self, purpose: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, purpose + b"\0" + body, "sha256")

    def _verifier(self, body: bytes, secret: str) -> str:
        """43 characters of base64url (RFC 7636 section 4.1)."""
        return _encode_login_state(self._mac(b"verifier", secret.encode() + b"\0" + body))


def surplus_login_cookies(cookie_names: list[bytes]) -> list[bytes]:
    """Return those of a browser's cookies that have to go for one more attempt: the oldest ones.

    :param cookie_names: all that it sent.
    """
    mine = [name for name in cookie_names if name.startswith(ATTEMPT_COOKIE_PREFIX)]
    return sorted(set(mine), key=_login_began_at)[: max(0, len(set(mine)) + 1 - MAX_ATTEMPTS)]


def _login_cookie_name(attempt: bytes) -> bytes:
    return ATTEMPT_COOKIE_PREFIX + _encode_login_state(attempt).encode()


def _login_began_at(cookie_name: bytes) -> int:
    """When an attempt began; 0 for a name that is none of an attempt."""
    text = cookie_name.removeprefix(ATTEMPT_COOKIE_PREFIX).decode("latin-1")
    try:
        data = _decode_login_state(text, at_least=_ATTEMPT.size)
    except ValueError:
        return 0
    return int(_ATTEMPT.unpack(data[: _ATTEMPT.size])[0])


def _login_secret_hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()[:_HASH_BYTES]


def _callback_parameters(query: str) -> dict[str, str]:
    """Return a query's parameters, each at most once (RFC 6749 section 3.1)."""
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, max_num_fields=20, errors="strict"
        )
    except ValueError:
        raise LoginFailed("The portal's answer is malformed") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs) or any(
        len(v) > _MAX_PARAMETER_CHARS for v in parameters.values()
    ):
        raise LoginFailed("The portal's answer is malformed")
    return parameters


def _encode_login_state(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode_login_state(text: str, *, at_least: int = _FIXED_BYTES + 1 + _MAC_BYTES) -> bytes:
    """Inverse of :func:`_encode_login_state` for a state.

    :raises ValueError: not base64url, or too short.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(data) < at_least:
        raise ValueError("too short")
    return data
