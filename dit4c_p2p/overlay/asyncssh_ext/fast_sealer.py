"""AES-GCM of SSH for one direction, and the format of a channel data packet.

RFC 5647 section 7 (the nonce), RFC 4253 section 6 (packets), RFC 4254 section 5.2 (data).
"""

import struct
from typing import Any

from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHANNEL_DATA = 94
TAG_BYTES = 16
BLOCK_BYTES = 16
# padding length, message number, recipient channel, data length
DATA_HEAD = struct.Struct(">BBII")
LENGTH = struct.Struct(">I")
SEQUENCE_MASK = 0xFFFFFFFF


class Sealer:
    """AES-GCM in one direction with one key, in step with asyncssh's cipher of that direction.

    ``aead`` is None until it is needed: it takes some KiB, and an idle tunnel does without.
    """

    __slots__ = ("aead", "cipher", "encryption")

    def __init__(self, encryption: Any) -> None:
        self.encryption = encryption
        self.cipher: Any = encryption._cipher if isinstance(encryption, GCMEncryption) else None
        self.aead: AESGCM | None = None

    def begin(self) -> AESGCM | None:
        """Make ``aead``; it stays None for another cipher."""
        if self.cipher is not None:
            self.aead = AESGCM(self.cipher._key)
        return self.aead
