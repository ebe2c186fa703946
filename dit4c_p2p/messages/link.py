"""Portal ⇄ scheduler, over the WebSocket ``GET /schedulers/{id}/link`` that the scheduler opens.

Opening, before anything else, each end proving its key to the other:

    portal    → Challenge(nonce)
    scheduler → Hello(name, nonce, signature)    SSHSIG of opening_statement("scheduler", …)
    portal    → Welcome(signature)               SSHSIG of opening_statement("portal", …)

Both signatures have the namespace ``dit4c-link``. From there on both ends send envelopes
(:class:`ToSchedulerEnvelope`, :class:`ToPortalEnvelope`) and :class:`Ack` as text frames. An
envelope is stored by its sender until acknowledged, is sent again after a reconnect, and may arrive
twice or late: the receiver acts on an ``id`` once, and takes an instance's reports by ``sequence``.

The two need not be of one release. A scheduler passes over an order of a kind that it doesn't know
and does not acknowledge it: it waits at the portal until the scheduler has been upgraded. A portal
acknowledges a report that it doesn't know and passes it over: nothing is kept for it, and a
scheduler takes a line without acknowledgements for dead. Frames of a new kind are passed over.
"""

from dit4c_p2p.messages.codec import Record, encode
from dit4c_p2p.messages.instances import State

LINK_NAMESPACE = "dit4c-link"
# The portal closes a link: it does not accept the scheduler; a newer link took over.
REFUSED_CODE = 4403
REPLACED_CODE = 4409
# Either end pings after this long without a frame and waits half of it for the answer (aiohttp
# rounds up to a second of its clock): a dead peer is noticed after 13 s, at most 15 are allowed.
HEARTBEAT_S = 8.0
INSTANCE_KEY_NAMESPACE = "dit4c-instance-key"


class Challenge(Record, frozen=True, tag="challenge"):
    """The portal's first frame; ``nonce`` is 32 random bytes in base64url."""

    nonce: str


class Hello(Record, frozen=True, tag="hello"):
    """The scheduler's first frame."""

    name: str
    nonce: str
    signature: str


class Welcome(Record, frozen=True, tag="welcome"):
    """The portal's answer; it closes a refused link with ``REFUSED_CODE`` and the reason."""

    signature: str


def opening_statement(
    signer: str, scheduler: str, portal_url: str, portal_nonce: str, scheduler_nonce: str
) -> bytes:
    """What both ends sign. ``signer`` is ``scheduler`` or ``portal``: neither can be echoed."""
    return encode([LINK_NAMESPACE, signer, scheduler, portal_url, portal_nonce, scheduler_nonce])


# ---- portal → scheduler


class StartInstance(Record, frozen=True, tag="start"):
    """Start ``instance`` (an id) from ``image`` (``sha256:…`` or ``name@sha256:…``).

    ``key_nonce`` has to be in what the instance and its node sign, see :func:`key_statement`.
    ``title`` is what its user calls it. ``node`` is the peer name of the one that its user has
    chosen; empty: any.
    """

    instance: str
    image: str
    key_nonce: str
    title: str = ""
    node: str = ""


class StopInstance(Record, frozen=True, tag="stop"):
    """Stop the app and keep its container.

    ``after`` is the newest report's ``sequence`` that its user had seen: of two wishes to stop and
    to start, the one with the higher number counts, in whatever order they arrive.
    """

    instance: str
    after: int


class StartAgain(Record, frozen=True, tag="start-again"):
    """Start an app that was stopped, or has ended, on the same node. ``after`` as above.

    ``new_key``: the instance's key was revoked, and its node is to make another. This is also for
    an instance that runs, whose app goes on meanwhile.
    """

    instance: str
    after: int
    new_key: bool = False


class SaveInstance(Record, frozen=True, tag="save"):
    """Stop the app if it runs, save its files as an image and upload that.

    ``save`` is the portal's id of this save. ``after`` as in :class:`StopInstance`.
    """

    instance: str
    save: str
    after: int


class CheckpointInstance(Record, frozen=True, tag="checkpoint"):
    """Save the files of an app that runs as an image and upload that; the app goes on.

    ``save`` is the portal's id of this checkpoint.
    """

    instance: str
    save: str


class MoveInstance(Record, frozen=True, tag="move"):
    """Its node is lost: go on at another one from ``image``, which was saved of it before.

    ``epoch`` counts how often it has; an order of an epoch that is not higher is none any more.
    ``key_nonce`` as in :class:`StartInstance`: the key of before is revoked.
    """

    instance: str
    epoch: int
    image: str
    key_nonce: str


class ConfirmUpload(Record, frozen=True, tag="confirm-upload"):
    """The portal has the image of that save: from now on the container is not needed any more."""

    instance: str
    save: str
    digest: str


class DiscardInstance(Record, frozen=True, tag="discard"):
    """End the instance and remove everything of it."""

    instance: str


