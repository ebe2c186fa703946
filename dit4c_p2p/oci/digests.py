"""Content digests of the OCI image specification (descriptor.md, section "Digests").

Only SHA-256 is taken: it is the one algorithm that every implementation must have, and a second
name for the same content would be stored twice.
"""

import hashlib
import re
from typing import Self

from dit4c_p2p.oci.errors import InvalidDigest
from dit4c_p2p.oci.reference import is_digest

_ANY = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_MAX_CHARS = 200


class Digest(str):
    """A checked digest; as text it is ``sha256:`` and 64 hexadecimal digits."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a digest.

        :raises InvalidDigest: malformed, or of an algorithm other than SHA-256.
        """
        if is_digest(text):
            return cls(text)
        if len(text) <= _MAX_CHARS and _ANY.fullmatch(text) and not text.startswith("sha256:"):
            raise InvalidDigest(
                f"digests by {text.partition(':')[0]} are not supported here", hint="use sha256"
            )
        raise InvalidDigest(
            "this is not a digest", hint="write it as sha256: and 64 hexadecimal digits"
        )

    @classmethod
    def of(cls, content: bytes) -> Self:
        """The digest of ``content``."""
        return cls(f"sha256:{hashlib.sha256(content).hexdigest()}")

    @classmethod
    def of_raw(cls, raw: bytes) -> Self:
        """From the 32 bytes of a SHA-256."""
        return cls(f"sha256:{raw.hex()}")

    @property
    def hex(self) -> str:
        """The 64 hexadecimal digits alone."""
        return self[7:]

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the SHA-256."""
        return bytes.fromhex(self[7:])
