"""Going on at another node: what it makes of an instance, and of what is found at earlier nodes."""

from dataclasses import replace

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.node import PodState, PodStatus
from dit4c_p2p.scheduler.events import (
    DiscardAsked,
    Instance,
    Limits,
    MoveAsked,
    NodeLost,
    Placed,
    StrayFound,
    StrayGone,
    Work,
)
from dit4c_p2p.scheduler.lifecycle import advance_instance, work_of_instance
from dit4c_p2p.scheduler.placement import WaitForPlace, choose_node
from dit4c_p2p.scheduler.reconcile import compare_pods

LIMITS = Limits()
RUNNING = Instance(
    id="abc",
    image="sha256:1",
    state=State.RUNNING,
    node="node-a",
    pod_asked=True,
    ran=True,
    run=3,
    sequence=7,
    wish=6,
    key_run=1,
    checkpoint="c9",
)
MOVE = MoveAsked(1, "saved/instances/abc@sha256:d", "nonce2")


def play(*events, instance=RUNNING):
    for event in events:
        instance = advance_instance(instance, event, 0.0, LIMITS)
    return instance


@pytest.mark.parametrize(
    "before", [RUNNING, play(NodeLost("lost")), replace(RUNNING, state=State.ERRORED, gone=True)]
)
def test_it_begins_like_a_new_one(before):
    moved = play(MOVE, instance=before)
    assert (moved.state, moved.node, work_of_instance(moved)) == (State.CREATED, None, Work.PLACE)
    assert (moved.image, moved.key_nonce, moved.epoch) == (MOVE.image, "nonce2", 1)
    assert (moved.run, moved.ran, moved.gone, moved.key_run) == (1, False, False, 0)
    assert (moved.sequence, moved.wish) == (7, 6), "reports and wishes are counted on"
    assert (moved.left_nodes, moved.occupies) == (["node-a"], False)
    assert (moved.checkpoint, moved.failed_checkpoint) == ("", "c9")
    assert play(MOVE, instance=moved) == moved, "the order may come twice"
    again = play(Placed("node-b"), instance=moved)
    assert play(MOVE, instance=again) == again, "and late"


@pytest.mark.parametrize("state", [State.DISCARDING, State.DISCARDED, State.UPLOADED])
def test_what_goes_does_not_go_on(state):
    going = replace(RUNNING, state=state)
    assert play(MOVE, instance=going) == going
    assert play(DiscardAsked(), MOVE).epoch == 0


def test_an_earlier_node_is_not_chosen():
    waits = choose_node([], {}, {}, moved=True)
    assert isinstance(waits, WaitForPlace)
    assert "no other" in waits.info


def pod(state: PodState) -> PodStatus:
    return PodStatus(instance="abc", state=state)


@pytest.mark.parametrize(
    ("state", "stopped"),
    [
        (PodState.RUNNING, True),
        (PodState.INTERRUPTED, True),
        (PodState.PARTIAL, True),
        (PodState.EXITED, False),
    ],
)
def test_what_an_earlier_node_has_is_stopped_and_kept(state, stopped):
    moved = play(MOVE, Placed("node-b"))
    found = compare_pods("node-a", [pod(state)], {"abc": moved})
    assert found.events == (("abc", StrayFound("node-a")),)
    assert (found.strays, found.leftovers, found.unknown) == (("abc",) if stopped else (), (), ())
    kept = play(*(event for _, event in found.events), instance=moved)
    assert kept.kept_on == "node-a"
    gone = compare_pods("node-a", [], {"abc": kept})
    assert gone.events == (("abc", StrayGone("node-a")),)
    assert play(StrayGone("node-a"), instance=kept).left_nodes == []
    discarded = replace(kept, state=State.DISCARDED)
    assert compare_pods("node-a", [pod(state)], {"abc": discarded}).leftovers == ("abc",)
    # Nobody has placed it there.
    assert compare_pods("node-c", [pod(state)], {"abc": kept}).unknown == ("abc",)
    assert play(StrayFound("node-c"), instance=kept) == kept
