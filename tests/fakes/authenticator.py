"""A WebAuthn authenticator in Python, which can also answer wrongly.

authenticator = Authenticator("localhost", "http://localhost:8080")
credential = authenticator.create(options)
credential = authenticator.get(options)
"""

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def text(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def data_of(value: str) -> bytes:
    """The bytes of :func:`text`."""
    return urlsafe_b64decode(value + "=" * (-len(value) % 4))


class Authenticator:
    """One passkey of one person. What it says is right unless told otherwise."""

    def __init__(self, party: str, origin: str) -> None:
        self.party = party
        self.origin = origin
        self.id = os.urandom(32)
        self.handle = b""
        self.count = 0
        self.flags = PRESENT | VERIFIED
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: dict[str, Any], **client: Any) -> dict[str, Any]:
        """Make the passkey (an attestation of the format "none").

        :param client: members of the client data that are to be others.
        """
        self.handle = data_of(options["user"]["id"])
        numbers = self._key.public_key().public_numbers()
        public = {
            1: 2,
            3: -7,
            -1: 1,
            -2: numbers.x.to_bytes(32, "big"),
            -3: numbers.y.to_bytes(32, "big"),
        }
        credential = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor2.dumps(public)
        attestation = {
            "fmt": "none",
            "attStmt": {},
            "authData": self._data(self.flags | ATTESTED) + credential,
        }
        return self._answer(
            clientDataJSON=self._client_data("webauthn.create", options, client),
            attestationObject=cbor2.dumps(attestation),
            transports=["internal"],
        )

    def get(self, options: dict[str, Any], **client: Any) -> dict[str, Any]:
        """Answer a challenge."""
        self.count += 1
        data, client_data = (
            self._data(self.flags),
            self._client_data("webauthn.get", options, client),
        )
        signed = data + hashlib.sha256(client_data).digest()
        return self._answer(
            clientDataJSON=client_data,
            authenticatorData=data,
            signature=self._key.sign(signed, ec.ECDSA(SHA256())),
            userHandle=self.handle,
        )

    def _data(self, flags: int) -> bytes:
        party = hashlib.sha256(self.party.encode()).digest()
        return party + bytes([flags]) + self.count.to_bytes(4, "big")

    def _client_data(self, type: str, options: dict[str, Any], more: dict[str, Any]) -> bytes:
        challenge = options["challenge"]
        said = {"type": type, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps({**said, **more}).encode()

    def _answer(self, **response: Any) -> dict[str, Any]:
        said = {
            name: text(value) if isinstance(value, bytes) else value
            for name, value in response.items()
        }
        return {
            "id": text(self.id),
            "rawId": text(self.id),
            "type": "public-key",
            "clientExtensionResults": {},
            "response": said,
        }
