"""Opaque random tokens, and the digests that are stored of them."""

import hashlib
import secrets

_TOKEN_BYTES = 32
_PUBLIC_ID_CHARS = 16


def new_token() -> str:
    """Return 256 random bits in base64url, for links, sessions, tokens, codes and nonces."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def digest(*parts: str) -> str:
    """SHA-256 in hexadecimal, of one value or of several kept apart.

    The values have 256 random bits, so a plain hash can't be searched. What a client sends in
    their place may be anything, also bytes that are no text.
    """
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def public_id(of: str) -> str:
    """Return the public name of a digest's row, which gives no access."""
    return of[:_PUBLIC_ID_CHARS]
