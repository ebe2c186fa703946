"""Pieces of work are done in order, one behind who brings them."""

import asyncio
import threading

import pytest

from dit4c_p2p.one_behind import OneBehind


async def test_one_piece_is_done_while_the_next_is_brought():
    done, may_go = [], threading.Event()

    def first() -> None:
        assert may_go.wait(10)
        done.append(1)

    async with OneBehind() as behind:
        await behind.begin(first)
        assert done == [], "it runs while we go on"
        second = asyncio.create_task(behind.begin(lambda: done.append(2)))
        await asyncio.sleep(0.05)
        assert not second.done(), "the first piece comes first"
        may_go.set()
        await second
        await behind.finish()
        assert done == [1, 2]


async def test_a_failure_is_raised_with_the_next_piece_and_nothing_runs_at_the_end():
    def fail() -> None:
        raise ValueError("broken")

    async with OneBehind() as behind:
        await behind.begin(fail)
        with pytest.raises(ValueError, match="broken"):
            await behind.begin(lambda: None)
        await behind.finish()
    ended, may_end = [], threading.Event()

    def slow() -> None:
        assert may_end.wait(10)
        ended.append(True)

    with pytest.raises(KeyError):
        async with OneBehind() as behind:
            await behind.begin(slow)
            asyncio.get_running_loop().call_later(0.05, may_end.set)
            raise KeyError
    assert ended == [True]
