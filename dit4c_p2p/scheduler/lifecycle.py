"""The table of an instance's states and events, as pure functions.

An event is a fact. :func:`advance_instance` returns the instance after an event,
:func:`work_of_instance` the next work of its state. The caller stores the new instance first and
then does the work; after a crash it calls :func:`work_of_instance` again, so every kind of work may
be done twice.

    created ─▶ waiting_for_image ─▶ starting ◀─▶ running ─▶ stopping ─▶ exited
       │               │               │            │           │         │      errored: from
       ▼               ▼               ▼            ▼           ▼         ▼      any of these
    discarded      discarded       discarding ─▶ discarded  ◀── discarding

    exited, errored, stopping ─▶ saving ─▶ saved ─▶ uploading ─▶ uploaded ─▶ discarded

A save that its user asks for while the app runs is remembered through stopping. The stopped
container stays where it is until the portal has confirmed the upload; a save that can't be done
leads back to exited, with everything as it was.

An app that was stopped, or has ended, is started again where it is: exited ─▶ starting, in a new
run with a number of its own. What went down with its machine starts again in the same run. A wish
to stop or to start carries the number of the newest report that its user had seen; the wish with
the highest number counts, and an older one that comes late is none any more.

An instance that is errored or exited has no pod that runs: one whose pod may run although it has
failed is stopped first, and so is one that is found to run.

A node's word is about a pod and may come twice, late or out of order: an event that belongs to an
earlier part of its life changes nothing. The table is at the bottom of the file; an event that is
not in the row of a state is ignored there.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler import checkpoint, moving, saving
from dit4c_p2p.scheduler.entering import (
    MAX_INFO_CHARS,
    MAX_LOG_CHARS,
    enter_errored,
    enter_state,
    is_state_overdue,
    sentence_for_user,
    too_late_text,
    with_log_tail,
)
from dit4c_p2p.scheduler.events import (
    CheckpointEvent,
    DiscardAsked,
    Event,
    ImageReady,
    ImageUploaded,
    Instance,
    Limits,
    MoveEvent,
    NodeLost,
    Placed,
    PodExited,
    PodFound,
    PodGone,
    PodInterrupted,
    PodNoted,
    PodRunsOn,
    PodSaved,
    PodStarted,
    PodStopped,
    PodVanished,
    Progressed,
    SaveAsked,
    StartAsked,
    StopAsked,
    TimeUp,
    UploadBegun,
    UploadConfirmed,
    Work,
    WorkFailed,
)

__all__ = [
    "MAX_INFO_CHARS",
    "MAX_LOG_CHARS",
    "TABLE",
    "WORK",
    "DiscardAsked",
    "Event",
    "ImageReady",
    "ImageUploaded",
    "Instance",
    "Limits",
    "NodeLost",
    "Placed",
    "PodExited",
    "PodFound",
    "PodGone",
    "PodInterrupted",
    "PodNoted",
    "PodRunsOn",
    "PodSaved",
    "PodStarted",
    "PodStopped",
    "PodVanished",
    "Progressed",
    "SaveAsked",
    "StartAsked",
    "StopAsked",
    "TimeUp",
    "UploadBegun",
    "UploadConfirmed",
    "Work",
    "WorkFailed",
    "advance_instance",
    "work_of_instance",
]

_log = logging.getLogger(__name__)


def work_of_instance(instance: Instance) -> Work | None:
    """What is to be done for the instance as it stands, or None."""
    if instance.state is State.UPLOADED:
        return Work.REMOVE_POD if instance.pod_asked else None
    if instance.state is State.UPLOADING and instance.uploaded:
        return Work.AWAIT_CONFIRMATION
    return WORK.get(instance.state)


def advance_instance(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """What ``instance`` becomes by ``event`` at ``now`` (seconds since 1970); itself if nothing."""
    if isinstance(event, CheckpointEvent):
        return checkpoint.advance_checkpoint(instance, event, now, limits)
    if isinstance(event, MoveEvent):
        return moving.advance_move(instance, event)
    change = TABLE[instance.state].get(type(event))
    if change is None:
        level = logging.DEBUG if _is_ordinary_event(instance, event) else logging.INFO
        name = type(event).__name__
        _log.log(level, "instance %s: %s ignored while %s", instance.id, name, instance.state)
        return instance
    return checkpoint.settled_checkpoint(change(instance, event, now, limits))


def _is_ordinary_event(instance: Instance, event: Event) -> bool:
    """Each list of a node's pods says again how they are."""
    if isinstance(event, PodVanished):
        return instance.state in (State.DISCARDING, State.DISCARDED)
    return isinstance(event, PodFound | PodExited | PodInterrupted | PodNoted)


