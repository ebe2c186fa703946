"""What goes wrong at a scheduler."""

from dit4c_p2p.errors import DitError


class SchedulerError(DitError):
    """Base of this package's errors."""

    code = "scheduler"


class NodeUnreachable(SchedulerError):
    """There is no line to the node, or it broke before the answer was complete; ask again."""

    code = "node_unreachable"


class LinkRefused(SchedulerError):
    """The portal does not let this scheduler in, or is not the portal that it is to serve."""

    code = "link_refused"


class LinkLost(SchedulerError):
    """The line to the portal broke; it is opened again."""

    code = "link_lost"


class StoreFailed(SchedulerError):
    """The database could not be written or read, for want of room perhaps; nothing was changed."""

    code = "store"


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of errors, and of groups, begins with; one is as a rule what caused the rest."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
