"""A save: what its events make of an instance."""

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler.events import (
    DiscardAsked,
    ImageUploaded,
    Instance,
    Limits,
    PodExited,
    PodGone,
    PodSaved,
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
from dit4c_p2p.scheduler.lifecycle import advance_instance, work_of_instance

LIMITS = Limits(save_s=100, upload_s=200)
RUNNING = Instance(
    id="abc", image="sha256:1", state=State.RUNNING, node="node-home", pod_asked=True, ran=True
)
ASKED = SaveAsked("s1", 5)
STOPPED = (ASKED, PodStopped())
SAVED = (*STOPPED, PodSaved())
UPLOADING = (*SAVED, UploadBegun())
THERE = ImageUploaded("s1", "sha256:d")
CONFIRMED = UploadConfirmed("s1")
PRESERVED = (*UPLOADING, THERE, CONFIRMED)


def play(*events, instance=RUNNING, now=0.0):
    for event in events:
        instance = advance_instance(instance, event, now, LIMITS)
    return instance


def test_from_running_to_preserved():
    events = (*PRESERVED, PodGone())
    seen = [play(*events[:count]) for count in range(1, len(events) + 1)]
    assert [(one.state, work_of_instance(one)) for one in seen] == [
        (State.STOPPING, Work.STOP_POD),
        (State.SAVING, Work.SAVE_POD),
        (State.SAVED, Work.AWAIT_UPLOAD),
        (State.UPLOADING, Work.UPLOAD_IMAGE),
        (State.UPLOADING, Work.AWAIT_CONFIRMATION),
        (State.UPLOADED, Work.REMOVE_POD),
        (State.UPLOADED, None),
    ]
    assert (seen[-1].occupies, seen[-2].occupies) == (False, True)
    assert seen[-1].failed_save == ""


def test_the_container_stays_until_both_have_said_that_the_image_is_there():
    first = play(*UPLOADING, CONFIRMED)
    assert (first.state, work_of_instance(first)) == (State.UPLOADING, Work.UPLOAD_IMAGE)
    assert play(*UPLOADING, CONFIRMED, THERE).state is State.UPLOADED
    assert play(*UPLOADING, THERE, UploadConfirmed("another")).state is State.UPLOADING
    assert play(*UPLOADING, ImageUploaded("another", "sha256:d"), CONFIRMED).uploaded == ""


@pytest.mark.parametrize("how", [PodStopped(), PodExited(0)])
def test_a_save_is_remembered_through_stopping(how):
    asked_late = play(StopAsked(3), ASKED, how)
    assert (asked_late.state, asked_late.save) == (State.SAVING, "s1")
    assert play(PodExited(0), ASKED).state is State.SAVING
    assert play(PodExited(1), ASKED).state is State.SAVING


@pytest.mark.parametrize(
    ("events", "during"),
    [(STOPPED, State.SAVING), (SAVED, State.SAVED), (UPLOADING, State.UPLOADING)],
)
def test_what_can_not_be_saved_is_as_it_was(events, during):
    failed = play(*events, WorkFailed(during, "the disk is full"))
    assert (failed.state, failed.save, failed.failed_save) == (State.EXITED, "", "s1")
    assert failed.info == "Not saved, its files are still there: the disk is full"
    late = play(TimeUp(), instance=play(*events), now=500)
    assert (late.state, late.failed_save) == (State.EXITED, "s1")
    assert play(TimeUp(), instance=play(*events), now=1).state is during
    again = play(StartAsked(9), instance=failed)
    assert (again.state, again.run, again.ran) == (State.STARTING, 2, True)
    assert play(SaveAsked("s2", 9), instance=failed).save == "s2"


def test_a_container_that_is_gone_can_not_be_saved():
    for events in (STOPPED, SAVED, UPLOADING):
        gone = play(*events, PodVanished())
        assert (gone.state, gone.failed_save) == (State.ERRORED, "s1")
    assert play(ASKED, PodVanished()).failed_save == "s1"
    assert play(*UPLOADING, THERE, PodVanished(), CONFIRMED).state is State.UPLOADED


@pytest.mark.parametrize("state", [State.CREATED, State.WAITING_FOR_IMAGE, State.STARTING])
def test_what_does_not_run_yet_can_not_be_saved(state):
    asked = play(ASKED, instance=Instance(id="abc", state=state, node="node-home"))
    assert (asked.state, asked.save, asked.failed_save) == (state, "", "s1")


@pytest.mark.parametrize("state", [State.EXITED, State.ERRORED])
def test_what_was_never_reachable_can_not_be_saved(state):
    """Its image never came, or its app never answered: there is nothing of its user's."""
    never = Instance(id="abc", state=state, node="node-home", pod_asked=True, ran=False)
    asked = play(ASKED, instance=never)
    assert (asked.state, asked.save, asked.failed_save) == (state, "", "s1")


def test_an_older_wish_is_none_any_more():
    stopped = play(StopAsked(7), PodStopped())
    late = play(ASKED, instance=stopped)
    assert (late.state, late.failed_save) == (State.EXITED, "s1")
    assert play(ASKED, ASKED).failed_save == ""
    assert play(*UPLOADING, ASKED).failed_save == ""


def test_discarding_ends_a_save():
    for events in (STOPPED, SAVED, UPLOADING):
        assert play(*events, DiscardAsked()).state is State.DISCARDING
    assert play(ASKED, DiscardAsked(), PodStopped()).state is State.DISCARDING
    assert play(*PRESERVED, PodGone(), DiscardAsked()).state is State.DISCARDED
    assert play(*PRESERVED, DiscardAsked()).state is State.DISCARDING


def test_its_user_sees_how_far_it_is():
    seen = play(*UPLOADING, Progressed(State.UPLOADING, "uploading: 3 of 4 MiB", 0.75))
    assert (seen.info, seen.progress) == ("Uploading: 3 of 4 MiB", 0.75)
