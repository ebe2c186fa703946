"""Proof that a peer holds its key: its owner makes it, and an admin on another machine submits it.

Enrolment over two machines takes three lines: the admin asks the portal for a nonce (``dit4c key
challenge``), the owner signs it where the private key is (``dit4c node prove``), and the admin
hands the proof to the portal (``dit4c key add --proof``). The proof is good for that nonce, portal
and name only, and holds nothing secret.
"""

import base64
import binascii

import asyncssh

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import InvalidMessage, decode, encode
from dit4c_p2p.messages.enrol import ENROL_NAMESPACE, NewKey, enrol_statement

# So that neither looks like an option of a command, and each is known when it is seen.
_PREFIX = "dit4c-proof:"
_NONCE_PREFIX = "dit4c-nonce:"


def signed_key_proof(
    key: asyncssh.SSHKey, name: PeerName, portal_url: str, nonce: str, scheduler: str | None
) -> NewKey:
    """Return the signed request to publish a key."""
    statement = enrol_statement(portal_url, str(name), nonce)
    return NewKey(
        kind=name.kind.value,
        id=name.id,
        public_key=public_line(key, str(name)),
        nonce=nonce,
        signature=sshsig.sign(key, statement, ENROL_NAMESPACE),
        scheduler=scheduler,
    )


def write_nonce(nonce: str) -> str:
    """Return a nonce as the text that an admin passes on."""
    return _NONCE_PREFIX + nonce


def read_nonce(text: str) -> str:
    """Read the nonce that an admin has passed on.

    :raises ConfigError: the text is no nonce.
    """
    if not text.startswith(_NONCE_PREFIX):
        raise ConfigError("this is no nonce", hint=f"give all of what begins with {_NONCE_PREFIX}")
    return text.removeprefix(_NONCE_PREFIX).strip()


def encode_key_proof(new_key: NewKey) -> str:
    """Return the proof as one line."""
    return _PREFIX + base64.urlsafe_b64encode(encode(new_key)).decode()


def decode_key_proof(line: str, name: PeerName, scheduler: str | None) -> NewKey:
    """Read the proof in a line and check that it is for this peer.

    :param scheduler: the id that it has to name; None accepts any.
    :raises ConfigError: the line is no proof, or is for another peer or scheduler.
    """
    try:
        data = base64.b64decode(line.strip().removeprefix(_PREFIX), b"-_", validate=True)
        proof = decode(data, NewKey)
    except (binascii.Error, ValueError, InvalidMessage):
        raise ConfigError(
            "this is no proof", hint=f"give the whole line that begins with {_PREFIX}"
        ) from None
    if (proof.kind, proof.id) != (name.kind.value, name.id):
        raise ConfigError(
            f"the proof is for {proof.kind}-{proof.id}", hint=f"ask the owner of {name} for one"
        )
    if scheduler not in (None, proof.scheduler):
        raise ConfigError(
            f"the proof says that {name} serves scheduler-{proof.scheduler}",
            hint="let its owner change 'scheduler' in its file, or leave out --scheduler",
        )
    return proof
