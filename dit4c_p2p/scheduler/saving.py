"""What the events of a save do to an instance; see the table in ``lifecycle``. Pure.

    exited, errored, stopping ─▶ saving ─▶ saved ─▶ uploading ─▶ uploaded

The container stays until node and portal have both said that the image is there. What can't be done
leads back to exited, with everything as it was.
"""

from dataclasses import replace

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler.entering import enter_errored, enter_state, is_state_overdue, too_late_text
from dit4c_p2p.scheduler.events import (
    ImageUploaded,
    Instance,
    Limits,
    PodGone,
    PodSaved,
    PodVanished,
    SaveAsked,
    TimeUp,
    UploadBegun,
    UploadConfirmed,
    WorkFailed,
)


def begin_save_of_instance(
    instance: Instance, event: SaveAsked, now: float, limits: Limits
) -> Instance:
    """An app that runs is stopped first; one that has ended is saved as it is."""
    if event.after <= instance.wish:
        return save_given_up(instance, event, now, limits)
    wanted = replace(
        instance, wish=event.after, save=event.save, failed_save="", uploaded="", confirmed=False
    )
    if instance.state is State.RUNNING:
        return enter_state(wanted, State.STOPPING, "Stopping the app")
    return begin_saving(wanted, now, limits)


def save_stopped_instance(
    instance: Instance, event: SaveAsked, now: float, limits: Limits
) -> Instance:
    """What was never reachable has nothing of its user's."""
    if not instance.ran:
        return save_given_up(instance, event, now, limits)
    return begin_save_of_instance(instance, event, now, limits)


def save_after_stop(instance: Instance, event: SaveAsked, now: float, limits: Limits) -> Instance:
    """A save is remembered until the app has stopped."""
    if instance.discard_wanted or instance.failure or not instance.ran:
        return save_given_up(instance, event, now, limits)
    return replace(
        instance,
        wish=max(instance.wish, event.after),
        save=event.save,
        failed_save="",
        uploaded="",
        confirmed=False,
    )


def save_given_up(instance: Instance, event: SaveAsked, now: float, limits: Limits) -> Instance:
    """It has become something else since its user asked: that save will never be."""
    if event.save == instance.save:
        return instance
    return replace(instance, failed_save=event.save)


def begin_saving(instance: Instance, now: float, limits: Limits) -> Instance:
    """Its app has stopped."""
    return enter_state(instance, State.SAVING, "Reading its files", now + limits.save_s)


def save_pod_saved(instance: Instance, event: PodSaved, now: float, limits: Limits) -> Instance:
    """Its files can be uploaded."""
    info = "Saved on its machine; waiting to be uploaded"
    return enter_state(instance, State.SAVED, info, now + limits.upload_s)


def save_upload_begun(
    instance: Instance, event: UploadBegun, now: float, limits: Limits
) -> Instance:
    """Its files are being sent."""
    return enter_state(instance, State.UPLOADING, "Uploading its files", now + limits.upload_s)


def save_image_uploaded(
    instance: Instance, event: ImageUploaded, now: float, limits: Limits
) -> Instance:
    """The node has nothing more to send; it is over once the portal has confirmed."""
    if event.save != instance.save:
        return instance
    there = replace(instance, uploaded=event.digest)
    return _save_uploaded(there) if there.confirmed else there


def save_confirmed(
    instance: Instance, event: UploadConfirmed, now: float, limits: Limits
) -> Instance:
    """The node's word that nothing more is to be sent counts as well."""
    if event.save != instance.save:
        return instance
    known = replace(instance, confirmed=True)
    return _save_uploaded(known) if known.uploaded else known


def _save_uploaded(instance: Instance) -> Instance:
    return enter_state(instance, State.UPLOADED, "Preserved; its machine is being cleared")


def saved_pod_cleared(instance: Instance, event: PodGone, now: float, limits: Limits) -> Instance:
    """Its container is gone from the node, on purpose."""
    info = "Preserved; start a copy to go on from here"
    return enter_state(replace(instance, pod_asked=False, node=None), State.UPLOADED, info)


def without_save(instance: Instance) -> Instance:
    """The save that was wanted can't be any more."""
    if not instance.save:
        return instance
    return replace(instance, save="", failed_save=instance.save)


def save_failed(instance: Instance, event: WorkFailed, now: float, limits: Limits) -> Instance:
    """It is as it was before."""
    if event.during is not instance.state:
        return instance
    return _kept_without_save(instance, event.text)


def save_overdue(instance: Instance, event: TimeUp, now: float, limits: Limits) -> Instance:
    """It has taken too long; it is as it was before."""
    if not is_state_overdue(instance, now):
        return instance
    limit_s = limits.save_s if instance.state is State.SAVING else limits.upload_s
    return _kept_without_save(instance, too_late_text(instance, "not done", limit_s))


def _kept_without_save(instance: Instance, why: str) -> Instance:
    return enter_state(
        without_save(instance), State.EXITED, f"Not saved, its files are still there: {why}"
    )


def vanished_while_saved(
    instance: Instance, event: PodVanished, now: float, limits: Limits
) -> Instance:
    """Gone after the image server has got it all, it is preserved nevertheless."""
    if instance.uploaded:
        return instance
    return saved_pod_vanished(without_save(instance), event, now, limits)


def saved_pod_vanished(instance: Instance, event: object, now: float, limits: Limits) -> Instance:
    """There is nothing left that could be saved or started."""
    reason = "Its container is gone from the machine it ran on"
    return replace(enter_errored(instance, reason), gone=instance.ran)
