"""What is offered of an instance, and what is done when it is asked for."""

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.instances import actions
from dit4c_p2p.portal.models import Instance


def instance(state, **more):
    return Instance(**({"id": "abc", "state": state, "node": "node-home"} | more))


def offered(one, *, opens=False, cut=False, saves=True, lost=False):
    return actions.offered_actions(one, opens=opens, cut=cut, saves=saves, lost=lost)


@pytest.mark.parametrize("state", State)
def test_what_is_offered_may_be_asked(state):
    one = instance(state)
    for cut in (False, True):
        names = offered(one, cut=cut)
        assert ("stop" in names) == actions.may_stop_instance(one)
        assert ("start" in names) == actions.may_start_instance(one)
        assert ("save" in names) == (actions.may_save_instance(one) and not cut)
        wanted = actions.may_checkpoint_instance(one) and not cut
        assert ("checkpoint" in names) == wanted
        assert ("new-key" in names) == actions.may_give_instance_new_key(one, cut=cut)


@pytest.mark.parametrize(
    ("one", "options", "names"),
    [
        (instance(State.CREATED, node=None), {}, ["discard"]),
        (instance(State.STARTING), {}, ["stop", "discard"]),
        (
            instance(State.RUNNING),
            {"opens": True},
            ["open", "stop", "save", "checkpoint", "discard"],
        ),
        (
            instance(State.RUNNING, checkpoint_at=1.0, checkpoint_busy=True),
            {},
            ["stop", "save", "copy", "discard"],
        ),
        (instance(State.EXITED, checkpoint_at=1.0), {}, ["start", "save", "copy", "discard"]),
        (instance(State.RUNNING), {"saves": False}, ["stop", "discard"]),
        (instance(State.RUNNING), {"cut": True}, ["new-key", "stop", "discard"]),
        (instance(State.EXITED), {}, ["start", "save", "discard"]),
        (instance(State.EXITED, gone=True), {}, ["discard"]),
        (instance(State.ERRORED, ran=False), {}, ["start", "discard"]),
        (instance(State.EXITED, ran=False), {}, ["start", "discard"]),
        (instance(State.ERRORED), {}, ["start", "save", "discard"]),
        (instance(State.ERRORED, node=None), {}, ["discard"]),
        (instance(State.EXITED, gone=True), {"lost": True}, ["discard"]),
        (
            instance(State.ERRORED, gone=True, checkpoint_at=1.0),
            {"lost": True},
            ["go-on", "copy", "discard"],
        ),
        (
            instance(State.STARTING, checkpoint_at=1.0),
            {"lost": True},
            ["go-on", "stop", "copy", "discard"],
        ),
        (instance(State.UPLOADED, checkpoint_at=1.0), {"lost": True}, ["copy", "discard"]),
        (instance(State.UPLOADED), {}, ["copy", "discard"]),
        (instance(State.RUNNING, discard_asked_at=1.0), {"opens": True}, []),
        (instance(State.DISCARDED), {}, []),
    ],
)
def test_the_order_of_what_is_offered(one, options, names):
    assert offered(one, **options) == names
