"""What people may ask of an instance in each state; API, pages and services all ask here. Pure."""

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.models import Instance

# From these on the instance's key is of no more use, and its URL says so.
GOING = frozenset({State.DISCARDING, State.DISCARDED})
_STOPPABLE = frozenset({State.STARTING, State.RUNNING})
STARTABLE = frozenset({State.EXITED, State.ERRORED})
_SAVABLE = frozenset({State.RUNNING, State.STOPPING, State.EXITED, State.ERRORED})
# Where a stop or a start is under way or done: asking again changes nothing.
STOPPED = frozenset({State.STOPPING, State.EXITED, State.ERRORED})
STARTED = frozenset({State.WAITING_FOR_IMAGE, State.STARTING, State.RUNNING})


def is_instance_leaving(instance: Instance) -> bool:
    """Whether it is being discarded, or was asked to be."""
    return instance.discard_asked_at is not None or instance.state in GOING


def may_stop_instance(instance: Instance) -> bool:
    """Whether its app may be stopped."""
    return instance.state in _STOPPABLE


def may_start_instance(instance: Instance) -> bool:
    """Whether its app may be started again: its container has to be there."""
    return instance.state in STARTABLE and instance.node is not None and not instance.gone


def may_save_instance(instance: Instance) -> bool:
    """Whether its files may be saved: its container has to be there, and to have been reachable."""
    is_here = instance.node is not None and not instance.gone
    return instance.state in _SAVABLE and is_here and instance.ran


def may_checkpoint_instance(instance: Instance) -> bool:
    """Whether its files may be saved while it goes on."""
    return instance.state == State.RUNNING


def may_give_instance_new_key(instance: Instance, *, cut: bool) -> bool:
    """Whether it may be given a new key.

    :param cut: its own key was revoked, and its machine may make another.
    """
    return instance.state == State.RUNNING and cut


def may_instance_go_on(instance: Instance) -> bool:
    """Whether it could go on from a checkpoint at another machine, if its own is lost."""
    placed = instance.node is not None and instance.state not in (*GOING, State.UPLOADED)
    return placed and instance.checkpoint_at is not None


def offered_actions(
    instance: Instance, *, opens: bool, cut: bool, saves: bool, lost: bool = False
) -> list[str]:
    """Return what is offered to its person, in the order of the buttons.

    :param opens: it has an address that answers.
    :param saves: the installation has an image server.
    :param lost: its container can't be had: it is gone, or its machine does not answer.
    """
    leaving = is_instance_leaving(instance)
    offers = {
        "open": opens,
        "go-on": lost and may_instance_go_on(instance),
        "new-key": may_give_instance_new_key(instance, cut=cut),
        "start": may_start_instance(instance),
        "stop": may_stop_instance(instance),
        "save": may_save_instance(instance) and saves and not cut,
        "checkpoint": may_checkpoint_instance(instance)
        and not instance.checkpoint_busy
        and saves
        and not cut,
        "copy": instance.state == State.UPLOADED or instance.checkpoint_at is not None,
        "discard": True,
    }
    return [action for action, offered in offers.items() if offered and not leaving]
