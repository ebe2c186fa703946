"""What can go wrong for a user of the command line, each with an exit code of its own.

ClientError        1   anything else
├── NotLoggedIn    3   there is no token for the portal, or it does not count any more
├── NoSuchThing    4   no such instance or tool, or several of the name
├── NotPossible    5   not in the present state, or a limit is reached
└── Unreachable    6   the portal does not answer, or not as one

2 is for a command line that can't be understood, 130 for Ctrl-C.
"""

from dit4c_p2p.errors import DitError


class ClientError(DitError):
    """Base; ``exit_code`` is what the command ends with."""

    code = "client"
    exit_code = 1


class NotLoggedIn(ClientError):
    """Nobody is logged in at the portal, or may not do this."""

    code = "not_logged_in"
    exit_code = 3


class NoSuchThing(ClientError):
    """There is none, or more than one."""

    code = "no_such_thing"
    exit_code = 4


class NotPossible(ClientError):
    """It can't be done now."""

    code = "not_possible"
    exit_code = 5


class PortalNotReachable(ClientError):
    """The portal can't be asked."""

    code = "unreachable"
    exit_code = 6
