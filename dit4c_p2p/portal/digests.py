"""Random values that let somebody in, and the form in which they are kept."""

import hashlib
import secrets

_TOKEN_BYTES = 32


def new_token() -> str:
    """256 random bits in base64url: for links, sessions, tokens, codes and nonces."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def digest(*parts: str) -> str:
    """SHA-256 in hexadecimal, of one value or of several kept apart.

    The values have 256 random bits, so a plain hash can't be searched.
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
