"""JSON Web Tokens signed with SSH keys: how a peer calls the portal (RFC 7519, RFC 7523).

``iss`` is the peer's name, ``kid`` its key's fingerprint, ``aud`` who is to believe it (the
portal's canonical URL), ``jti`` a nonce that whoever acts on the token claims once.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncssh
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from dit4c_p2p.identity.errors import InvalidName, InvalidToken, WrongClock
from dit4c_p2p.identity.keys import fingerprint, jwt_algorithm
from dit4c_p2p.identity.names import PeerName

MAX_LIFETIME_S = 300
CLOCK_SKEW_S = 60
_MAX_TOKEN_CHARS = 8192

JWK = OKPKey | ECKey | RSAKey


@dataclass(frozen=True)
class TokenHead:
    """The unverified issuer and key of a token."""

    issuer: PeerName
    fingerprint: str


@dataclass(frozen=True)
class VerifiedToken:
    """A verified token; ``issued`` and ``expires`` in seconds since 1970."""

    issuer: PeerName
    fingerprint: str
    jti: str
    issued: int
    expires: int
    claims: Mapping[str, Any]


def to_jwk(key: asyncssh.SSHKey) -> JWK:
    """Return the JWK of an SSH key, private if the key is private (RFC 7517, RFC 8037)."""
    native: Any = key.pyca_key
    match key.get_algorithm():
        case "ssh-ed25519":
            return OKPKey.import_key(native)
        case "ssh-rsa":
            return RSAKey.import_key(native)
        case _:
            return ECKey.import_key(native)


def public_jwk(key: asyncssh.SSHKey) -> dict[str, Any]:
    """Return the key's entry in a ``jwks.json``."""
    jwk: dict[str, Any] = dict(to_jwk(key).as_dict(private=False))
    return jwk | {"kid": fingerprint(key), "alg": jwt_algorithm(key), "use": "sig"}


def issue(
    key: asyncssh.SSHKey,
    issuer: PeerName,
    audience: str,
    *,
    now: float,
    lifetime_s: int = 120,
    claims: Mapping[str, Any] | None = None,
) -> str:
    """Return a token of ``issuer`` for ``audience``, valid for ``lifetime_s`` (at most 300 s)."""
    issued = int(now)
    return jwt.encode(
        {"alg": jwt_algorithm(key), "kid": fingerprint(key)},
        {
            **(claims or {}),
            "iss": str(issuer),
            "aud": audience,
            "iat": issued,
            "exp": issued + min(lifetime_s, MAX_LIFETIME_S),
            "jti": secrets.token_urlsafe(18),
        },
        to_jwk(key),
        algorithms=[jwt_algorithm(key)],
    )


def read_head(token: str) -> TokenHead:
    """Read the unverified head of a token, in order to look up the keys that verify it.

    :raises InvalidToken: the text is no JWT, or has no valid ``iss`` and ``kid``.
    """
    if len(token) > _MAX_TOKEN_CHARS:
        raise InvalidToken("the token is too long")
    try:
        compact = jws.extract_compact(token.encode())
        claims = _token_claims(compact.payload)
        return TokenHead(PeerName.parse(claims["iss"]), str(compact.headers()["kid"]))
    except (
        JoseError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        InvalidName,
    ):
        raise InvalidToken("not a token of a peer") from None


def verify(
    token: str, keys: Iterable[asyncssh.SSHKey], audience: str, *, now: float
) -> VerifiedToken:
    """Verify a token against the keys in force of the peer that it names.

    :param keys: the published keys of ``read_head(token).issuer``.
    :raises WrongClock: the token is correct, but expired or not yet valid.
    :raises InvalidToken: not signed by a published key, for another audience, or too long-lived.
    """
    head = read_head(token)
    key = next((key for key in keys if fingerprint(key) == head.fingerprint), None)
    if key is None:
        raise InvalidToken(f"the key that signed the token is not in force for {head.issuer}")
    algorithms = [jwt_algorithm(key)]
    if algorithms == ["Ed25519"]:
        algorithms.append("EdDSA")  # the same algorithm's name before RFC 9864
    try:
        claims = dict(jwt.decode(token, to_jwk(key), algorithms=algorithms).claims)
    except (JoseError, ValueError):
        raise InvalidToken("the token's signature does not verify") from None
    issued, expires, jti = claims.get("iat"), claims.get("exp"), claims.get("jti")
    if not isinstance(issued, int) or not isinstance(expires, int) or not isinstance(jti, str):
        raise InvalidToken("the token lacks iat, exp or jti")
    if claims.get("aud") != audience:
        raise InvalidToken(f"the token is not for {audience}")
    if not 0 < expires - issued <= MAX_LIFETIME_S or not (8 <= len(jti) <= 128 and jti.isascii()):
        raise InvalidToken(f"the token must live {MAX_LIFETIME_S} s at most and have a jti")
    if issued > now + CLOCK_SKEW_S:
        raise WrongClock(
            "the token is from the future", hint="set the clock of the machine that made it"
        )
    if expires < now - CLOCK_SKEW_S:
        raise WrongClock(
            "the token has expired", hint="if it is new, set the clock of the machine that made it"
        )
    return VerifiedToken(head.issuer, head.fingerprint, jti, issued, expires, claims)


def _token_claims(payload: bytes | None) -> dict[str, Any]:
    claims = json.loads(payload or b"")
    if not isinstance(claims, dict):
        raise ValueError("claims are not an object")
    return claims
