"""What the events of a checkpoint do to an instance. Pure.

A checkpoint runs beside the instance's state, and does not change it. The app may be stopped
meanwhile: its files of before are uploaded. What ends the container, or takes its files for a save,
ends the checkpoint.
"""

from dataclasses import replace

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler.entering import sentence_for_user, time_span_text
from dit4c_p2p.scheduler.events import (
    CheckpointAsked,
    CheckpointEnded,
    CheckpointEvent,
    CheckpointProgressed,
    Instance,
    Limits,
)

# It may begin while the app runs, and goes on in each of these.
_GOES_ON = frozenset({State.RUNNING, State.STARTING, State.STOPPING, State.EXITED})


def advance_checkpoint(
    instance: Instance, event: CheckpointEvent, now: float, limits: Limits
) -> Instance:
    """What ``instance`` becomes by an event of a checkpoint."""
    match event:
        case CheckpointAsked(save=save):
            return _checkpoint_asked(instance, save, now, limits)
        case CheckpointProgressed(save=save) if save == instance.checkpoint:
            fraction = None if event.fraction is None else min(1.0, max(0.0, event.fraction))
            info = sentence_for_user(event.info)
            return replace(instance, checkpoint_info=info, checkpoint_progress=fraction)
        case CheckpointEnded(save=save, failure=failure) if save == instance.checkpoint:
            if failure:
                return _checkpoint_failed(instance, failure)
            return _without_checkpoint(instance)
    return instance


def _checkpoint_asked(instance: Instance, save: str, now: float, limits: Limits) -> Instance:
    if save in (instance.checkpoint, instance.failed_checkpoint):
        return instance
    if instance.state is not State.RUNNING or instance.checkpoint:
        why = "another one is under way" if instance.checkpoint else "its app does not run"
        return replace(
            instance, failed_checkpoint=save, failed_checkpoint_info=f"No checkpoint: {why}"
        )
    begun = replace(_without_checkpoint(instance), failed_checkpoint="", failed_checkpoint_info="")
    return replace(
        begun,
        checkpoint=save,
        checkpoint_info="Copying its files",
        checkpoint_deadline=now + limits.save_s + limits.upload_s,
    )


def settled_checkpoint(instance: Instance) -> Instance:
    """The instance after another event, without a checkpoint that can't go on any more."""
    if not instance.checkpoint or instance.state in _GOES_ON:
        return instance
    return _checkpoint_failed(instance, "its app does not run any more")


def checkpoint_overdue(instance: Instance, limits: Limits) -> str:
    """Why a checkpoint that has run out of time has failed."""
    return f"it was not done within {time_span_text(limits.save_s + limits.upload_s)}"


def _checkpoint_failed(instance: Instance, why: str) -> Instance:
    return replace(
        _without_checkpoint(instance),
        failed_checkpoint=instance.checkpoint,
        failed_checkpoint_info=sentence_for_user(f"No checkpoint: {why}"),
    )


def _without_checkpoint(instance: Instance) -> Instance:
    return replace(
        instance,
        checkpoint="",
        checkpoint_info="",
        checkpoint_progress=None,
        checkpoint_deadline=None,
    )
