"""A node's pods compared with the instances."""

import dataclasses

import pytest
from msgspec.structs import replace

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.node import PodState, PodStatus
from dit4c_p2p.scheduler.lifecycle import (
    Instance,
    Limits,
    PodExited,
    PodFound,
    PodInterrupted,
    PodNoted,
    PodRunsOn,
    PodVanished,
    advance_instance,
)
from dit4c_p2p.scheduler.reconcile import ReconcileFindings, compare_pods


def on_home(state: State, id: str = "abc") -> dict[str, Instance]:
    return {id: Instance(id=id, state=state, node="node-home", pod_asked=True)}


def pod(state: PodState, id: str = "abc") -> PodStatus:
    code = 3 if state is PodState.EXITED else None
    reason = "" if state is PodState.RUNNING else "why"
    return PodStatus(instance=id, state=state, exit_code=code, reason=reason, log_tail="log", run=2)


def test_a_container_that_is_gone():
    findings = compare_pods("node-home", [], on_home(State.RUNNING))
    assert findings == ReconcileFindings(events=(("abc", PodVanished()),))


@pytest.mark.parametrize("state", [one for one in State if one is not State.RUNNING])
def test_only_a_pod_that_ran_is_missed(state):
    assert compare_pods("node-home", [], on_home(state)) == ReconcileFindings()


def test_an_app_that_ended_while_nobody_listened():
    findings = compare_pods("node-home", [pod(PodState.EXITED)], on_home(State.RUNNING))
    assert findings == ReconcileFindings(events=(("abc", PodExited(3, "why", "log", 2)),))


@pytest.mark.parametrize("state", [PodState.RUNNING, PodState.PARTIAL])
def test_one_that_runs_or_is_being_made_is_no_news(state):
    assert compare_pods("node-home", [pod(state)], on_home(State.STARTING)) == ReconcileFindings()


@pytest.mark.parametrize("state", [State.ERRORED, State.EXITED])
def test_one_that_runs_although_its_instance_was_down_before_it_was_asked(state):
    findings = compare_pods("node-home", [pod(PodState.RUNNING)], on_home(state))
    assert findings == ReconcileFindings(events=(("abc", PodRunsOn()),))
    findings = compare_pods("node-home", [pod(PodState.PARTIAL)], on_home(state))
    assert findings == ReconcileFindings()


def test_a_pod_that_went_down_with_its_machine_and_one_that_is_back():
    findings = compare_pods("node-home", [pod(PodState.INTERRUPTED)], on_home(State.RUNNING))
    assert findings == ReconcileFindings(events=(("abc", PodInterrupted()),))
    back = PodStatus(instance="abc", state=PodState.RUNNING, reason="it was started again")
    findings = compare_pods("node-home", [back], on_home(State.RUNNING))
    assert findings == ReconcileFindings(events=(("abc", PodNoted("it was started again")),))


@pytest.mark.parametrize("state", [one for one in State if one is not State.CREATED])
@pytest.mark.parametrize("of_pod", PodState)
def test_what_every_list_says_again_is_no_line_in_the_log(state, of_pod, caplog):
    caplog.set_level("INFO")
    for status in (pod(of_pod), replace(pod(of_pod), reason="it was started again")):
        instances = on_home(state)
        for _ in range(2):
            for id, event in compare_pods("node-home", [status], instances).events:
                instances[id] = advance_instance(instances[id], event, 0, Limits())
    assert not caplog.records


@pytest.mark.parametrize("state", PodState)
def test_what_a_discarded_instance_left_is_removed(state):
    findings = compare_pods("node-home", [pod(state)], on_home(State.DISCARDED))
    assert findings == ReconcileFindings(leftovers=("abc",))


@pytest.mark.parametrize("state", PodState)
def test_an_unknown_pod_is_never_removed(state):
    """security.md, section 2, row 16: nothing is thrown away because it is not understood."""
    assert compare_pods("node-home", [pod(state)], {}) == ReconcileFindings(unknown=("abc",))
    elsewhere = on_home(State.DISCARDED)
    assert compare_pods("node-other", [pod(state)], elsewhere) == ReconcileFindings(
        unknown=("abc",)
    )


def test_a_node_speaks_of_its_own_instances_only():
    """security.md, section 1: a node's owner can touch only what runs on that node."""
    assert compare_pods("node-other", [], on_home(State.RUNNING)) == ReconcileFindings()
    findings = compare_pods("node-other", [pod(PodState.EXITED)], on_home(State.RUNNING))
    assert findings == ReconcileFindings(unknown=("abc",))


@pytest.mark.parametrize("state", [State.ERRORED, State.EXITED])
def test_a_stopped_container_that_is_gone_and_one_that_is_back(state):
    (kept,) = on_home(state).values()
    kept = dataclasses.replace(kept, ran=True)
    assert compare_pods("node-home", [], {"abc": kept}).events == (("abc", PodVanished()),)
    gone = dataclasses.replace(kept, gone=True)
    assert compare_pods("node-home", [], {"abc": gone}) == ReconcileFindings()
    found = compare_pods("node-home", [pod(PodState.PARTIAL)], {"abc": gone})
    assert found.events == (("abc", PodFound()),)
