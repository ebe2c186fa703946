"""How an instance enters a state: shared by everything that changes one. Pure."""

from dataclasses import replace

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler.events import Instance

# What a person is told is cut to a length that a row of the dashboard and one message bear.
MAX_INFO_CHARS = 500
MAX_LOG_CHARS = 32 * 1024


def enter_state(
    instance: Instance, state: State, info: str, deadline: float | None = None
) -> Instance:
    """The instance in another state; ``deadline`` is when that state's time is up."""
    entered = replace(
        instance, state=state, info=sentence_for_user(info), progress=None, failure=""
    )
    return replace(entered, deadline=deadline)


def enter_errored(instance: Instance, reason: str, log_tail: str = "") -> Instance:
    """The instance, errored for that reason."""
    return with_log_tail(enter_state(instance, State.ERRORED, reason), log_tail)


def with_log_tail(instance: Instance, log_tail: str) -> Instance:
    """The instance with the end of its app's log, if there is any."""
    return replace(instance, log_tail=log_tail[-MAX_LOG_CHARS:] or instance.log_tail)


def is_state_overdue(instance: Instance, now: float) -> bool:
    """Whether its state's time is up."""
    return instance.deadline is not None and now >= instance.deadline


def too_late_text(instance: Instance, what: str, limit_s: float) -> str:
    """What its user is told of a state that has taken too long."""
    latest = f"; the last that was heard: {instance.info}" if instance.info else ""
    return f"{what} within {time_span_text(limit_s)}{latest}"


def sentence_for_user(text: str) -> str:
    """A node's words begin as they would in the middle of a line; a person reads them alone."""
    return text[:1].upper() + text[1:MAX_INFO_CHARS]


def time_span_text(seconds: float) -> str:
    """A length of time in words."""
    if seconds >= 3600:
        hours = seconds / 3600
        return "an hour" if hours == 1 else f"{hours:.3g} hours"
    return f"{seconds / 60:.3g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
