"""Scheduler ⇄ node agent: one call is one SSH channel with the subsystem ``dit4c-node``.

The caller writes one request as a line of JSON and reads lines: any number of :class:`Progress` and
other items, then exactly one final record, :class:`Failure` or the verb's own result. Closing the
channel gives up waiting; it never undoes work. Every verb is idempotent: ask again after a break.

The two need not be of one release. A request of a kind that the agent doesn't know is answered by a
:class:`Failure` with the code ``unknown_kind``; a record of the answer that the caller doesn't
know is passed over.

| request        | items               | final                     |
|----------------|---------------------|---------------------------|
| Describe       |                     | NodeDescription           |
| EnsureImage    | Progress            | ImageReady                |
| ResolveImage   | Progress            | ImageReady                |
| StartPod       | Progress, PodKey    | PodRunning                |
| StopPod        | Progress            | PodStopped                |
| SavePod        | Progress            | PodSaved                  |
| UploadImage    | Progress            | ImageUploaded             |
| CheckpointPod  | Progress            | ImageUploaded             |
| DiscardPod     | Progress            | PodGone                   |
| ListPods       |                     | PodList                   |
| PodLogs        |                     | LogText                   |
| FollowEvents   | PodEvent, PodMemory, Alive | never ends by itself |
"""

from enum import StrEnum

from dit4c_p2p.messages.codec import Record

NODE_SUBSYSTEM = "dit4c-node"
# A node that follows events or works on a verb says something this often.
ALIVE_EVERY_S = 5.0
# Two may be lost; a dead line is noticed within 15 s.
EVENTS_SILENCE_S = 14.0
MEMORY_EVERY_S = 10.0
CALL_SILENCE_S = 30.0
# Codes of a Failure that may pass by itself: the same verb is worth trying again.
PASSING_CODES = frozenset({"engine", "storage"})


class Describe(Record, frozen=True, tag="describe"):
    """What is this node?"""


class EnsureImage(Record, frozen=True, tag="ensure-image"):
    """Have the image ready: ``sha256:…``, one that was loaded, or ``name@sha256:…``, to pull."""

    image: str


class ResolveImage(Record, frozen=True, tag="resolve-image"):
    """Have the image ready that a reference means now: by digest, or by tag.

    The answer's ``image`` is by digest.
    """

    reference: str


class StartPod(Record, frozen=True, tag="start-pod"):
    """Have the pod of ``instance`` run ``image``; ``key_nonce`` goes into the key's proofs.

    ``run`` counts how often its user has had it started: in one run an app that has ended by itself
    is not started again, however often this is asked. ``kept``: the app was reachable in an earlier
    run, and its files have to be there; a new container is never made in its place. ``key_run``: of
    the instance's keys, the how many-th replacement is wanted; the node makes a new key when it has
    not made this one yet. ``title`` is what its user calls
    it, for the app to show; empty: not known.
    """

    instance: str
    image: str
    key_nonce: str
    run: int = 1
    kept: bool = False
    key_run: int = 0
    title: str = ""


class StopPod(Record, frozen=True, tag="stop-pod"):
    """Stop the pod's containers and keep them."""

    instance: str


class SavePod(Record, frozen=True, tag="save-pod"):
    """Have the pod's files ready for an upload: its containers are stopped, and measured."""

    instance: str


class UploadImage(Record, frozen=True, tag="upload-image"):
    """Have the files of the stopped app at the image server; ``save`` is the portal's id of it."""

    instance: str
    save: str


class CheckpointPod(Record, frozen=True, tag="checkpoint-pod"):
    """Have the files of an app, as they are now, at the image server; the app goes on.

    ``save`` is the portal's id of the checkpoint.
    """

    instance: str
    save: str


class DiscardPod(Record, frozen=True, tag="discard-pod"):
    """Remove containers, network, volumes and key of the pod; fine if there is none."""

    instance: str


class ListPods(Record, frozen=True, tag="list-pods"):
    """Every pod of this agent, running or not."""


class PodLogs(Record, frozen=True, tag="pod-logs"):
    """The newest ``lines`` lines of the app's log."""

    instance: str
    lines: int


class FollowEvents(Record, frozen=True, tag="follow-events"):
    """What happens to the pods from now on."""


NodeRequest = (
    Describe
    | EnsureImage
    | ResolveImage
    | StartPod
    | StopPod
    | SavePod
    | UploadImage
    | CheckpointPod
    | DiscardPod
    | ListPods
    | PodLogs
    | FollowEvents
)


