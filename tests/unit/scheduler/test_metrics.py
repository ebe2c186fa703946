"""How long starts take, as the scheduler counts it."""

from dit4c_p2p.messages.instances import State
from dit4c_p2p.scheduler.metrics import SchedulerMetrics


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def starts(metrics):
    value = metrics.registry.get_sample_value
    name = "dit4c_instance_start_seconds"
    return value(f"{name}_count"), value(f"{name}_sum")


def test_a_start_lasts_from_the_order_until_it_runs_and_again_after_a_stop():
    clock = Clock()
    metrics = SchedulerMetrics(clock=clock)
    for state, at in [
        (State.CREATED, 100.0), (State.WAITING_FOR_IMAGE, 100.5), (State.STARTING, 101.0),
        (State.RUNNING, 102.0), (State.STOPPING, 200.0), (State.EXITED, 201.0),
        (State.STARTING, 300.0), (State.RUNNING, 300.5),
    ]:  # fmt: skip
        clock.now = at
        metrics.moved("abc", state)
    assert starts(metrics) == (2, 2.5)
    moved = metrics.registry.get_sample_value
    assert moved("dit4c_instance_transitions_total", {"state": "running"}) == 2


def test_what_failed_or_began_before_this_process_is_no_start():
    clock = Clock()
    metrics = SchedulerMetrics(clock=clock)
    for state in (State.CREATED, State.ERRORED, State.RUNNING):
        metrics.moved("abc", state)
    assert starts(metrics) == (0, 0)
    assert not metrics._began
