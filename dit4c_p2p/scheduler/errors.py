"""Errors of a scheduler."""

from dit4c_p2p.errors import DitError


class SchedulerError(DitError):
    """Base of this package's errors."""

    code = "scheduler"


class NodeUnreachable(SchedulerError):
    """The node is not connected, or the connection broke before the answer; ask again."""

    code = "node_unreachable"


class LinkRefused(SchedulerError):
    """The portal refuses this scheduler, or is not the scheduler's portal."""

    code = "link_refused"


class LinkLost(SchedulerError):
    """The connection to the portal broke; it is opened again."""

    code = "link_lost"


class StoreFailed(SchedulerError):
    """The database can't be read or written, perhaps on a full disk; nothing changed."""

    code = "store"


def first_error_of_group(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of errors, and of groups, begins with; one is as a rule what caused the rest."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
