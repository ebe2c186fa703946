"""Peer names: ``<kind>-<id>``, parsed once and passed on as a typed value."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from dit4c_p2p.identity.errors import InvalidName

# So that a name fits a DNS label (RFC 1035 section 2.3.4: 63 octets).
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


class Kind(StrEnum):
    """The kinds of peers."""

    PORTAL = "portal"
    SCHEDULER = "scheduler"
    ROUTER = "router"
    FILESERVER = "fileserver"
    IMAGESERVER = "imageserver"
    NODE = "node"
    INSTANCE = "instance"
    USER = "user"


@dataclass(frozen=True, slots=True, order=True)
class PeerName:
    """A peer's name. ``str(name)`` is ``node-home``; :meth:`parse` is its inverse."""

    kind: Kind
    id: str

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidName(
                f"{self.id!r} is not an id",
                hint="an id has 1 to 40 of a-z, 0-9 and -, and neither begins nor ends with -",
            )

    def __str__(self) -> str:
        return f"{self.kind}-{self.id}"

    @classmethod
    def of(cls, kind: str, id: str) -> Self:
        """Return the name of this kind and id.

        :raises InvalidName: the kind is unknown, or the id is malformed.
        """
        try:
            return cls(Kind(kind), id)
        except ValueError:
            raise InvalidName(f"{kind!r} is not one of {', '.join(Kind)}") from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``<kind>-<id>``.

        :raises InvalidName: the text does not have this form.
        """
        kind, dash, id = text.partition("-")
        if not dash:
            raise InvalidName(f"{text!r} is not of the form <kind>-<id>")
        return cls.of(kind, id)
