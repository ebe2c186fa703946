"""The published keys on the wire: documents are text (see ``identity.documents``), events are here.

``GET /keys/events`` sends server-sent events. Each ``data:`` line is a :class:`SignedEvent`, whose
``body`` is the JSON of a :class:`KeyEvent` or a :class:`Heartbeat` and whose ``signature`` is an
armored SSHSIG of exactly that body by the portal's key, namespace ``dit4c-events``.

Nothing that a newer portal adds to an event can be missed dangerously, signed as it is: an event
only has its hearer ask for documents again. One of a kind that is not known here is passed over,
and the next heartbeat's ``change`` then says that something was missed.
"""

from typing import Literal

from dit4c_p2p.messages.codec import Record

# The portal's signature of a key document: the base64 of an SSHSIG, namespace ``dit4c-keys``.
SIGNATURE_HEADER = "X-Dit4c-Signature"
HEARTBEAT_S = 3.0
# Two heartbeats may be lost; the third missing one is silence.
SILENCE_S = 8


class KeyEvent(Record, frozen=True, tag="key"):
    """A key came into force or stopped being in force.

    ``change`` counts up by one with every event, over all names. ``name`` is ``<kind>-<id>``,
    ``fingerprint`` is base64url of SHA-256 without padding, ``at`` is in seconds since 1970.
    """

    change: int
    name: str
    fingerprint: str
    what: Literal["published", "revoked"]
    at: int


class Heartbeat(Record, frozen=True, tag="heartbeat"):
    """Sent every ``HEARTBEAT_S``: the newest change. Who missed a change drops its cache."""

    change: int
    at: int


class EndedAccess(Record, frozen=True):
    """A person's access to an instance was taken away: by log-out, by an admin, by an end date.

    It may have been a part of their access only, such as one browser's; the instance's auth helper
    asks the portal. ``instance`` is an id, ``at`` is in seconds since 1970, and grows with each
    further time for the same two.
    """

    instance: str
    person: str
    at: float


class AccessEnded(Record, frozen=True, tag="access-ended"):
    """For routers only, which prove who they are when they ask for the events.

    A stream begins with whatever counts still, as after any time that a router has not listened.
    """

    ended: list[EndedAccess]


class SignedEvent(Record, frozen=True):
    """One event as sent."""

    body: str
    signature: str


class KeyHolder(Record, frozen=True):
    """``GET /ssh-keys/{fingerprint}``."""

    fingerprint: str
    name: str
    revoked: bool
    published_at: int
    revoked_at: int | None = None
