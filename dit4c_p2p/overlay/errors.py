"""Errors between peers."""

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.names import PeerName


class OverlayError(DitError):
    """Base of this package's errors."""

    code = "overlay"


class Refused(OverlayError):
    """An end refuses the request of that peer; trying again does not help."""

    code = "refused"


class NotVerified(OverlayError):
    """The far end's host key is not published for its name."""

    code = "not_verified"


class NoKeyInForce(NotVerified):
    """The portal says, signed, that ``peer`` has no key: it was revoked, or never enrolled."""

    def __init__(self, peer: PeerName) -> None:
        super().__init__(f"no key is published for {peer}", hint="enrol it at the portal")
        self.peer = peer


class Unreachable(OverlayError):
    """The peer can't be reached now; trying again later may help."""

    code = "unreachable"


class TurnedAway(Unreachable):
    """The far end closed the connection before the login: it is overloaded, or shutting down."""

    code = "turned_away"


class Silent(OverlayError):
    """The far end sent nothing for too long."""

    code = "silent"
