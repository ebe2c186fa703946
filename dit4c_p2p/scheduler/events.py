"""What the scheduler knows of an instance, what may happen to it, and what may have to be done.

Plain records; what an event does to an instance is :mod:`dit4c_p2p.scheduler.lifecycle`'s.
"""

from dataclasses import dataclass
from enum import Enum, auto

from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.settings.scheduler import SchedulerLimits

Limits = SchedulerLimits


@dataclass(frozen=True)
class Instance:
    """All that the scheduler knows of one instance.

    ``image``, ``key_nonce``: as ordered; empty if its end was ordered before its start arrived.
    ``title``: what its user calls it. ``wanted_node``: the one that its user has chosen, or empty.
    ``node``: the peer name of the node it was placed on, or None.
    ``info``: a sentence for its user. ``progress``: 0..1, or None if it can't be told.
    ``log_tail``: the end of the app's log once it has ended. ``discard_wanted``: its end was asked
    for. ``pod_asked``: a node may have been told to start its pod. ``deadline``: seconds since
    1970 when the state's time is up, or None. ``sequence`` counts what it was, for its reports.
    ``run``: how often its user has had it started. ``ran``: it was reachable once, so its container
    holds its user's files. ``wish``: the number of the newest wish to stop or to start.
    ``failure``: why it will be errored once it has stopped, empty if it won't. ``gone``: its
    container was there and is not any more. ``key_run``: how often its key was to be replaced.
    ``save``: the portal's id of the save that is wanted or done, empty for none; ``failed_save``:
    that of the newest one that can't be done. ``uploaded``: the digest of the uploaded image's
    manifest, as the node has said. ``confirmed``: the portal has that image.
    ``checkpoint``: the portal's id of the checkpoint under way, empty for none, with what its user
    is told of it and when its time is up; ``failed_checkpoint``: that of the newest one, if it
    can't be done, and why.
    ``epoch``: how often it has gone on at another node. ``left_on``: the earlier nodes that may
    have a container of it, ``kept_on``: those of them that have; peer names with spaces between.
    """

    id: str
    image: str = ""
    key_nonce: str = ""
    state: State = State.CREATED
    node: str | None = None
    info: str = ""
    progress: float | None = None
    log_tail: str = ""
    discard_wanted: bool = False
    pod_asked: bool = False
    deadline: float | None = None
    sequence: int = 0
    run: int = 1
    ran: bool = False
    wish: int = 0
    failure: str = ""
    gone: bool = False
    key_run: int = 0
    save: str = ""
    failed_save: str = ""
    uploaded: str = ""
    confirmed: bool = False
    checkpoint: str = ""
    checkpoint_info: str = ""
    checkpoint_progress: float | None = None
    checkpoint_deadline: float | None = None
    failed_checkpoint: str = ""
    failed_checkpoint_info: str = ""
    epoch: int = 0
    left_on: str = ""
    kept_on: str = ""
    title: str = ""
    wanted_node: str = ""

    @property
    def left_nodes(self) -> list[str]:
        """The earlier nodes that may have a container of it."""
        return self.left_on.split()

    @property
    def occupies(self) -> bool:
        """Whether it takes up one of its node's places."""
        if self.node is None or self.state in FINAL:
            return False
        return self.pod_asked or self.state is State.WAITING_FOR_IMAGE


# ---- what may happen


@dataclass(frozen=True)
class DiscardAsked:
    """Its user wants it gone, with everything in it."""


@dataclass(frozen=True)
class StopAsked:
    """Its user wants the app stopped and kept, having seen its report of that number."""

    after: int


@dataclass(frozen=True)
class StartAsked:
    """Its user wants the app started again, having seen its report of that number.

    ``new_key``: and with a new key, for its own was revoked.
    """

    after: int
    new_key: bool = False


@dataclass(frozen=True)
class SaveAsked:
    """Its user wants its files saved, having seen its report of that number."""

    save: str
    after: int


@dataclass(frozen=True)
class CheckpointAsked:
    """A checkpoint is wanted; ``save`` is the portal's id of it."""

    save: str


@dataclass(frozen=True)
class CheckpointProgressed:
    """A checkpoint has news for the instance's user."""

    save: str
    info: str
    fraction: float | None = None


@dataclass(frozen=True)
class CheckpointEnded:
    """The image server and the portal have a checkpoint, or it can't be had: ``failure``."""

    save: str
    failure: str = ""


CheckpointEvent = CheckpointAsked | CheckpointProgressed | CheckpointEnded


