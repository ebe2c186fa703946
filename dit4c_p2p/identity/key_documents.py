"""Signed key documents: the published keys of one peer, as text.

    # dit4c-keys kind=node id=home serial=12 change=7 issued=1790000000 expires=1790003600
    ssh-ed25519 AAAA… node-home

The first line is a comment, so that the body is a valid ``authorized_keys`` file. The portal signs
exactly these bytes (SSHSIG, namespace ``dit4c-keys``). A body without key lines says that the peer
has no key in force.

Unknown fields are ignored, because the next release may add some. A field that restricts what the
keys may do needs another first word (``dit4c-keys``), which this release refuses.
"""

import re
from dataclasses import dataclass

import asyncssh

from dit4c_p2p.identity.errors import InvalidDocument, InvalidKey, InvalidName
from dit4c_p2p.identity.keys import fingerprint, parse_public, public_line
from dit4c_p2p.identity.names import Kind, PeerName

LIFETIME_S = 3600
# How far two honest clocks may be apart (security.md's figures: JWTs ± 60 s).
CLOCK_SKEW_S = 60

_HEADER = re.compile(r"# dit4c-keys((?: [a-z]+=[a-z0-9-]+)+)")
_MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True)
class KeyDocument:
    """The keys in force of ``name``.

    ``serial`` is unique for this body and grows with each body issued for any name. ``change`` is
    the newest key change that the body takes into account. ``issued`` and ``expires`` are seconds
    since 1970. ``scheduler`` is the id of the scheduler that a node belongs to, None for others.
    """

    name: PeerName
    serial: int
    change: int
    issued: int
    expires: int
    keys: tuple[asyncssh.SSHKey, ...]
    scheduler: str | None = None

    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of the keys in force."""
        return frozenset(fingerprint(key) for key in self.keys)


def compose_key_document(document: KeyDocument) -> bytes:
    """The body that the portal serves and signs; :func:`parse` is its inverse."""
    fields = {
        "kind": document.name.kind,
        "id": document.name.id,
        "serial": document.serial,
        "change": document.change,
        "issued": document.issued,
        "expires": document.expires,
    }
    if document.scheduler is not None:
        fields["scheduler"] = document.scheduler
    header = "# dit4c-keys " + " ".join(f"{key}={value}" for key, value in fields.items())
    lines = [header, *(public_line(key, str(document.name)) for key in document.keys)]
    return ("\n".join(lines) + "\n").encode()


def parse(body: bytes, expected: PeerName, now: float) -> KeyDocument:
    """Read a body whose signature has been verified.

    :param now: seconds since 1970.
    :raises InvalidDocument: malformed, about another name, expired, or issued in the future.
    """
    if len(body) > _MAX_BODY_BYTES:
        raise InvalidDocument(f"the key document of {expected} is over {_MAX_BODY_BYTES} bytes")
    try:
        header, *lines = body.decode().splitlines()
        match = _HEADER.fullmatch(header)
        if match is None:
            raise InvalidDocument(f"the key document of {expected} has no proper first line")
        fields = dict(field.split("=", 1) for field in match[1].split())
        document = KeyDocument(
            name=PeerName.of(fields["kind"], fields["id"]),
            serial=int(fields["serial"]),
            change=int(fields["change"]),
            issued=int(fields["issued"]),
            expires=int(fields["expires"]),
            keys=tuple(
                parse_public(line, security_keys=expected.kind is Kind.USER) for line in lines
            ),
            scheduler=fields.get("scheduler"),
        )
    except (KeyError, ValueError, InvalidKey, InvalidName) as error:
        raise InvalidDocument(f"the key document of {expected} is malformed: {error}") from None
    if document.name != expected:
        raise InvalidDocument(f"asked for the keys of {expected}, got those of {document.name}")
    if document.expires <= now:
        raise InvalidDocument(
            f"the key document of {expected} has expired",
            hint="if this goes on, check this machine's clock",
        )
    if document.issued > now + CLOCK_SKEW_S:
        raise InvalidDocument(
            f"the key document of {expected} is from the future",
            hint="this machine's clock is behind the portal's; set the clock",
        )
    return document
