"""Separation of the helper's cookies from the app's, and of the app's from sibling hosts.

The helper's cookies begin with :data:`OWN_PREFIX`. ``__Host-`` (RFC 6265bis section 4.1.3.2) means
Secure, this host only, whole path: no sibling host and no plain-text neighbour can set one.
"""

OWN_PREFIX = b"__Host-dit4c-"
SESSION_COOKIE = b"__Host-dit4c-instance"
# Set beside each attempt's own cookie and the same for all: whether a browser keeps cookies at all.
LOGIN_COOKIE = b"__Host-dit4c-login"
ATTEMPT_COOKIE_PREFIX = b"__Host-dit4c-login-"

_ATTRIBUTES = b"; Path=/; Secure; HttpOnly; SameSite=Lax"
_OWN_LOWER = OWN_PREFIX.lower()


def find_cookie(values: list[bytes], name: bytes) -> str | None:
    """Return the value of the first cookie called ``name`` in Cookie fields, or None."""
    for value in values:
        for pair in value.split(b";"):
            key, equals, content = pair.strip(b" \t").partition(b"=")
            if equals and key == name:
                return content.decode("latin-1")
    return None


def cookie_names(values: list[bytes]) -> list[bytes]:
    """The names of all cookies in Cookie fields, in their order."""
    pairs = [pair.strip(b" \t").partition(b"=") for value in values for pair in value.split(b";")]
    return [name for name, equals, _ in pairs if equals]


def without_our_cookies(value: bytes) -> bytes:
    """Return a Cookie field's value without the helper's cookies; it may be empty."""
    if _OWN_LOWER not in value.lower():
        return value
    pairs = [pair for pair in value.split(b";") if not _is_our_cookie(pair)]
    return b";".join(pairs).strip(b" \t")


def set_cookie_by_app(value: bytes) -> bytes | None:
    """Return the app's Set-Cookie as it may reach the browser, or None to drop it.

    Dropped if it names one of ours. ``Domain`` is taken out, so that it stays with this host and
    siblings under the same parent domain never get it.
    """
    if _is_our_cookie(value.partition(b";")[0]):
        return None
    pair, *attributes = value.split(b";")
    kept = [a for a in attributes if a.partition(b"=")[0].strip(b" \t").lower() != b"domain"]
    return value if len(kept) == len(attributes) else b";".join([pair, *kept])


def our_set_cookie(name: bytes, value: str, max_age_s: int) -> bytes:
    """The Set-Cookie value that gives one of our cookies; ``max_age_s`` of 0 takes it away."""
    return b"%b=%b; Max-Age=%d%b" % (name, value.encode("ascii"), max_age_s, _ATTRIBUTES)


def _is_our_cookie(pair: bytes) -> bool:
    """Whether ``name=value`` names one of ours; browsers differ about empty names and case."""
    return pair.lstrip(b" \t=").lower().startswith(_OWN_LOWER)
