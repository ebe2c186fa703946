"""The table of states and events."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.scheduler.lifecycle import (
    MAX_INFO_CHARS,
    TABLE,
    WORK,
    DiscardAsked,
    Event,
    ImageReady,
    Instance,
    Limits,
    NodeLost,
    Placed,
    PodExited,
    PodFound,
    PodGone,
    PodInterrupted,
    PodNoted,
    PodRunsOn,
    PodStarted,
    PodStopped,
    PodVanished,
    Progressed,
    StartAsked,
    StopAsked,
    TimeUp,
    Work,
    WorkFailed,
    advance_instance,
    work_of_instance,
)

NEW = Instance(id="abc", image="sha256:1", key_nonce="n")
LIMITS = Limits(image_s=100, start_s=200)
HOME = Placed("node-home")
UP_TO_RUNNING = (HOME, ImageReady(), PodStarted())
CRASH = PodExited(1, "the app ended by itself with exit code 1", "last line")


def play(*events: Event, instance: Instance = NEW, now: float = 0) -> Instance:
    for event in events:
        instance = advance_instance(instance, event, now, LIMITS)
    return instance


def states(*events: Event) -> list[State]:
    return [play(*events[:count]).state for count in range(1, len(events) + 1)]


def test_from_start_to_running_and_discarded():
    events = (*UP_TO_RUNNING, DiscardAsked(), PodStopped(), PodGone())
    assert states(*events) == [
        State.WAITING_FOR_IMAGE,
        State.STARTING,
        State.RUNNING,
        State.STOPPING,
        State.DISCARDING,
        State.DISCARDED,
    ]
    assert play(*UP_TO_RUNNING).node == "node-home"
    assert [work_of_instance(play(*events[:count])) for count in range(7)] == [
        Work.PLACE,
        Work.FETCH_IMAGE,
        Work.START_POD,
        None,
        Work.STOP_POD,
        Work.REMOVE_POD,
        None,
    ]


def test_an_end_without_a_pod_needs_no_node():
    assert play(DiscardAsked()).state is State.DISCARDED
    assert play(HOME, DiscardAsked()).state is State.DISCARDED
    failed = play(HOME, WorkFailed(State.WAITING_FOR_IMAGE, "no such image"))
    assert failed.state is State.ERRORED
    assert not failed.occupies
    assert play(DiscardAsked(), instance=failed).state is State.DISCARDED


def test_from_the_moment_a_pod_may_exist_it_is_removed():
    asked = play(HOME, ImageReady())
    assert asked.pod_asked
    assert play(DiscardAsked(), instance=asked).state is State.DISCARDING
    errored = play(WorkFailed(State.STARTING, "no"), instance=asked)
    assert errored.occupies
    assert play(DiscardAsked(), instance=errored).state is State.DISCARDING
    exited = play(*UP_TO_RUNNING, PodExited(0))
    assert play(DiscardAsked(), instance=exited).state is State.DISCARDING


def test_a_discard_is_remembered_through_stopping():
    for ended in (PodStopped(), PodExited(137, "by force"), PodVanished()):
        assert states(*UP_TO_RUNNING, DiscardAsked(), ended)[-1] is State.DISCARDING


def test_how_an_app_ended_decides_what_its_user_sees():
    content = play(*UP_TO_RUNNING, PodExited(0, "", "bye"))
    assert (content.state, content.info) == (State.EXITED, "The app has ended by itself")
    crashed = play(*UP_TO_RUNNING, CRASH)
    assert (crashed.state, crashed.log_tail) == (State.ERRORED, "last line")
    assert crashed.info == "The app ended by itself with exit code 1"
    early = play(HOME, ImageReady(), PodExited(0))
    assert early.state is State.ERRORED
    assert early.info == "The app ended before it could be reached with code 0"
    lost = play(*UP_TO_RUNNING, PodVanished())
    assert lost.info == "Its container is gone from the machine it ran on"


def test_what_was_the_users_is_gone_with_the_instance():
    errored = play(*UP_TO_RUNNING, CRASH)
    assert play(DiscardAsked(), PodGone(), instance=errored).log_tail == ""


STOPPED = (*UP_TO_RUNNING, StopAsked(5), PodStopped())


def test_stopped_and_started_again_in_a_run_of_its_own():
    assert states(*STOPPED)[-2:] == [State.STOPPING, State.EXITED]
    assert play(*STOPPED).info == "Stopped; its files are kept"
    again = play(*STOPPED, StartAsked(8))
    assert (again.state, again.run, again.ran, again.node) == (State.STARTING, 2, True, "node-home")
    assert again.deadline == LIMITS.start_s
    assert work_of_instance(again) is Work.START_POD
    assert play(PodStarted(), instance=again).state is State.RUNNING
    assert play(StopAsked(9), instance=again).state is State.STOPPING


@pytest.mark.parametrize("ended", [PodExited(0), CRASH])
def test_an_app_that_ended_starts_again(ended):
    again = play(*UP_TO_RUNNING, ended, StartAsked(7))
    assert (again.state, again.run, again.log_tail) == (State.STARTING, 2, "")


def test_the_end_of_an_earlier_run_is_none_of_this_one():
    late = PodExited(143, "it was stopped as asked")
    again = play(*STOPPED, StartAsked(8))
    assert play(late, instance=again) == again
    running = play(PodStarted(), instance=again)
    assert play(late, instance=running) == running
    stopping = play(StopAsked(12), instance=running)
    assert play(late, instance=stopping) == stopping
    assert play(replace(late, run=2), instance=stopping).state is State.EXITED


def test_one_that_had_gone_down_runs_again_and_says_so():
    again = play(*UP_TO_RUNNING, PodInterrupted())
    assert again.state is State.STARTING
    assert "went down" in again.info
    running = play(PodStarted("the machine went down; started again"), instance=again)
    assert (running.state, running.info) == (State.RUNNING, "The machine went down; started again")
    assert play(*UP_TO_RUNNING).info == "Running"


def test_an_older_wish_that_comes_late_is_none():
    again = play(*STOPPED, StartAsked(8), PodStarted())
    assert play(StopAsked(5), instance=again) == again
    assert play(StopAsked(8), instance=again) == again
    # The app ended by itself before the wish to stop it arrived, and another after it.
    started = play(*UP_TO_RUNNING, PodExited(0), StartAsked(8), StopAsked(5))
    assert started.state is State.STARTING
    satisfied = play(*UP_TO_RUNNING, PodExited(0), StopAsked(5))
    assert (satisfied.state, satisfied.wish) == (State.EXITED, 5)


def test_one_that_was_never_reachable_is_tried_anew_from_its_image():
    for tried in (
        (HOME, WorkFailed(State.WAITING_FOR_IMAGE, "no such image")),
        (HOME, ImageReady(), WorkFailed(State.STARTING, "does not listen")),
    ):
        again = play(*tried, StartAsked(6))
        assert (again.state, again.run, again.ran) == (State.WAITING_FOR_IMAGE, 2, False)
        ended = play(DiscardAsked(), instance=again)
        assert ended.state is (State.DISCARDING if again.pod_asked else State.DISCARDED)


@pytest.mark.parametrize("ended", [PodVanished(), PodStopped()])
def test_one_that_is_stopped_before_it_was_reachable_is_stopped_whatever_there_is_of_it(ended):
    stopped = play(HOME, ImageReady(), StopAsked(5), ended)
    assert (stopped.state, stopped.info) == (State.EXITED, "Stopped")
    again = play(StartAsked(6), instance=stopped)
    assert (again.state, work_of_instance(again)) == (State.WAITING_FOR_IMAGE, Work.FETCH_IMAGE)
    assert play(ImageReady(), PodStarted(), instance=again).state is State.RUNNING
    assert play(DiscardAsked(), PodGone(), instance=stopped).state is State.DISCARDED


def test_what_goes_down_with_its_machine_starts_again_and_says_so():
    again = play(*UP_TO_RUNNING, PodInterrupted())
    assert (again.state, again.run, again.ran) == (State.STARTING, 1, True)
    assert again.info == "The machine it runs on went down; starting the app again"
    running = play(PodStarted(), instance=again)
    told = play(PodNoted("it was started again"), instance=running)
    assert (told.state, told.info) == (State.RUNNING, "It was started again")
    for state in set(State) - {State.RUNNING}:
        other = replace(NEW, state=state)
        assert play(PodInterrupted(), PodNoted("x"), instance=other) == other


def test_a_discard_comes_after_a_stop_that_is_under_way():
    stopping = play(*UP_TO_RUNNING, StopAsked(5), DiscardAsked())
    assert (stopping.state, stopping.discard_wanted) == (State.STOPPING, True)
    assert play(PodStopped(), instance=stopping).state is State.DISCARDING
    gone = play(*UP_TO_RUNNING, StopAsked(5), PodVanished())
    assert gone.state is State.ERRORED


def test_time_limits():
    waiting = advance_instance(NEW, HOME, 1000, LIMITS)
    assert waiting.deadline == 1100
    assert advance_instance(waiting, TimeUp(), 1099, LIMITS) == waiting
    late = advance_instance(waiting, TimeUp(), 1100, Limits())
    assert (late.state, late.deadline) == (State.ERRORED, None)
    assert late.info.startswith("The image was not ready within an hour")
    starting = advance_instance(waiting, ImageReady(), 1050, LIMITS)
    assert starting.deadline == 1250
    starting = advance_instance(
        starting, Progressed(State.STARTING, "waiting for port 8888"), 1051, LIMITS
    )
    assert advance_instance(starting, TimeUp(), 1249, LIMITS) == starting
    late = play(TimeUp(), PodStopped(), instance=starting, now=1250)
    assert (late.state, late.deadline) == (State.ERRORED, None)
    assert late.info == (
        "No start within 3.33 minutes; the last that was heard: Waiting for port 8888"
    )
    assert play(TimeUp(), instance=play(*UP_TO_RUNNING), now=1e9).state is State.RUNNING


LATE = advance_instance(play(HOME, ImageReady()), TimeUp(), LIMITS.start_s, LIMITS)
TOO_LATE = "No start within 3.33 minutes; the last that was heard: Starting the container"


def test_what_did_not_start_in_time_is_stopped_before_it_is_said_to_have_failed():
    assert (LATE.state, work_of_instance(LATE), LATE.occupies) == (
        State.STOPPING,
        Work.STOP_POD,
        True,
    )
    assert LATE.info == f"{TOO_LATE}. Stopping the app"
    assert play(PodStarted(), instance=LATE) == LATE, "it comes up too late"
    waiting = play(Progressed(State.STOPPING, "waiting for node-home to answer"), instance=LATE)
    assert waiting.info == f"{TOO_LATE}. Waiting for node-home to answer"
    for ended in (PodStopped(), PodExited(143), PodVanished()):
        failed = play(ended, instance=waiting)
        assert (failed.state, failed.info, failed.failure) == (State.ERRORED, TOO_LATE, "")
    again = play(PodStopped(), StartAsked(9), PodStopped(), instance=LATE)
    assert (again.state, again.run) == (State.WAITING_FOR_IMAGE, 2)
    discarded = play(DiscardAsked(), PodStopped(), instance=LATE)
    assert (discarded.state, discarded.failure) == (State.DISCARDING, "")


def test_one_with_files_that_is_gone_when_it_is_to_be_stopped_says_so():
    again = play(*UP_TO_RUNNING, PodInterrupted())
    late = advance_instance(again, TimeUp(), LIMITS.start_s, LIMITS)
    assert (late.state, late.failure[:8]) == (State.STOPPING, "No start")
    gone = play(PodVanished(), instance=late)
    assert gone.info == "Its container is gone from the machine it ran on"


def test_the_end_of_its_log_is_kept_whether_told_before_or_after_it_has_stopped():
    ended = PodExited(143, "it was stopped as asked", "last line")
    for events in ((ended, PodStopped()), (PodStopped(), ended)):
        failed = play(*events, instance=LATE)
        assert (failed.state, failed.info, failed.log_tail) == (
            State.ERRORED,
            TOO_LATE,
            "last line",
        )
    assert play(replace(ended, log_tail="other"), instance=failed) == failed
    stale = replace(failed, log_tail="", run=2)
    assert play(ended, instance=stale) == stale


def test_what_runs_on_is_stopped():
    failed = play(HOME, ImageReady(), WorkFailed(State.STARTING, "no", "last line"))
    found = play(PodRunsOn(), instance=failed)
    assert (found.state, found.info) == (State.STOPPING, "No. Stopping the app")
    again = play(PodStopped(), instance=found)
    assert again == failed
    exited = play(*STOPPED)
    found = play(PodRunsOn(), instance=exited)
    assert (found.state, work_of_instance(found)) == (State.STOPPING, Work.STOP_POD)
    assert play(PodStopped(), instance=found) == exited
    for state in set(State) - {State.EXITED, State.ERRORED}:
        other = replace(NEW, state=state)
        assert play(PodRunsOn(), instance=other) == other


def test_progress_is_of_the_work_it_belongs_to():
    starting = play(HOME, ImageReady())
    told = play(Progressed(State.STARTING, "half way", 0.5), instance=starting)
    assert (told.info, told.progress) == ("Half way", 0.5)
    assert play(Progressed(State.WAITING_FOR_IMAGE, "late", 1), instance=told) == told
    assert play(WorkFailed(State.WAITING_FOR_IMAGE, "late"), instance=told) == told
    assert play(Progressed(State.STARTING, "x", 7.0), instance=starting).progress == 1.0
    assert len(play(Progressed(State.STARTING, "x" * 9999), instance=starting).info) == (
        MAX_INFO_CHARS
    )
    assert play(PodStarted(), instance=told).progress is None


def test_the_table_is_whole():
    assert set(TABLE) == set(State)
    assert all(TABLE[state] == {} for state in FINAL)
    assert not set(WORK) & FINAL
    for state in set(State) - FINAL - {State.DISCARDING}:
        assert DiscardAsked in TABLE[state], f"an instance that is {state} can be discarded"


# ---- whatever comes, in whatever order

ANY = st.one_of(
    st.just(DiscardAsked()),
    st.builds(Placed, st.sampled_from(["node-a", "node-b"])),
    st.just(ImageReady()),
    st.builds(Progressed, st.sampled_from(State), st.text(max_size=9), st.floats(0, 1)),
    st.builds(WorkFailed, st.sampled_from(State), st.text(max_size=9), st.text(max_size=9)),
    st.just(TimeUp()),
    st.just(PodStarted()),
    st.builds(
        PodExited,
        st.sampled_from([None, 0, 1, 137]),
        st.text(max_size=9),
        run=st.integers(1, 4),
    ),
    st.builds(StopAsked, st.integers(0, 20)),
    st.builds(StartAsked, st.integers(0, 20)),
    st.just(PodInterrupted()),
    st.builds(PodNoted, st.text(max_size=9)),
    st.just(PodRunsOn()),
    st.just(PodVanished()),
    st.just(PodStopped()),
    st.just(PodGone()),
)

# How far along its life a state is; an instance goes back only to start again.
RANK = {
    State.CREATED: 0,
    State.WAITING_FOR_IMAGE: 1,
    State.STARTING: 2,
    State.RUNNING: 3,
    State.STOPPING: 4,
    State.EXITED: 4,
    State.ERRORED: 4,
    State.DISCARDING: 5,
    State.DISCARDED: 6,
}


@settings(deadline=None)
@given(st.lists(st.tuples(ANY, st.floats(0, 1e6)), max_size=30))
def test_nothing_goes_back_and_nothing_is_resurrected(happenings):
    instance = NEW
    for event, now in happenings:
        after = advance_instance(instance, event, now, LIMITS)
        if RANK[after.state] < RANK[instance.state]:
            again = isinstance(event, StartAsked) and event.after > instance.wish
            assert again or isinstance(event, PodInterrupted)
            assert after.state is State.STARTING or not instance.ran
        assert after.run == instance.run + (
            instance.state != after.state and isinstance(event, StartAsked)
        )
        assert after.wish >= instance.wish
        assert after.ran or not instance.ran
        if instance.state in FINAL:
            assert after is instance
        if instance.discard_wanted:
            assert after.discard_wanted
            assert after.state in {State.STOPPING, State.DISCARDING, State.DISCARDED}
        if after.state is State.DISCARDING:
            assert after.pod_asked
        if after.failure:
            assert after.state is State.STOPPING
        if after.state is State.ERRORED and instance.state is State.STARTING:
            assert isinstance(event, (WorkFailed, PodExited)), "a node's word that nothing runs"
        if after.node is not None and instance.node is not None:
            assert after.node == instance.node, "it stays where it was placed"
        instance = after


@settings(deadline=None)
@given(st.lists(ANY, max_size=12), ANY)
def test_an_event_twice_is_an_event_once(before, event):
    once = advance_instance(play(*before), event, 0, LIMITS)
    assert advance_instance(once, event, 0, LIMITS) == once


class Ideal:
    """A node that does what it is asked; its app ends with ``exit_code``, or runs on (None)."""

    def __init__(self, exit_code: int | None, interruptions: int) -> None:
        self.exit_code = exit_code
        self.interruptions = interruptions

    def does(self, instance: Instance) -> list[Event]:
        """What happens because of what the instance's state calls for."""
        match work_of_instance(instance):
            case Work.PLACE:
                return [HOME]
            case Work.FETCH_IMAGE:
                return [ImageReady()]
            case Work.START_POD:
                return [PodStarted()]
            case Work.STOP_POD:
                return [PodStopped()]
            case Work.REMOVE_POD:
                return [PodGone()]
        if instance.state is State.RUNNING and self.interruptions:
            self.interruptions -= 1
            return [PodInterrupted()]
        if instance.state is State.RUNNING and self.exit_code is not None:
            return [PodExited(self.exit_code, run=instance.run)]
        return []


