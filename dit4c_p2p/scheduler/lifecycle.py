"""An instance's life as a table of states and events; decides, and does nothing.

An event is something that has happened. :func:`advance` says what an instance becomes by it, and
:func:`work` what its state calls for next. The caller writes the new instance down first and then
does the work; after a crash it asks :func:`work` again, so every kind of work may be done twice.

    created ─▶ waiting_for_image ─▶ starting ◀─▶ running ─▶ stopping ─▶ exited
       │               │               │            │           │         │      errored: from
       ▼               ▼               ▼            ▼           ▼         ▼      any of these
    discarded      discarded       discarding ─▶ discarded  ◀── discarding

An app that was stopped, or has ended, is started again where it is: exited ─▶ starting, in a new
run with a number of its own. What went down with its machine starts again in the same run. A wish
to stop or to start carries the number of the newest report that its user had seen; the wish with
the highest number counts, and an older one that comes late is none any more.

An instance that is errored or exited has no pod that runs: one whose pod may run although it has
failed is stopped first, and so is one that is found to run.

A node's word is about a pod and may come twice, late or out of order: whatever an instance has
become already, an event that belongs to an earlier part of its life changes nothing. The table is
at the bottom of the file; an event that is not in the row of a state is ignored there.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from dit4c_p2p.messages.instances import FINAL, State

_log = logging.getLogger(__name__)

# An image may have to be unpacked at a home's pace; an app may have to make its first start.
IMAGE_LIMIT_S = 3600
START_LIMIT_S = 3600

# What a person is told is cut to a length that a row of the dashboard and one message bear.
MAX_INFO_CHARS = 500
MAX_LOG_CHARS = 32 * 1024


@dataclass(frozen=True)
class Limits:
    """How long a state may last, in seconds."""

    image_s: float = IMAGE_LIMIT_S
    start_s: float = START_LIMIT_S


@dataclass(frozen=True)
class Instance:
    """All that the scheduler knows of one instance.

    ``image``, ``key_nonce``: as ordered; empty if its end was ordered before its start arrived.
    ``node``: the peer name of the node it was placed on, or None.
    ``info``: a sentence for its user. ``progress``: 0..1, or None if it can't be told.
    ``log_tail``: the end of the app's log once it has ended. ``discard_wanted``: its end was asked
    for. ``pod_asked``: a node may have been told to start its pod. ``deadline``: seconds since
    1970 when the state's time is up, or None. ``sequence`` counts what it was, for its reports.
    ``run``: how often its user has had it started. ``ran``: it was reachable once, so its container
    holds its user's files. ``wish``: the number of the newest wish to stop or to start.
    ``failure``: why it will be errored once it has stopped, empty if it won't. ``gone``: its
    container was there and is not any more. ``key_run``: how often its key was to be replaced.
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
    DiscardAsked
    | StopAsked
    | StartAsked
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
    REMOVE_POD = auto()  # DiscardPod → PodGone


def work(instance: Instance) -> Work | None:
    """What is to be done for the instance as it stands, or None."""
    return WORK.get(instance.state)


