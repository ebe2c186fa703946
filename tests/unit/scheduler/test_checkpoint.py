"""A checkpoint: what its events make of an instance, beside what the instance becomes."""

from dataclasses import replace

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler.checkpoint import checkpoint_overdue
from dit4c_p2p.scheduler.events import (
    CheckpointAsked,
    CheckpointEnded,
    CheckpointProgressed,
    DiscardAsked,
    Instance,
    Limits,
    PodExited,
    PodInterrupted,
    PodStarted,
    PodStopped,
    PodVanished,
    SaveAsked,
    StartAsked,
    StopAsked,
)
from dit4c_p2p.scheduler.lifecycle import advance_instance

LIMITS = Limits(save_s=100, upload_s=200)
RUNNING = Instance(
    id="abc", image="sha256:1", state=State.RUNNING, node="node-home", pod_asked=True, ran=True
)
ASKED = CheckpointAsked("c1")


def play(*events, instance=RUNNING, now=1000.0):
    for event in events:
        instance = advance_instance(instance, event, now, LIMITS)
    return instance


def test_begun_told_and_done():
    begun = play(ASKED)
    assert (begun.state, begun.checkpoint, begun.checkpoint_deadline) == (
        State.RUNNING,
        "c1",
        1300.0,
    )
    told = play(CheckpointProgressed("c1", "uploading: 1 of 2 MiB", 7.0), instance=begun)
    assert (told.checkpoint_info, told.checkpoint_progress) == ("Uploading: 1 of 2 MiB", 1.0)
    done = play(CheckpointEnded("c1"), instance=told)
    assert done == RUNNING
    assert play(CheckpointEnded("c1"), instance=done) == done
    assert play(CheckpointProgressed("c1", "late"), instance=done) == done


def test_failed_and_asked_for_again():
    failed = play(ASKED, CheckpointEnded("c1", "the disk is full"))
    assert (failed.state, failed.checkpoint, failed.failed_checkpoint) == (State.RUNNING, "", "c1")
    assert failed.failed_checkpoint_info == "No checkpoint: the disk is full"
    assert play(ASKED, instance=failed) == failed, "the order may come twice"
    again = play(CheckpointAsked("c2"), instance=failed)
    assert (again.checkpoint, again.failed_checkpoint) == ("c2", "")
    assert "5 minutes" in checkpoint_overdue(again, LIMITS)


def test_another_meanwhile_is_refused():
    both = play(ASKED, CheckpointAsked("c2"))
    assert (both.checkpoint, both.failed_checkpoint) == ("c1", "c2")
    assert "under way" in both.failed_checkpoint_info


@pytest.mark.parametrize("state", [one for one in State if one is not State.RUNNING])
def test_what_does_not_run_has_none(state):
    refused = play(ASKED, instance=replace(RUNNING, state=state))
    assert (refused.state, refused.checkpoint, refused.failed_checkpoint) == (state, "", "c1")


@pytest.mark.parametrize(
    "events",
    [
        (StopAsked(3),),
        (StopAsked(3), PodStopped()),
        (StopAsked(3), PodStopped(), StartAsked(4), PodStarted()),
        (PodInterrupted(),),
        (PodExited(0),),
    ],
)
def test_goes_on_while_the_container_is_there(events):
    assert play(ASKED, *events).checkpoint == "c1"


@pytest.mark.parametrize(
    "events",
    [
        (SaveAsked("s1", 3), PodStopped()),
        (DiscardAsked(), PodStopped()),
        (PodVanished(),),
        (PodExited(1),),
    ],
)
def test_ends_with_what_takes_the_container(events):
    ended = play(ASKED, *events)
    assert (ended.checkpoint, ended.failed_checkpoint) == ("", "c1")
