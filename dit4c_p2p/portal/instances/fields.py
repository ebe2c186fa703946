"""Values of an instance's fields. Pure, but for the random id."""

import secrets
import string

_LETTERS = string.ascii_lowercase
_ID_CHARS = _LETTERS + string.digits
_ID_LENGTH = 10  # 52 bits: ids are public in URLs, guessing one gives nothing


def new_instance_id() -> str:
    """Return a random id that begins with a letter."""
    rest = "".join(secrets.choice(_ID_CHARS) for _ in range(_ID_LENGTH - 1))
    return secrets.choice(_LETTERS) + rest


def storable_text(text: str) -> str:
    """Replace NUL characters, which PostgreSQL does not store; an app may write them."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def free_instance_name(title: str, taken: set[str]) -> str:
    """Return the title, with a number if one of the ``taken`` names is the same."""
    if title not in taken:
        return title
    number = 2
    while f"{title} {number}" in taken:
        number += 1
    return f"{title} {number}"


def progress_fraction(progress: float | None) -> float | None:
    """Limit a progress to 0..1; None stays None."""
    return None if progress is None else min(max(progress, 0.0), 1.0)
