"""The states of an instance, as the API, the portal and the scheduler name them."""

from enum import StrEnum


class State(StrEnum):
    """State of an instance; the values are those of the API."""

    CREATED = "created"
    WAITING_FOR_IMAGE = "waiting_for_image"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    SAVING = "saving"
    SAVED = "saved"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    DISCARDING = "discarding"
    DISCARDED = "discarded"
    ERRORED = "errored"


FINAL = frozenset({State.DISCARDED})
# Whatever is not gone: few, beside those that are.
LIVE = frozenset(State) - FINAL
# A save is under way: the app has stopped, its container is kept until the upload is confirmed.
SAVING = frozenset({State.SAVING, State.SAVED, State.UPLOADING})
