"""Stopped and started again by its user, and gone down with its machine."""

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartAgain, StopInstance
from dit4c_p2p.messages.node import EnsureImage, Failure, PodState, PodStatus, StartPod, StopPod


async def running(world) -> int:
    """A running instance; the number of the report that says so."""
    await world.start()
    return (await world.portal.until_state("abc", State.RUNNING)).sequence


async def stopped(world) -> int:
    await world.portal.order(StopInstance(instance="abc", after=await running(world)))
    return (await world.portal.until_state("abc", State.EXITED)).sequence


async def test_stopped_and_started_again_on_the_same_node(world):
    async with world.scheduler():
        seen = await stopped(world)
        assert world.portal.newest["abc"].info == "Stopped; its files are kept"
        await world.portal.order(StartAgain(instance="abc", after=seen))
        await world.portal.until_state("abc", State.RUNNING)
        await world.portal.until(lambda: world.portal.states("abc")[-2:] == ["starting", "running"])
        assert (world.node.made, world.node.starts) == ({"abc": 1}, {"abc": 2})
        first, second = (ask for ask in world.node.asked if isinstance(ask, StartPod))
        assert (first.run, first.kept) == (1, False)
        assert (second.run, second.kept) == (2, True)
        assert len(world.portal.keys) == 1, "the same key"
        assert not world.portal.orders


async def test_asked_twice_it_happens_once_and_an_old_wish_is_none(world):
    async with world.scheduler():
        seen = await stopped(world)
        again = StartAgain(instance="abc", after=seen)
        await world.portal.order(again)
        await world.portal.order(again)
        await world.portal.until_state("abc", State.RUNNING)
        await world.portal.order(StopInstance(instance="abc", after=1))
        await world.portal.order(again)
        await world.portal.until(lambda: not world.portal.orders)
        assert world.portal.newest["abc"].state is State.RUNNING
        assert world.node.starts == {"abc": 2}


async def test_an_app_that_ended_by_itself_starts_again(world):
    async with world.scheduler():
        await running(world)
        world.node.end("abc", 0, "the app ended by itself with exit code 0")
        seen = (await world.portal.until_state("abc", State.EXITED)).sequence
        await world.portal.order(StartAgain(instance="abc", after=seen))
        await world.portal.until_state("abc", State.RUNNING)
        world.node.end("abc", 1, "the app crashed", "last words")
        seen = (await world.portal.until_state("abc", State.ERRORED)).sequence
        await world.portal.order(StartAgain(instance="abc", after=seen))
        await world.portal.until(lambda: world.portal.newest["abc"].state is State.RUNNING)
        assert world.portal.newest["abc"].log_tail == ""
        assert (world.node.made, world.node.starts) == ({"abc": 1}, {"abc": 3})


async def test_one_that_could_not_start_is_tried_anew(world):
    world.node.fail["EnsureImage"] = [Failure(code="unknown_image", text="no such image")]
    async with world.scheduler():
        await world.start()
        seen = (await world.portal.until_state("abc", State.ERRORED)).sequence
        await world.portal.order(StartAgain(instance="abc", after=seen))
        await world.portal.until_state("abc", State.RUNNING)
        assert world.node.count(EnsureImage) == 2


async def test_what_went_down_with_its_machine_is_started_and_its_user_is_told(world):
    async with world.scheduler():
        await running(world)
        reached = world.node.hold_at(StartPod)
        world.node.interrupt("abc")
        await world.portal.until(lambda: world.portal.newest["abc"].state is State.STARTING)
        await reached.wait()
        world.node.let_go(StartPod)
        await world.portal.until(lambda: world.portal.newest["abc"].state is State.RUNNING)
        assert world.node.starts == {"abc": 2}
        assert world.node.made == {"abc": 1}
        world.node.set(
            "abc", PodStatus(instance="abc", state=PodState.RUNNING, reason="it was started again")
        )
        await world.portal.until(lambda: world.portal.newest["abc"].info == "It was started again")


async def test_a_stop_asked_for_while_its_machine_is_down_waits_and_is_done(world):
    async with world.scheduler():
        seen = await running(world)
        world.node.online = False
        world.node.cut()
        await world.portal.order(StopInstance(instance="abc", after=seen))
        await world.portal.until_state("abc", State.STOPPING)
        world.node.interrupt("abc")
        world.node.online = True
        await world.portal.until_state("abc", State.EXITED)
        assert world.node.count(StartPod) == 1


async def test_a_stop_that_fails_is_tried_again(world):
    world.node.fail["StopPod"] = [Failure(code="internal", text="no")]
    async with world.scheduler():
        await stopped(world)
        assert world.node.count(StopPod) == 2


@pytest.mark.parametrize("gone", ["before", "after"])
async def test_a_container_that_is_gone_is_said_to_be_and_never_made_anew(world, gone):
    async with world.scheduler():
        if gone == "before":
            seen = await running(world)
            world.node.pods.clear()
            await world.portal.order(StopInstance(instance="abc", after=seen))
        else:
            seen = await stopped(world)
            world.node.pods.clear()
            await world.portal.order(StartAgain(instance="abc", after=seen))
        report = await world.portal.until_state("abc", State.ERRORED)
        assert "container is gone" in report.info
        assert world.node.made == {"abc": 1}


async def test_discarded_while_it_stops_or_is_stopped(world):
    async with world.scheduler():
        seen = await running(world)
        reached = world.node.hold_at(StopPod)
        await world.portal.order(StopInstance(instance="abc", after=seen))
        await reached.wait()
        await world.portal.order(DiscardInstance(instance="abc"))
        await world.portal.until(lambda: not world.portal.orders)
        world.node.let_go(StopPod)
        await world.portal.until_state("abc", State.DISCARDED)
        assert world.node.pods == {}


async def test_a_number_out_of_all_measure_is_of_no_use(world):
    async with world.scheduler():
        await running(world)
        for after in (-1, 2**80):
            await world.portal.order(StopInstance(instance="abc", after=after))
        await world.portal.until(lambda: not world.portal.orders)
        assert world.portal.newest["abc"].state is State.RUNNING
