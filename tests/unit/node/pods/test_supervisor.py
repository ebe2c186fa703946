"""How long an ended container waits before it is started again."""

from dit4c_p2p.node.pods.supervisor import Restarts


def test_pauses_grow_with_what_was_started_again_and_not_with_looks():
    restarts = Restarts()
    assert [restarts.pause_s(1000.0) for _ in range(10)] == [1.0] * 10
    pauses = []
    for now in range(8):
        pauses.append(restarts.pause_s(1000.0 + now))
        restarts.restarted(1000.0 + now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_one_that_ran_well_begins_anew():
    restarts = Restarts()
    for now in range(5):
        restarts.restarted(1000.0 + now)
    assert restarts.pause_s(1100.0) == 32
    assert restarts.pause_s(1125.0) == 1
