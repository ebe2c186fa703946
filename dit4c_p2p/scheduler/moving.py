"""What it does to an instance that it goes on at another node. Pure.

The portal says so once the instance's node is lost and a checkpoint is at the image server. From
then on the instance is of a higher epoch, and begins like a new one. What is left of it at earlier
nodes is not thrown away: a pod that is found there is stopped, and its container kept.
"""

from dataclasses import replace

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler.events import Instance, MoveAsked, MoveEvent, StrayFound, StrayGone

_GOING = frozenset({State.DISCARDING, State.DISCARDED, State.UPLOADED})


def advance_move(instance: Instance, event: MoveEvent) -> Instance:
    """What ``instance`` becomes by an event of a move."""
    match event:
        case MoveAsked():
            return _moved_instance(instance, event)
        case StrayFound(node=node) if node in instance.left_nodes:
            return replace(instance, kept_on=_names_with(instance.kept_on, node))
        case StrayGone(node=node):
            return replace(
                instance,
                left_on=_names_without(instance.left_on, node),
                kept_on=_names_without(instance.kept_on, node),
            )
    return instance


def _moved_instance(instance: Instance, event: MoveAsked) -> Instance:
    going = instance.discard_wanted or instance.state in _GOING
    if event.epoch <= instance.epoch or going:
        return instance
    left = instance.left_on
    if instance.node is not None and instance.pod_asked:
        left = _names_with(left, instance.node)
    return Instance(
        id=instance.id,
        image=event.image,
        key_nonce=event.key_nonce,
        info="Waiting for another machine",
        sequence=instance.sequence,
        wish=instance.wish,
        epoch=event.epoch,
        left_on=left,
        kept_on=instance.kept_on,
        title=instance.title,
        failed_save=instance.save or instance.failed_save,
        failed_checkpoint=instance.checkpoint or instance.failed_checkpoint,
    )


def _names_with(names: str, name: str) -> str:
    return " ".join(sorted({*names.split(), name}))


def _names_without(names: str, name: str) -> str:
    return " ".join(one for one in names.split() if one != name)
