"""SSHSIG, the format of ``ssh-keygen -Y sign`` (OpenSSH's PROTOCOL.sshsig).

Every signature here names its purpose as its namespace and is refused under any other.
"""

import textwrap
from collections.abc import Iterable

import asyncssh

from dit4c_p2p.identity.errors import InvalidSignature
from dit4c_p2p.identity.keys import public_line

KEYS_NAMESPACE = "dit4c-keys"
EVENTS_NAMESPACE = "dit4c-events"
ENROL_NAMESPACE = "dit4c-enrol"
_ARMOR = "-----{} SSH SIGNATURE-----"
_ARMOR_WIDTH = 70  # as ``ssh-keygen`` writes it


def sign(key: asyncssh.SSHKey, data: bytes, namespace: str) -> str:
    """Return an armored signature of ``data``."""
    return asyncssh.create_sshsig(key, bytes(data), namespace=namespace).decode()


def verify(data: bytes, signature: str, namespace: str, keys: Iterable[asyncssh.SSHKey]) -> None:
    """Check that one of ``keys`` made ``signature`` over ``data`` for ``namespace``.

    :raises InvalidSignature: none of the keys made it.
    """
    allowed = "\n".join(f'peer namespaces="{namespace}" {public_line(key)}' for key in keys)
    try:
        valid = asyncssh.validate_sshsig(bytes(data), signature.encode(), "peer", allowed.encode())
    except (asyncssh.Error, ValueError) as error:
        raise InvalidSignature(f"not a {namespace} signature: {error}") from None
    if not valid:
        raise InvalidSignature(f"the {namespace} signature does not verify")


def without_armor(signature: str) -> str:
    """Return the base64 of an armored signature on one line, for a header field."""
    return "".join(signature.split("\n")[1:]).partition("-")[0]


def with_armor(base64: str) -> str:
    """Return the armored form of what :func:`without_armor` returned."""
    lines = textwrap.wrap(base64, _ARMOR_WIDTH)
    return "\n".join((_ARMOR.format("BEGIN"), *lines, _ARMOR.format("END"), ""))