class Progress(Record, frozen=True, tag="progress"):
    """A sentence for the instance's user; ``fraction`` is 0..1 or None if it can't be told."""

    info: str
    fraction: float | None = None


class PodKey(Record, frozen=True, tag="pod-key"):
    """The instance's key was made on the node. See ``link.AllocatedKey``."""

    public_key: str
    instance_signature: str
    node_signature: str


class NodeDescription(Record, frozen=True, tag="node-description"):
    """The node as its owner offers it: ``name`` is the peer name, memory in bytes.

    ``paused``: its owner has it start nothing for now.
    """

    name: str
    version: str
    cpus: float
    memory_bytes: int
    pods: int
    max_pods: int
    paused: bool = False


class ImageReady(Record, frozen=True, tag="image-ready"):
    """The image is present; ``port`` is the lowest TCP port that it declares."""

    image: str
    port: int


class PodRunning(Record, frozen=True, tag="pod-running"):
    """The app listens, and the instance's own URL answered through a router.

    ``notice`` is a sentence for its user, such as that it had gone down; empty for none.
    """

    instance: str
    notice: str = ""


class PodStopped(Record, frozen=True, tag="pod-stopped"):
    """All containers of the pod have stopped."""

    instance: str


class PodSaved(Record, frozen=True, tag="pod-saved"):
    """The app has stopped; ``bytes`` is how much there is to upload at the most."""

    instance: str
    bytes: int


class ImageUploaded(Record, frozen=True, tag="image-uploaded"):
    """The image server has the image, and the portal knows; ``digest`` is the manifest's."""

    instance: str
    save: str
    digest: str


class PodGone(Record, frozen=True, tag="pod-gone"):
    """Nothing of the pod is left."""

    instance: str


class PodState(StrEnum):
    """What the labelled containers say about a pod."""

    PARTIAL = "partial"  # being made, its making was cut off, or it is not clear yet how it ended
    RUNNING = "running"  # the app's container runs
    EXITED = "exited"  # the app's container has ended
    INTERRUPTED = "interrupted"  # it went down with its machine or engine; starting goes on


class PodStatus(Record, frozen=True, tag="pod-status"):
    """One pod.

    ``reason`` is a sentence when it exited (``the app was ended: out of memory``) or was
    interrupted, and may tell something about one that runs (``… was started again``). ``run`` is
    the run of ``StartPod`` that it is about.
    """

    instance: str
    state: PodState
    exit_code: int | None = None
    reason: str = ""
    log_tail: str = ""
    run: int = 1


class PodList(Record, frozen=True, tag="pod-list"):
    """The truth about what exists on the node."""

    pods: list[PodStatus]


class LogText(Record, frozen=True, tag="log-text"):
    """The end of the app's log, at most 64 KiB, invalid UTF-8 replaced."""

    text: str


class PodEvent(Record, frozen=True, tag="pod-event"):
    """A pod changed; ``status`` is None when nothing of it is left."""

    instance: str
    status: PodStatus | None


class PodMemory(Record, frozen=True, tag="pod-memory"):
    """The memory that each running app uses, in bytes by instance, and what it may use at most.

    Sent at once to who follows the events, and when one has changed by a step; at most every
    ``MEMORY_EVERY_S``.
    """

    used: dict[str, int]
    limit: int


class Alive(Record, frozen=True, tag="alive"):
    """Sent every ``ALIVE_EVERY_S`` on :class:`FollowEvents` so that silence means a broken line."""


class Failure(Record, frozen=True, tag="failure"):
    """The verb failed. ``code`` is stable, ``text`` a sentence for the user.

    Codes: ``unknown_image``, ``registry`` (it does not answer), ``disk_full`` (no room for the
    image), ``no_port``, ``not_listening``, ``app_exited``, ``out_of_memory``, ``no_such_pod``,
    ``bad_image`` (no container can be made of it), ``machine`` (its owner has to change something),
    ``refused`` (the owner's policy), ``engine`` (it does not answer), ``storage`` (the machine's
    disk is full, or does not work), ``not_saved`` (its files can't be made an image),
    ``unknown_kind`` (the agent is of an older release than who asks), ``internal``. See
    :data:`PASSING_CODES`.
    """

    code: str
    text: str
    log_tail: str = ""


NodeItem = Progress | PodKey | PodEvent | PodMemory | Alive
NodeResult = (
    NodeDescription
    | ImageReady
    | PodRunning
    | PodStopped
    | PodSaved
    | ImageUploaded
    | PodGone
    | PodList
    | LogText
)
NodeReply = NodeItem | NodeResult | Failure
