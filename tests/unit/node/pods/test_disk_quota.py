"""Which apps have written more than they may."""

import asyncio

from dit4c_p2p.node.errors import EngineError, FilesFailed
from dit4c_p2p.node.pods import disk_quota
from dit4c_p2p.node.pods.disk_quota import DiskAllowance, DiskQuotaMonitor, WrittenBytes

MIB = 1024**2
LIMIT = 100 * MIB


def runs(mib):
    return WrittenBytes(mib * MIB, running=True)


def stopped(mib):
    return WrittenBytes(mib * MIB, running=False)


def test_who_runs_and_is_over_the_limit():
    allowance = DiskAllowance(LIMIT)
    assert allowance.over({"a": runs(1)}) == []
    measured = {"a": runs(100), "b": runs(101), "c": stopped(500), "d": runs(500)}
    assert allowance.over(measured) == ["b", "d"]


def test_started_again_over_the_limit_it_may_shrink_and_hardly_grow():
    allowance = DiskAllowance(LIMIT)
    allowance.over({"a": runs(1)})
    assert allowance.over({"a": runs(200)}) == ["a"]
    assert allowance.over({"a": runs(200)}) == ["a"], "as long as it is not stopped"
    # It went on to write while it was being stopped.
    assert allowance.over({"a": stopped(240)}) == []
    assert allowance.over({"a": runs(250)}) == []
    assert allowance.over({"a": runs(150)}) == []
    assert allowance.over({"a": runs(253)}) == ["a"]


def test_one_that_has_shrunk_while_it_was_down_or_is_gone_has_no_leeway():
    allowance = DiskAllowance(LIMIT)
    allowance.over({"a": stopped(200)})
    allowance.over({"a": stopped(50)})
    assert allowance.over({"a": runs(101)}) == ["a"]
    allowance.over({})
    assert allowance.over({"a": runs(101)}) == ["a"]


def test_an_agent_that_has_just_begun_knows_nothing_of_before():
    """One that was over and started again is not stopped because the agent was upgraded."""
    allowance = DiskAllowance(LIMIT)
    assert allowance.over({"a": runs(200), "b": runs(1)}) == []
    assert allowance.over({"a": runs(205), "b": runs(205)}) == ["b"]
    assert allowance.over({"a": runs(215), "b": stopped(205)}) == ["a"]


async def test_one_that_can_not_be_stopped_or_measured_is_tried_again(monkeypatch):
    monkeypatch.setattr(disk_quota, "MEASURE_EVERY_S", 0.0)
    failures = [FilesFailed(OSError(28, "No space left on device")), EngineError("away")]
    measured = [EngineError("away"), {"a": runs(1)}]
    stopped_for = asyncio.get_running_loop().create_future()

    async def measure():
        now = measured.pop(0) if measured else {"a": runs(200)}
        if isinstance(now, EngineError):
            raise now
        return now

    async def end(instance, reason):
        if failures:
            raise failures.pop(0)
        if not stopped_for.done():
            stopped_for.set_result((instance, reason))

    task = asyncio.create_task(DiskQuotaMonitor(LIMIT, measure, end).run())
    async with asyncio.timeout(10):
        instance, reason = await stopped_for
    assert instance == "a"
    assert "more than the 100 MiB" in reason
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