# What an event does to an instance; the event is of the type that it stands under in the table.
Change = Callable[[Instance, Any, float, Limits], Instance]


def _pod_stop_failed(instance: Instance, failure: str) -> Instance:
    """Its pod may run: an instance that is said to have failed has none that does."""
    stopping = enter_state(
        instance, State.STOPPING, _info_while_stopping(failure, "Stopping the app")
    )
    return replace(stopping, failure=sentence_for_user(failure))


def _forget_instance(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """There is no pod: the end is reached at once, whether or not its node answers."""
    return _instance_discarded(replace(instance, discard_wanted=True), event, now, limits)


def _remove_pod(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    if not instance.pod_asked:
        return _forget_instance(instance, event, now, limits)
    return enter_state(
        replace(instance, discard_wanted=True), State.DISCARDING, "Removing everything"
    )


def _end_instance(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return enter_state(replace(instance, discard_wanted=True), State.STOPPING, "Stopping the app")


def _end_after_stop(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return replace(instance, discard_wanted=True)


def _pod_stopped(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """What was remembered through stopping comes next."""
    if instance.discard_wanted:
        return _remove_pod(instance, event, now, limits)
    if instance.failure:
        return enter_errored(saving.without_save(instance), instance.failure)
    if instance.save:
        return saving.begin_saving(instance, now, limits)
    info = "Stopped; its files are kept" if instance.ran else "Stopped"
    return enter_state(instance, State.EXITED, info)


def _pod_ended_by_itself(
    instance: Instance, event: PodExited, now: float, limits: Limits
) -> Instance:
    if event.run < instance.run:
        return instance
    return _pod_stopped(with_log_tail(instance, event.log_tail), event, now, limits)


def _gone_while_stopped(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """What was never reachable had nothing of its user's, and may not have been made yet."""
    if instance.ran and not instance.discard_wanted:
        return saving.saved_pod_vanished(saving.without_save(instance), event, now, limits)
    return _pod_stopped(instance, event, now, limits)


def _pod_runs_on(instance: Instance, event: PodRunsOn, now: float, limits: Limits) -> Instance:
    instance = replace(instance, gone=False)
    if instance.state is State.ERRORED:
        return _pod_stop_failed(instance, instance.info)
    return enter_state(instance, State.STOPPING, "Stopping the app")


def _last_app_lines(instance: Instance, event: PodExited, now: float, limits: Limits) -> Instance:
    """That an app has stopped may be known before how it ended is told."""
    if event.run < instance.run or instance.log_tail:
        return instance
    return with_log_tail(instance, event.log_tail)


def _take_user_wish(
    instance: Instance, event: StopAsked | StartAsked, now: float, limits: Limits
) -> Instance:
    """It is as it is wished to be, or can't be otherwise; the wish is remembered."""
    return replace(instance, wish=max(instance.wish, event.after))


def _stop_instance(instance: Instance, event: StopAsked, now: float, limits: Limits) -> Instance:
    if event.after <= instance.wish:
        return instance
    return enter_state(replace(instance, wish=event.after), State.STOPPING, "Stopping the app")


def _start_again(instance: Instance, event: StartAsked, now: float, limits: Limits) -> Instance:
    if event.after <= instance.wish:
        return instance
    if instance.gone:
        return _take_user_wish(instance, event, now, limits)
    again = replace(instance, wish=event.after, run=instance.run + 1, log_tail="")
    again = replace(again, key_run=again.key_run + event.new_key)
    if again.ran:
        return enter_state(again, State.STARTING, "Starting the app again", now + limits.start_s)
    return enter_state(again, State.WAITING_FOR_IMAGE, "Preparing the image", now + limits.image_s)


def _new_pod_key(instance: Instance, event: StartAsked, now: float, limits: Limits) -> Instance:
    """Only its helpers are made anew, with the new key."""
    if not event.new_key or event.after <= instance.wish:
        return _take_user_wish(instance, event, now, limits)
    renewed = replace(instance, wish=event.after, key_run=instance.key_run + 1)
    return enter_state(renewed, State.STARTING, "Making a new key", now + limits.start_s)


def _instance_node_lost(
    instance: Instance, event: NodeLost, now: float, limits: Limits
) -> Instance:
    if instance.discard_wanted:
        return _discarded_unseen(instance, event, now, limits)
    return enter_errored(saving.without_save(instance), event.text)


def _preserved_unseen(instance: Instance, event: NodeLost, now: float, limits: Limits) -> Instance:
    """What is preserved does not need its node."""
    return saving.saved_pod_cleared(instance, PodGone(), now, limits)


def _discarded_unseen(instance: Instance, event: NodeLost, now: float, limits: Limits) -> Instance:
    """Nobody could see to it that nothing is left."""
    info = f"Discarded; what is left of it is out of reach: {event.text}"
    return enter_state(replace(instance, log_tail=""), State.DISCARDED, info)


def _pod_interrupted(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    info = "The machine it runs on went down; starting the app again"
    return enter_state(instance, State.STARTING, info, now + limits.start_s)


def _pod_noted(instance: Instance, event: PodNoted, now: float, limits: Limits) -> Instance:
    return replace(instance, info=sentence_for_user(event.text))


def _instance_discarded(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return enter_state(replace(instance, log_tail=""), State.DISCARDED, "Discarded")


def _instance_placed(instance: Instance, event: Placed, now: float, limits: Limits) -> Instance:
    deadline = now + limits.image_s
    placed = replace(instance, node=event.node)
    return enter_state(placed, State.WAITING_FOR_IMAGE, "Preparing the image", deadline)


def _image_ready(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    # Written down before StartPod is sent, so that no pod can be forgotten.
    asked = replace(instance, pod_asked=True)
    return enter_state(asked, State.STARTING, "Starting the container", now + limits.start_s)


def _work_progressed(instance: Instance, event: Progressed, now: float, limits: Limits) -> Instance:
    if event.during is not instance.state:
        return instance
    fraction = None if event.fraction is None else min(1.0, max(0.0, event.fraction))
    info = sentence_for_user(_info_while_stopping(instance.failure, event.info))
    return replace(instance, info=info, progress=fraction)


def _work_failed(instance: Instance, event: WorkFailed, now: float, limits: Limits) -> Instance:
    if event.during is not instance.state:
        return instance
    return replace(enter_errored(instance, event.text, event.log_tail), gone=event.gone)


def _image_overdue(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    if not is_state_overdue(instance, now):
        return instance
    return enter_errored(
        instance, too_late_text(instance, "The image was not ready", limits.image_s)
    )


def _start_overdue(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    if not is_state_overdue(instance, now):
        return instance
    return _pod_stop_failed(instance, too_late_text(instance, "No start", limits.start_s))


def _pod_started(instance: Instance, event: PodStarted, now: float, limits: Limits) -> Instance:
    info = event.notice or "Running"
    return enter_state(replace(instance, pod_asked=True, ran=True, gone=False), State.RUNNING, info)


def _app_ended_early(instance: Instance, event: PodExited, now: float, limits: Limits) -> Instance:
    """An app that ends before it could be used has failed, whatever its exit code."""
    if event.run < instance.run:
        return instance
    return enter_errored(
        instance, _reason_of_exit(event, "before it could be reached"), event.log_tail
    )


def _app_exited(instance: Instance, event: PodExited, now: float, limits: Limits) -> Instance:
    """By itself and content is an end as it should be; anything else is an error to be told."""
    if event.run < instance.run:
        return instance
    if event.exit_code != 0:
        return enter_errored(instance, _reason_of_exit(event, "by itself"), event.log_tail)
    ended = enter_state(instance, State.EXITED, event.reason or "The app has ended by itself")
    return replace(ended, log_tail=event.log_tail[-MAX_LOG_CHARS:])


def _gone_while_down(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    """What was never reachable is made anew when it is started; anything else is lost."""
    if not instance.ran or instance.gone:
        return instance
    return saving.saved_pod_vanished(instance, event, now, limits)


def _pod_found(instance: Instance, event: Event, now: float, limits: Limits) -> Instance:
    return replace(instance, gone=False)


def _reason_of_exit(event: PodExited, how: str) -> str:
    if event.reason:
        return event.reason
    code = "" if event.exit_code is None else f" with code {event.exit_code}"
    return f"The app ended {how}{code}"


def _info_while_stopping(failure: str, info: str) -> str:
    """What has failed stays in sight for as long as it takes to stop it."""
    return f"{failure}. {sentence_for_user(info)}" if failure else info


WORK: Mapping[State, Work] = {
    State.CREATED: Work.PLACE,
    State.WAITING_FOR_IMAGE: Work.FETCH_IMAGE,
    State.STARTING: Work.START_POD,
    State.STOPPING: Work.STOP_POD,
    State.SAVING: Work.SAVE_POD,
    State.SAVED: Work.AWAIT_UPLOAD,
    State.UPLOADING: Work.UPLOAD_IMAGE,
    State.DISCARDING: Work.REMOVE_POD,
}

# What a save under way has in common.
_SAVING: Mapping[type[Event], Change] = {
    DiscardAsked: _remove_pod,
    StopAsked: _take_user_wish,
    StartAsked: _take_user_wish,
    SaveAsked: saving.save_given_up,
    UploadConfirmed: saving.save_confirmed,
    Progressed: _work_progressed,
    WorkFailed: saving.save_failed,
    TimeUp: saving.save_overdue,
    PodVanished: saving.vanished_while_saved,
    NodeLost: _instance_node_lost,
}

TABLE: Mapping[State, Mapping[type[Event], Change]] = {
    State.CREATED: {
        DiscardAsked: _forget_instance,
        SaveAsked: saving.save_given_up,
        Placed: _instance_placed,
        Progressed: _work_progressed,
    },
    State.WAITING_FOR_IMAGE: {
        DiscardAsked: _remove_pod,
        StartAsked: _take_user_wish,
        SaveAsked: saving.save_given_up,
        ImageReady: _image_ready,
        Progressed: _work_progressed,
        WorkFailed: _work_failed,
        TimeUp: _image_overdue,
        NodeLost: _instance_node_lost,
    },
    State.STARTING: {
        DiscardAsked: _remove_pod,
        StopAsked: _stop_instance,
        StartAsked: _take_user_wish,
        SaveAsked: saving.save_given_up,
        Progressed: _work_progressed,
        WorkFailed: _work_failed,
        TimeUp: _start_overdue,
        PodStarted: _pod_started,
        PodExited: _app_ended_early,
        NodeLost: _instance_node_lost,
    },
    State.RUNNING: {
        DiscardAsked: _end_instance,
        StopAsked: _stop_instance,
        StartAsked: _new_pod_key,
        SaveAsked: saving.begin_save_of_instance,
        PodExited: _app_exited,
        PodInterrupted: _pod_interrupted,
        PodNoted: _pod_noted,
        PodVanished: saving.saved_pod_vanished,
    },
    State.STOPPING: {
        DiscardAsked: _end_after_stop,
        StopAsked: _take_user_wish,
        StartAsked: _take_user_wish,
        SaveAsked: saving.save_after_stop,
        Progressed: _work_progressed,
        PodStopped: _pod_stopped,
        PodExited: _pod_ended_by_itself,
        PodVanished: _gone_while_stopped,
        NodeLost: _instance_node_lost,
    },
    State.EXITED: {
        DiscardAsked: _remove_pod,
        StopAsked: _take_user_wish,
        StartAsked: _start_again,
        SaveAsked: saving.save_stopped_instance,
        PodRunsOn: _pod_runs_on,
        PodVanished: _gone_while_down,
    },
    State.SAVING: {**_SAVING, PodSaved: saving.save_pod_saved},
    State.SAVED: {**_SAVING, UploadBegun: saving.save_upload_begun},
    State.UPLOADING: {**_SAVING, ImageUploaded: saving.save_image_uploaded},
    State.UPLOADED: {
        DiscardAsked: _remove_pod,
        SaveAsked: saving.save_given_up,
        Progressed: _work_progressed,
        PodGone: saving.saved_pod_cleared,
        NodeLost: _preserved_unseen,
    },
    State.ERRORED: {
        DiscardAsked: _remove_pod,
        StopAsked: _take_user_wish,
        StartAsked: _start_again,
        SaveAsked: saving.save_stopped_instance,
        PodExited: _last_app_lines,
        PodRunsOn: _pod_runs_on,
        PodVanished: _gone_while_down,
        PodFound: _pod_found,
    },
    State.DISCARDING: {
        SaveAsked: saving.save_given_up,
        Progressed: _work_progressed,
        PodGone: _instance_discarded,
        NodeLost: _discarded_unseen,
    },
    State.DISCARDED: {},
}
