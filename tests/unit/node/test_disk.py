"""Which apps have written more than they may."""

from dit4c_p2p.node.disk import Allowance, Written

MIB = 1024**2
LIMIT = 100 * MIB


def runs(mib):
    return Written(mib * MIB, running=True)


def stopped(mib):
    return Written(mib * MIB, running=False)


def test_who_runs_and_is_over_the_limit():
    allowance = Allowance(LIMIT)
    assert allowance.over({"a": runs(1)}) == []
    measured = {"a": runs(100), "b": runs(101), "c": stopped(500), "d": runs(500)}
    assert allowance.over(measured) == ["b", "d"]


def test_started_again_over_the_limit_it_may_shrink_and_hardly_grow():
    allowance = Allowance(LIMIT)
    allowance.over({"a": runs(1)})
    assert allowance.over({"a": runs(200)}) == ["a"]
    # It went on to write while it was being stopped.
    assert allowance.over({"a": stopped(240)}) == []
    assert allowance.over({"a": runs(250)}) == []
    assert allowance.over({"a": runs(150)}) == []
    assert allowance.over({"a": runs(253)}) == ["a"]


def test_one_that_has_shrunk_while_it_was_down_or_is_gone_has_no_leeway():
    allowance = Allowance(LIMIT)
    allowance.over({"a": stopped(200)})
    allowance.over({"a": stopped(50)})
    assert allowance.over({"a": runs(101)}) == ["a"]
    allowance.over({})
    assert allowance.over({"a": runs(101)}) == ["a"]


def test_an_agent_that_has_just_begun_knows_nothing_of_before():
    """One that was over and started again is not stopped because the agent was upgraded."""
    allowance = Allowance(LIMIT)
    assert allowance.over({"a": runs(200), "b": runs(1)}) == []
    assert allowance.over({"a": runs(205), "b": runs(205)}) == ["b"]
    assert allowance.over({"a": runs(215), "b": stopped(205)}) == ["a"]