class Person:
    """Stops what runs and starts what doesn't, ``wishes`` times, by what their page shows."""

    def __init__(self, wishes: int) -> None:
        self.wishes = wishes
        self.seen = 0

    def wants(self, instance: Instance) -> list[Event]:
        """The next wish; each is after a newer report than the one before."""
        self.seen += 1
        if self.wishes and instance.state in {State.RUNNING, State.EXITED, State.ERRORED}:
            self.wishes -= 1
            stop = instance.state is State.RUNNING
            return [StopAsked(self.seen) if stop else StartAsked(self.seen)]
        return []


# A thousand lives of ten and more messages.
@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from([None, 0, 1]),
    st.booleans(),
    st.integers(0, 2),
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=40),
    st.data(),
)
def test_messages_doubled_reordered_replayed_same_final_state(
    exit_code, discard, interruptions, wishes, echoes, data
):
    """security.md, section 5: messages doubled, reordered, replayed."""
    node, person, instance = Ideal(exit_code, interruptions), Person(wishes), NEW
    happened: list[Event] = [DiscardAsked()] if discard else []
    waiting = list(happened)
    steps = 0
    while True:
        waiting += (person.wants(instance) or node.does(instance)) if not waiting else []
        happened += waiting
        if not waiting:
            break
        event = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        instance = advance_instance(instance, event, 0, LIMITS)
        # What has happened before comes again, at any time and in any order; but what answers a
        # call comes on that call, and an interruption is over once the pod was started again.
        for when, which in echoes:
            echo = happened[which % len(happened)]
            answers = (PodStarted, PodStopped, PodGone, ImageReady, PodInterrupted)
            may_be_late = not isinstance(echo, answers) or echo == event
            if when == steps and may_be_late:
                instance = advance_instance(instance, echo, 0, LIMITS)
        steps += 1
    ended = {None: State.RUNNING, 0: State.EXITED, 1: State.ERRORED}[exit_code]
    if person.wishes == 0 and wishes and not discard:
        # The last wish decides, unless the app had the last word.
        assert instance.state in {ended, State.EXITED}
        assert instance.wish > 0
    else:
        assert instance.state is (State.DISCARDED if discard else ended)


