"""What goes wrong between peers."""

from dit4c_p2p.errors import DitError


class OverlayError(DitError):
    """Base of this package's errors."""

    code = "overlay"


class Refused(OverlayError):
    """The far end, or this one, does not do that for that peer; trying again won't help."""

    code = "refused"


class NotVerified(OverlayError):
    """The far end's host key is not published for its name."""

    code = "not_verified"


class Unreachable(OverlayError):
    """No way to the peer now; trying again later may help."""

    code = "unreachable"


class TurnedAway(Unreachable):
    """The far end answered and hung up before a login: it has too much to do, or is going."""

    code = "turned_away"


class Silent(OverlayError):
    """The far end said nothing for too long."""

    code = "silent"
