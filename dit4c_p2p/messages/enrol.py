"""Enrolment: an admin's program publishes the key of a peer that it holds.

POST /api/v1/keys/challenge {}     → 201 {"nonce", "expires_in"}
POST /api/v1/keys <NewKey>         → 201 {"fingerprint", "name", …}
"""

from dit4c_p2p.messages.codec import Strict

ENROL_NAMESPACE = "dit4c-enrol"


class NewKey(Strict, frozen=True, omit_defaults=True):
    """``public_key`` is the line of the .pub file; ``scheduler`` the id of a node's scheduler.

    ``owner`` is the id of the person who lends a node. None: the node is the institution's, or what
    was said before stays.

    ``signature`` is an SSHSIG of :func:`enrol_statement` by the new key itself. It is strict: an
    admin who limits a key by a field that this portal doesn't know must hear that it does not.
    """

    kind: str
    id: str
    public_key: str
    nonce: str
    signature: str
    scheduler: str | None = None
    owner: str | None = None


def enrol_statement(portal_url: str, name: str, nonce: str) -> bytes:
    """What the new key signs, namespace ``dit4c-enrol``: a line of text without its end."""
    return f"dit4c-enrol {portal_url} {name} {nonce}".encode()