@pytest.mark.parametrize("state", State)
def test_unknown_events_are_ignored_with_a_log_line(state, caplog):
    caplog.set_level("INFO")
    instance = replace(NEW, state=state)
    unheard = [e for e in (PodGone(), Placed("node-x")) if type(e) not in TABLE[state]]
    for event in unheard:
        assert advance_instance(instance, event, 0, LIMITS) is instance
    assert caplog.text.count(f"ignored while {state}") == len(unheard)


def test_a_pod_that_goes_is_a_log_line_only_where_it_was_to_stay(caplog):
    caplog.set_level("INFO")
    going = play(*UP_TO_RUNNING, DiscardAsked(), PodStopped())
    play(PodVanished(), PodGone(), PodVanished(), instance=going)
    assert not caplog.records
    caplog.clear()
    gone = play(*STOPPED, PodVanished())
    assert (gone.state, gone.gone) == (State.ERRORED, True)


# ---- a container that is gone, a node that is lost, a key that was revoked


@pytest.mark.parametrize(
    "events", [UP_TO_RUNNING, STOPPED, (*UP_TO_RUNNING, PodExited(1, "it crashed"))]
)
def test_what_is_gone_can_not_be_started_again(events):
    gone = play(*events, PodVanished())
    assert (gone.state, gone.gone) == (State.ERRORED, True)
    assert "gone from the machine" in gone.info
    assert play(StartAsked(99), instance=gone).state is State.ERRORED
    back = play(PodFound(), instance=gone)
    assert not back.gone
    assert play(StartAsked(99), instance=back).state is State.STARTING
    assert play(DiscardAsked(), PodGone(), instance=gone).state is State.DISCARDED


