"""The browser's way through OAuth, without anything kept here.

RFC 6749 section 4.1 with PKCE (RFC 7636) and the issuer in the answer (RFC 9207). The browser holds
a random secret in a ``__Host-`` cookie. ``state`` carries nonce, time and where to return to, under
a MAC over them and that secret, so it is good for this browser only; the PKCE verifier is derived
from the same. So no number of strangers opening pages can use up anything.
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

LIFETIME_S = 600
# Longer ones come back to the front page, so that state fits any server's limits.
MAX_RETURN_BYTES = 512

_NONCE_BYTES = 16
_MAC_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_MAX_PARAMETER_CHARS = 2048


class LoginFailed(DitError):
    """The callback is not the answer to a login that this browser began."""

    code = "login_failed"


@dataclass(frozen=True)
class Begun:
    """Where to send the browser, and the secret that it is to keep meanwhile."""

    location: str
    browser_secret: str


@dataclass(frozen=True)
class Answered:
    """A checked callback: ``code`` to exchange with ``verifier``, or an ``error`` word."""

    code: str
    error: str
    verifier: str
    return_path: bytes


class Login:
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

    def begin(self, return_path: bytes, browser_secret: str | None) -> Begun:
        """Start a login that ends at ``return_path``, a path of this origin.

        :param browser_secret: what the browser holds already, for several pages opened at once.
        """
        if browser_secret is None or not _SECRET.fullmatch(browser_secret):
            browser_secret = secrets.token_urlsafe(32)
        if len(return_path) > MAX_RETURN_BYTES:
            return_path = b"/"
        body = secrets.token_bytes(_NONCE_BYTES) + struct.pack("!Q", int(self._clock()))
        body += return_path
        challenge = _base64url(hashlib.sha256(self._verifier(body, browser_secret).encode()))
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._client_id,
                "redirect_uri": self.redirect_uri,
                "state": _encode(body + self._mac(b"state", body, browser_secret)),
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        return Begun(f"{self._portal_url}/oauth/authorize?{query}", browser_secret)

    def finish(self, query: str, browser_secret: str | None) -> Answered:
        """Check what the portal sent the browser back with.

        :raises LoginFailed: no login of this browser, too old, or not from our portal.
        """
        parameters = _parameters(query)
        if parameters.get("iss") != self._portal_url:
            raise LoginFailed("The answer does not come from the portal")
        if browser_secret is None or not _SECRET.fullmatch(browser_secret):
            raise LoginFailed(
                "This browser did not begin the login, or did not keep its cookie",
                hint="Allow cookies for this address, then open it again.",
            )
        try:
            state = _decode(parameters.get("state", ""))
        except ValueError:
            raise LoginFailed("The login is not one that began here") from None
        body, mac = state[:-_MAC_BYTES], state[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(b"state", body, browser_secret)):
            raise LoginFailed("The login is not one that this browser began")
        (began,) = struct.unpack_from("!Q", body, _NONCE_BYTES)
        if not 0 <= self._clock() - began + 1 <= LIFETIME_S:
            raise LoginFailed("The login took too long")
        code, error = parameters.get("code", ""), parameters.get("error", "")
        if bool(code) == bool(error):
            raise LoginFailed("The portal's answer is malformed")
        return Answered(code, error, self._verifier(body, browser_secret), body[_NONCE_BYTES + 8 :])

    def _mac(self, purpose: bytes, body: bytes, browser_secret: str) -> bytes:
        message = b"\0".join((purpose, browser_secret.encode(), body))
        return hmac.digest(self._key, message, "sha256")

    def _verifier(self, body: bytes, browser_secret: str) -> str:
        """43 characters of base64url (RFC 7636 section 4.1)."""
        return _encode(self._mac(b"verifier", body, browser_secret))


def _parameters(query: str) -> dict[str, str]:
    """A query's parameters, each once at most (RFC 6749 section 3.1)."""
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


def _base64url(digest: "hashlib._Hash") -> str:
    return _encode(digest.digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    """Inverse of :func:`_encode` for a state.

    :raises ValueError: not base64url, or too short.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(data) < _NONCE_BYTES + 8 + 1 + _MAC_BYTES:
        raise ValueError("too short")
    return data