@dataclass(frozen=True)
class MoveAsked:
    """It is to go on from a saved image at another node; ``epoch`` counts how often it has."""

    epoch: int
    image: str
    key_nonce: str


@dataclass(frozen=True)
class StrayFound:
    """An earlier node has a container of it."""

    node: str


@dataclass(frozen=True)
class StrayGone:
    """An earlier node, which had one, has none any more."""

    node: str


MoveEvent = MoveAsked | StrayFound | StrayGone


@dataclass(frozen=True)
class UploadConfirmed:
    """The portal has the image of that save."""

    save: str


@dataclass(frozen=True)
class PodSaved:
    """The app has stopped, and its files can be uploaded."""


@dataclass(frozen=True)
class UploadBegun:
    """It is the instance's turn to be uploaded."""


@dataclass(frozen=True)
class ImageUploaded:
    """The image server has the image of that save; ``digest`` is its manifest's."""

    save: str
    digest: str


@dataclass(frozen=True)
class Placed:
    """It is to run on ``node``, a peer name."""

    node: str


@dataclass(frozen=True)
class ImageReady:
    """The image is on the node."""


@dataclass(frozen=True)
class Progressed:
    """The work that ``during`` calls for has news for the instance's user."""

    during: State
    info: str
    fraction: float | None = None


@dataclass(frozen=True)
class WorkFailed:
    """The work that ``during`` calls for can't be done; ``text`` tells the instance's user why.

    ``gone``: because its container is not there any more.
    """

    during: State
    text: str
    log_tail: str = ""
    gone: bool = False


@dataclass(frozen=True)
class TimeUp:
    """The moment ``deadline`` of the instance may have come."""


@dataclass(frozen=True)
class PodStarted:
    """The app listens, and the instance's own URL answers.

    ``notice``: the node's sentence for the instance's user, may be empty.
    """

    notice: str = ""


@dataclass(frozen=True)
class PodExited:
    """The app's container has ended in that run. ``reason``: the node's sentence, may be empty."""

    exit_code: int | None
    reason: str = ""
    log_tail: str = ""
    run: int = 1


@dataclass(frozen=True)
class PodInterrupted:
    """The pod went down with its machine or engine, and is to be started again."""


@dataclass(frozen=True)
class PodNoted:
    """The pod runs, and there is something to tell its user."""

    text: str


@dataclass(frozen=True)
class PodRunsOn:
    """Its app was found running at the node after it was known to have ended."""


@dataclass(frozen=True)
class PodVanished:
    """The node has nothing of the pod although it ran there."""


@dataclass(frozen=True)
class PodFound:
    """The node has its pod, which does not run."""


@dataclass(frozen=True)
class NodeLost:
    """Its node can't come back, or can't be waited for; ``text`` says why.

    What waits for the node ends. One that runs is left as it is: nobody needs the node for that,
    and the portal has ended its key.
    What is left there is removed or stopped if the node ever comes back, see :mod:`reconcile`.
    """

    text: str


@dataclass(frozen=True)
class PodStopped:
    """The node was asked to stop the pod's containers, and they have stopped."""


@dataclass(frozen=True)
class PodGone:
    """The node was asked to remove the pod, and nothing of it is left."""


Event = (
    CheckpointEvent
    | MoveEvent
    | DiscardAsked
    | StopAsked
    | StartAsked
    | SaveAsked
    | UploadConfirmed
    | PodSaved
    | UploadBegun
    | ImageUploaded
    | Placed
    | ImageReady
    | Progressed
    | WorkFailed
    | TimeUp
    | PodStarted
    | PodExited
    | PodInterrupted
    | PodNoted
    | PodRunsOn
    | PodVanished
    | PodFound
    | NodeLost
    | PodStopped
    | PodGone
)


class Work(Enum):
    """What a state calls for. Each may be begun again at any time, and is idempotent."""

    PLACE = auto()  # choose a node → Placed
    FETCH_IMAGE = auto()  # EnsureImage → ImageReady, WorkFailed
    START_POD = auto()  # StartPod → PodStarted, WorkFailed
    STOP_POD = auto()  # StopPod → PodStopped
    SAVE_POD = auto()  # SavePod → PodSaved, WorkFailed, PodVanished
    AWAIT_UPLOAD = auto()  # wait for its turn → UploadBegun
    UPLOAD_IMAGE = auto()  # UploadImage → ImageUploaded, WorkFailed, PodVanished
    AWAIT_CONFIRMATION = auto()  # wait for the portal; ends by UploadConfirmed or TimeUp
    REMOVE_POD = auto()  # DiscardPod → PodGone