def test_a_start_that_finds_no_container_says_that_it_is_gone():
    again = play(*STOPPED, StartAsked(99))
    assert play(WorkFailed(State.STARTING, "it is gone", gone=True), instance=again).gone


LOST = NodeLost("the key of its machine (node-home) was revoked")


@pytest.mark.parametrize("count", range(1, len(UP_TO_RUNNING)))
def test_a_lost_node_ends_whatever_waits_for_it(count):
    lost = play(*UP_TO_RUNNING[:count], LOST)
    assert lost.state is State.ERRORED
    assert lost.info == "The key of its machine (node-home) was revoked"


def test_a_discard_ends_without_a_node_that_is_lost():
    for waiting in (
        play(*UP_TO_RUNNING, DiscardAsked()),
        play(*UP_TO_RUNNING, DiscardAsked(), PodStopped()),
        play(*UP_TO_RUNNING, StopAsked(99), LOST, DiscardAsked()),
    ):
        gone = play(LOST, instance=waiting)
        assert gone.state is State.DISCARDED
        assert "out of reach: the key of its machine" in gone.info
    assert play(*UP_TO_RUNNING, LOST).state is State.RUNNING
    stopping = play(*UP_TO_RUNNING, StopAsked(99), LOST)
    assert stopping.state is State.ERRORED


def test_a_new_key_for_what_runs_and_for_what_is_stopped():
    running = play(*UP_TO_RUNNING)
    renewed = play(StartAsked(99, new_key=True), instance=running)
    assert (renewed.state, renewed.key_run, renewed.run) == (State.STARTING, 1, running.run)
    assert play(StartAsked(99, new_key=True), instance=renewed) == renewed, "asked once"
    assert play(PodStarted(), instance=renewed).state is State.RUNNING
    assert play(StartAsked(99), instance=running).state is State.RUNNING
    again = play(*STOPPED, StartAsked(99, new_key=True))
    assert (again.state, again.key_run, again.run) == (State.STARTING, 1, running.run + 1)
    assert play(*STOPPED, StartAsked(99)).key_run == 0
