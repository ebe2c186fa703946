"""What apps use of their memory: what counts, and when it is worth telling."""

import asyncio

import pytest

from dit4c_p2p.messages.node import PodMemory
from dit4c_p2p.node.errors import EngineError
from dit4c_p2p.node.pods import memory_use
from dit4c_p2p.node.pods.memory_use import MemoryMonitor, has_changed, used_bytes

MIB = 1024**2


@pytest.mark.parametrize(
    ("stats", "used"),
    [
        ({"memory_stats": {"usage": 500, "stats": {"inactive_file": 80}}}, 420),
        ({"memory_stats": {"usage": 500, "stats": {"total_inactive_file": 90}}}, 410),
        ({"memory_stats": {"usage": 500}}, 500),
        ({"memory_stats": {"usage": 5, "stats": {"inactive_file": 80}}}, 5),
        ({"memory_stats": {}}, None),
        ({"memory_stats": {"usage": "500"}}, None),
        ({}, None),
    ],
)
def test_what_counts_against_the_limit(stats, used):
    assert used_bytes(stats) == used


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ({}, {}, False),
        ({}, {"a": 0}, True),
        ({"a": 0}, {}, True),
        ({"a": 100 * MIB}, {"a": 107 * MIB}, False),
        ({"a": 100 * MIB}, {"a": 108 * MIB}, True),
        ({"a": 100 * MIB, "b": 5}, {"a": 92 * MIB, "b": 5}, True),
    ],
)
def test_a_step_is_told_and_less_is_not(before, now, changed):
    assert has_changed(before, now, 200 * MIB) is changed


def test_a_step_grows_with_the_limit():
    assert not has_changed({"a": 0}, {"a": 81 * MIB}, 4096 * MIB)
    assert has_changed({"a": 0}, {"a": 82 * MIB}, 4096 * MIB)


async def test_only_changes_are_told_and_an_engine_that_is_away_ends_nothing(monkeypatch):
    monkeypatch.setattr(memory_use, "MEMORY_EVERY_S", 0)
    measured = [{"a": 0}, {"a": 1}, EngineError("away"), {"a": 9 * MIB}]
    told, done = [], asyncio.Event()

    async def measure():
        if not measured:
            done.set()
            await asyncio.Event().wait()
        said = measured.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    task = asyncio.create_task(MemoryMonitor(100 * MIB, measure, told.append).run())
    async with asyncio.timeout(10):
        await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == [PodMemory({"a": 0}, 100 * MIB), PodMemory({"a": 9 * MIB}, 100 * MIB)]
