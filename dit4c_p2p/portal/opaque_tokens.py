"""Random values that let somebody in, and the form in which they are kept."""

import hashlib
import secrets

_TOKEN_BYTES = 32
_PUBLIC_ID_CHARS = 16


def new_token() -> str:
    """256 random bits in base64url: for links, sessions, tokens, codes and nonces."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def digest(*parts: str) -> str:
    """SHA-256 in hexadecimal, of one value or of several kept apart.

    The values have 256 random bits, so a plain hash can't be searched. What a client sends in
    their place may be anything, also bytes that are no text.
    """
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def public_id(of: str) -> str:
    """What a digest's row is called where people can see it; it lets nobody in."""
    return of[:_PUBLIC_ID_CHARS]