class RequestState(Record, frozen=True, tag="request-state"):
    """Say again what is known of the instance."""

    instance: str


class RequestLogs(Record, frozen=True, tag="request-logs"):
    """Send :class:`InstanceLogs` for the newest ``lines`` lines of the app's log."""

    request: str
    instance: str
    lines: int


class CheckImage(Record, frozen=True, tag="check-image"):
    """Have a node fetch what ``reference`` (by digest, or by tag) means now, and say so.

    Answered by :class:`ImageChecked`; not kept by either end.
    """

    request: str
    reference: str


# ---- scheduler → portal


class InstanceReport(Record, frozen=True, tag="report"):
    """What has become of an instance.

    ``sequence`` counts up by one per instance; a report not newer than the last is ignored.
    ``info`` is a sentence for its user; ``progress`` is 0..1 or None; ``log_tail`` is the end of
    the app's log when it errored; ``node`` is the node's name once chosen. ``gone``: its container
    is not there any more, so it can't be started again. ``failed_save`` is the id of the newest
    save if that can't be done any more. ``checkpoint`` is the id of the checkpoint under way,
    ``failed_checkpoint`` that of the newest one if it can't be done; ``checkpoint_info`` is a
    sentence about either. ``epoch`` is that of the newest :class:`MoveInstance` that was received;
    ``kept_on`` names earlier nodes that have a container of it. ``ran``: it was reachable once, so
    that its container may hold files of its user's.
    """

    instance: str
    sequence: int
    state: State
    info: str = ""
    progress: float | None = None
    log_tail: str = ""
    node: str | None = None
    gone: bool = False
    failed_save: str = ""
    checkpoint: str = ""
    checkpoint_info: str = ""
    checkpoint_progress: float | None = None
    failed_checkpoint: str = ""
    epoch: int = 0
    kept_on: list[str] = []
    ran: bool = True


class AllocatedKey(Record, frozen=True, tag="allocated-key"):
    """The instance's public key (OpenSSH line), signed for by the instance and by its node."""

    instance: str
    node: str
    public_key: str
    instance_signature: str
    node_signature: str


class InstanceLogs(Record, frozen=True, tag="logs"):
    """Answers :class:`RequestLogs`; ``error`` says why there is no text."""

    request: str
    instance: str
    text: str = ""
    error: str = ""


class ImageChecked(Record, frozen=True, tag="image-checked"):
    """Answers :class:`CheckImage`: ``image`` is by digest, ``error`` says why there is none."""

    request: str
    image: str = ""
    error: str = ""


class ClusterState(Record, frozen=True, tag="cluster"):
    """Which nodes the scheduler reaches, by peer name; told on each change, and on each new line.

    One in neither list was not tried yet. Of those down: ``heard`` is when each was heard last
    (seconds since 1970), as far as that is known, and ``troubles`` a sentence on why it is down.
    """

    nodes_up: list[str]
    nodes_down: list[str]
    heard: dict[str, float] = {}
    troubles: dict[str, str] = {}


class MemoryUse(Record, frozen=True, tag="memory"):
    """The memory that each app on a node uses, in bytes by instance, and what one may use.

    It is told on each change beyond a step, and on each new line; an instance that is left out is
    not running there.
    """

    node: str
    used: dict[str, int]
    limit: int


def key_statement(instance: str, node: str, fingerprint: str, nonce: str) -> bytes:
    """What an instance and its node sign (SSHSIG, namespace ``dit4c-instance-key``)."""
    return encode([INSTANCE_KEY_NAMESPACE, instance, node, fingerprint, nonce])


# What is about one instance.
InstanceOrder = (
    StartInstance
    | StopInstance
    | StartAgain
    | SaveInstance
    | CheckpointInstance
    | MoveInstance
    | ConfirmUpload
    | DiscardInstance
    | RequestState
    | RequestLogs
)
ToScheduler = InstanceOrder | CheckImage
ToPortal = InstanceReport | AllocatedKey | InstanceLogs | ClusterState | MemoryUse | ImageChecked


class ToSchedulerEnvelope(Record, frozen=True, tag="message"):
    """A stored message to the scheduler; ``id`` is unique for ever."""

    id: str
    body: ToScheduler


class ToPortalEnvelope(Record, frozen=True, tag="message"):
    """A stored message to the portal; ``id`` is unique for ever."""

    id: str
    body: ToPortal


class AnyEnvelope(Record, frozen=True, tag="message"):
    """What can be read of an envelope whose body is of a kind that is not known here."""

    id: str


class Ack(Record, frozen=True, tag="ack"):
    """The message was stored by the other end and need not be sent again."""

    id: str


PortalFrame = Challenge | Welcome | ToSchedulerEnvelope | Ack
SchedulerFrame = Hello | ToPortalEnvelope | Ack
