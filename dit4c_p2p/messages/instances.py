"""The states of an instance, as the API, the portal and the scheduler name them."""

from enum import StrEnum


class State(StrEnum):
    """Where an instance is in its life; the values are what the API shows."""

    CREATED = "created"
    WAITING_FOR_IMAGE = "waiting_for_image"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    DISCARDING = "discarding"
    DISCARDED = "discarded"
    ERRORED = "errored"


FINAL = frozenset({State.DISCARDED})