def advance(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """What ``instance`` becomes by ``event`` at ``now`` (seconds since 1970); itself if nothing."""
    change = TABLE[instance.state].get(type(event))
    if change is None:
        level = logging.DEBUG if _is_ordinary(instance, event) else logging.INFO
        name = type(event).__name__
        _log.log(level, "instance %s: %s ignored while %s", instance.id, name, instance.state)
        return instance
    return change(instance, event, now, limits)


def _is_ordinary(instance: Instance, event: Event) -> bool:
    """Each list of a node's pods says again how they are; one that was to go is gone at last."""
    if isinstance(event, PodVanished):
        return instance.state in (State.DISCARDING, State.DISCARDED)
    if isinstance(event, PodFound):
        return True
    return isinstance(event, PodExited | PodInterrupted | PodNoted)


# ---- what an event does to an instance in a state that listens to it

# The event is of the type that it stands under in the table.
Change = Callable[[Instance, Any, float, Limits], Instance]


def _enter(instance: Instance, state: State, info: str, deadline: float | None = None) -> Instance:
    entered = replace(instance, state=state, info=_sentence(info), progress=None, failure="")
    return replace(entered, deadline=deadline)


def _errored(instance: Instance, reason: str, log_tail: str = "") -> Instance:
    return _with_log(_enter(instance, State.ERRORED, reason), log_tail)


def _with_log(instance: Instance, log_tail: str) -> Instance:
    return replace(instance, log_tail=log_tail[-MAX_LOG_CHARS:] or instance.log_tail)


def _stop_failed(instance: Instance, failure: str) -> Instance:
    """Its pod may run: an instance that is said to have failed has none that does."""
    stopping = _enter(instance, State.STOPPING, _while_stopping(failure, "Stopping the app"))
    return replace(stopping, failure=_sentence(failure))


def _forget(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """There is no pod: the end is reached at once, whether or not its node answers."""
    return _discarded(replace(instance, discard_wanted=True), event, now, limits)


def _remove(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    if not instance.pod_asked:
        return _forget(instance, event, now, limits)
    return _enter(replace(instance, discard_wanted=True), State.DISCARDING, "Removing everything")


def _end(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return _enter(replace(instance, discard_wanted=True), State.STOPPING, "Stopping the app")


def _end_after_stop(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return replace(instance, discard_wanted=True)


def _stopped(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """What was remembered through stopping comes next."""
    if instance.discard_wanted:
        return _remove(instance, event, now, limits)
    if instance.failure:
        return _errored(instance, instance.failure)
    info = "Stopped; its files are kept" if instance.ran else "Stopped"
    return _enter(instance, State.EXITED, info)


def _stopped_by_itself(
    instance: Instance, event: PodExited, now: float, limits: Limits
) -> Instance:
    if event.run < instance.run:
        return instance
    return _stopped(_with_log(instance, event.log_tail), event, now, limits)


def _vanished_while_stopped(
    instance: Instance, event: Event, now: float, limits: Limits
) -> Instance:
    """What was never reachable had nothing of its user's, and may not have been made yet."""
    if instance.ran and not instance.discard_wanted:
        return _vanished(instance, event, now, limits)
    return _stopped(instance, event, now, limits)


def _runs_on(instance: Instance, event: PodRunsOn, now: float, limits: Limits) -> Instance:
    instance = replace(instance, gone=False)
    if instance.state is State.ERRORED:
        return _stop_failed(instance, instance.info)
    return _enter(instance, State.STOPPING, "Stopping the app")


def _last_lines(instance: Instance, event: PodExited, now: float, limits: Limits) -> Instance:
    """That an app has stopped may be known before how it ended is told."""
    if event.run < instance.run or instance.log_tail:
        return instance
    return _with_log(instance, event.log_tail)


def _wish(
    instance: Instance, event: StopAsked | StartAsked, now: float, limits: Limits
) -> Instance:
    """It is as it is wished to be, or can't be otherwise; the wish is remembered."""
    return replace(instance, wish=max(instance.wish, event.after))


def _stop(instance: Instance, event: StopAsked, now: float, limits: Limits) -> Instance:
    if event.after <= instance.wish:
        return instance
    return _enter(replace(instance, wish=event.after), State.STOPPING, "Stopping the app")


def _start_again(instance: Instance, event: StartAsked, now: float, limits: Limits) -> Instance:
    if event.after <= instance.wish:
        return instance
    if instance.gone:
        return _wish(instance, event, now, limits)
    again = replace(instance, wish=event.after, run=instance.run + 1, log_tail="")
    again = replace(again, key_run=again.key_run + event.new_key)
    if again.ran:
        return _enter(again, State.STARTING, "Starting the app again", now + limits.start_s)
    # It has never been reachable: tried anew from where something may have been amiss.
    return _enter(again, State.WAITING_FOR_IMAGE, "Preparing the image", now + limits.image_s)


def _new_key(instance: Instance, event: StartAsked, now: float, limits: Limits) -> Instance:
    """It runs: only its helpers are made anew, with the new key."""
    if not event.new_key or event.after <= instance.wish:
        return _wish(instance, event, now, limits)
    renewed = replace(instance, wish=event.after, key_run=instance.key_run + 1)
    return _enter(renewed, State.STARTING, "Making a new key", now + limits.start_s)


def _node_lost(instance: Instance, event: NodeLost, now: float, limits: Limits) -> Instance:
    if instance.discard_wanted:
        return _discarded_unseen(instance, event, now, limits)
    return _errored(instance, event.text)


def _discarded_unseen(instance: Instance, event: NodeLost, now: float, limits: Limits) -> Instance:
    """Nobody could see to it that nothing is left."""
    info = f"Discarded; what is left of it is out of reach: {event.text}"
    return _enter(replace(instance, log_tail=""), State.DISCARDED, info)


def _interrupted(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    info = "The machine it runs on went down; starting the app again"
    return _enter(instance, State.STARTING, info, now + limits.start_s)


def _noted(instance: Instance, event: PodNoted, now: float, limits: Limits) -> Instance:
    return replace(instance, info=_sentence(event.text))


def _discarded(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return _enter(replace(instance, log_tail=""), State.DISCARDED, "Discarded")


def _placed(instance: Instance, event: Placed, now: float, limits: Limits) -> Instance:
    deadline = now + limits.image_s
    placed = replace(instance, node=event.node)
    return _enter(placed, State.WAITING_FOR_IMAGE, "Preparing the image", deadline)


def _image_ready(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    # Written down before StartPod is sent, so that no pod can be forgotten.
    asked = replace(instance, pod_asked=True)
    return _enter(asked, State.STARTING, "Starting the container", now + limits.start_s)


def _progressed(instance: Instance, event: Progressed, now: float, limits: Limits) -> Instance:
    if event.during is not instance.state:
        return instance
    fraction = None if event.fraction is None else min(1.0, max(0.0, event.fraction))
    info = _sentence(_while_stopping(instance.failure, event.info))
    return replace(instance, info=info, progress=fraction)


def _failed(instance: Instance, event: WorkFailed, now: float, limits: Limits) -> Instance:
    if event.during is not instance.state:
        return instance
    return replace(_errored(instance, event.text, event.log_tail), gone=event.gone)


def _image_overdue(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    if not _overdue(instance, now):
        return instance
    return _errored(instance, _too_late(instance, "The image was not ready", limits.image_s))


def _start_overdue(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    if not _overdue(instance, now):
        return instance
    return _stop_failed(instance, _too_late(instance, "No start", limits.start_s))


def _overdue(instance: Instance, now: float) -> bool:
    return instance.deadline is not None and now >= instance.deadline


def _too_late(instance: Instance, what: str, limit_s: float) -> str:
    latest = f"; the last that was heard: {instance.info}" if instance.info else ""
    return f"{what} within {_span(limit_s)}{latest}"


def _started(instance: Instance, event: PodStarted, now: float, limits: Limits) -> Instance:
    info = event.notice or "Running"
    return _enter(replace(instance, pod_asked=True, ran=True, gone=False), State.RUNNING, info)


def _ended_early(instance: Instance, event: PodExited, now: float, limits: Limits) -> Instance:
    """An app that ends before it could be used has failed, whatever its exit code."""
    if event.run < instance.run:
        return instance
    return _errored(instance, _reason(event, "before it could be reached"), event.log_tail)


def _exited(instance: Instance, event: PodExited, now: float, limits: Limits) -> Instance:
    """By itself and content is an end as it should be; anything else is an error to be told."""
    if event.run < instance.run:
        return instance
    if event.exit_code != 0:
        return _errored(instance, _reason(event, "by itself"), event.log_tail)
    ended = _enter(instance, State.EXITED, event.reason or "The app has ended by itself")
    return replace(ended, log_tail=event.log_tail[-MAX_LOG_CHARS:])


def _vanished(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    reason = "Its container is gone from the machine it ran on"
    return replace(_errored(instance, reason), gone=instance.ran)


def _vanished_while_down(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """What was never reachable is made anew when it is started; anything else is lost."""
    if not instance.ran or instance.gone:
        return instance
    return _vanished(instance, event, now, limits)


def _found(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return replace(instance, gone=False)


def _reason(event: PodExited, how: str) -> str:
    if event.reason:
        return event.reason
    code = "" if event.exit_code is None else f" with code {event.exit_code}"
    return f"The app ended {how}{code}"


def _while_stopping(failure: str, info: str) -> str:
    """What has failed stays in sight for as long as it takes to stop it."""
    return f"{failure}. {_sentence(info)}" if failure else info


def _sentence(text: str) -> str:
    """A node's words begin as they would in the middle of a line; a person reads them alone."""
    return text[:1].upper() + text[1:MAX_INFO_CHARS]


def _span(seconds: float) -> str:
    if seconds >= 3600:
        hours = seconds / 3600
        return "an hour" if hours == 1 else f"{hours:.3g} hours"
    return f"{seconds / 60:.3g} minutes" if seconds >= 60 else f"{seconds:g} seconds"


# ---- the tables

WORK: Mapping[State, Work] = {
    State.CREATED: Work.PLACE,
    State.WAITING_FOR_IMAGE: Work.FETCH_IMAGE,
    State.STARTING: Work.START_POD,
    State.STOPPING: Work.STOP_POD,
    State.DISCARDING: Work.REMOVE_POD,
}

TABLE: Mapping[State, Mapping[type[Event], Change]] = {
    State.CREATED: {
        DiscardAsked: _forget,
        Placed: _placed,
        Progressed: _progressed,
    },
    State.WAITING_FOR_IMAGE: {
        DiscardAsked: _remove,
        StartAsked: _wish,
        ImageReady: _image_ready,
        Progressed: _progressed,
        WorkFailed: _failed,
        TimeUp: _image_overdue,
        NodeLost: _node_lost,
    },
    State.STARTING: {
        DiscardAsked: _remove,
        StopAsked: _stop,
        StartAsked: _wish,
        Progressed: _progressed,
        WorkFailed: _failed,
        TimeUp: _start_overdue,
        PodStarted: _started,
        PodExited: _ended_early,
        NodeLost: _node_lost,
    },
    State.RUNNING: {
        DiscardAsked: _end,
        StopAsked: _stop,
        StartAsked: _new_key,
        PodExited: _exited,
        PodInterrupted: _interrupted,
        PodNoted: _noted,
        PodVanished: _vanished,
    },
    State.STOPPING: {
        DiscardAsked: _end_after_stop,
        StopAsked: _wish,
        StartAsked: _wish,
        Progressed: _progressed,
        PodStopped: _stopped,
        PodExited: _stopped_by_itself,
        PodVanished: _vanished_while_stopped,
        NodeLost: _node_lost,
    },
    State.EXITED: {
        DiscardAsked: _remove,
        StopAsked: _wish,
        StartAsked: _start_again,
        PodRunsOn: _runs_on,
        PodVanished: _vanished_while_down,
    },
    State.ERRORED: {
        DiscardAsked: _remove,
        StopAsked: _wish,
        StartAsked: _start_again,
        PodExited: _last_lines,
        PodRunsOn: _runs_on,
        PodVanished: _vanished_while_down,
        PodFound: _found,
    },
    State.DISCARDING: {
        Progressed: _progressed,
        PodGone: _discarded,
        NodeLost: _discarded_unseen,
    },
    State.DISCARDED: {},
}
