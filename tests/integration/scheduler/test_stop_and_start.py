"""Stopped and started again by its user, and gone down with its machine."""

import pytest

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartAgain, StopInstance
from dit4c_p2p.messages.node import EnsureImage, Failure, PodState, PodStatus, StartPod, StopPod
from dit4c_p2p.scheduler import Limits, instance_tasks


async def running(world) -> int:
    """A running instance; the number of the report that says so."""
    await world.start()
    return (await world.portal.until_state("abc", State.RUNNING)).sequence


async def stopped(world) -> int:
    await world.portal.order(StopInstance(instance="abc", after=await running(world)))
    return (await world.portal.until_state("abc", State.EXITED)).sequence


@pytest.mark.both_databases
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


async def test_stopped_while_nothing_of_it_was_made_yet_it_starts_again(world):
    reached = world.node.hold_at(StartPod)
    async with world.scheduler():
        await world.start()
        await reached.wait()
        world.node.pods.clear()
        seen = (await world.portal.until_state("abc", State.STARTING)).sequence
        await world.portal.order(StopInstance(instance="abc", after=seen))
        report = await world.portal.until_state("abc", State.EXITED)
        assert report.info == "Stopped"
        world.node.let_go(StartPod)
        await world.portal.order(StartAgain(instance="abc", after=report.sequence))
        await world.portal.until_state("abc", State.RUNNING)
        assert world.node.made == {"abc": 2}


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


async def test_one_that_did_not_start_in_time_is_stopped_and_can_be_started_again(
    world, monkeypatch
):
    monkeypatch.setattr(instance_tasks, "RESUME_GRACE_S", 0)
    world.limits = Limits(start_s=0.5)
    stopping = world.node.hold_at(StopPod)
    world.node.hold_at(StartPod)
    async with world.scheduler():
        await world.start()
        await stopping.wait()
        assert world.portal.newest["abc"].state is not State.ERRORED
        world.node.let_go(StartPod)
        world.node.let_go(StopPod)
        report = await world.portal.until_state("abc", State.ERRORED)
        assert report.info.startswith("No start within 0.5 seconds")
        assert world.node.pods["abc"].state is PodState.EXITED
        await world.portal.order(StartAgain(instance="abc", after=report.sequence))
        await world.portal.until_state("abc", State.RUNNING)
        assert (world.node.made, world.node.starts) == ({"abc": 1}, {"abc": 2})


async def test_one_that_did_not_start_in_time_is_stopped_once_its_node_is_back(world, monkeypatch):
    monkeypatch.setattr(instance_tasks, "RESUME_GRACE_S", 0)
    world.limits = Limits(start_s=0.5)
    reached = world.node.hold_at(StartPod)
    async with world.scheduler():
        await world.start()
        await reached.wait()
        world.node.online = False
        world.node.cut()
        world.node.let_go(StartPod)
        newest = world.portal.newest
        await world.portal.until(
            lambda: newest["abc"].info.endswith(". Waiting for node-home to answer")
        )
        assert newest["abc"].state is State.STOPPING
        assert newest["abc"].info.startswith("No start within 0.5 seconds")
        assert world.node.pods["abc"].state is PodState.RUNNING
        world.node.online = True
        await world.portal.until_state("abc", State.ERRORED)
        assert world.node.pods["abc"].state is PodState.EXITED


async def test_an_app_that_runs_although_it_was_thought_to_be_gone_is_stopped(world):
    """As when a machine comes back with the disk that it had lost."""
    async with world.scheduler():
        await running(world)
        lost = world.node.pods["abc"]
        world.node.set("abc", None)
        await world.portal.until_state("abc", State.ERRORED)
        world.node.pods["abc"] = lost
        world.node.cut()
        await world.portal.until(lambda: "stopping" in world.portal.states("abc"))
        await world.portal.until(lambda: world.portal.newest["abc"].state is State.ERRORED)
        assert world.node.pods["abc"].state is PodState.EXITED


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


@pytest.mark.both_databases
async def test_a_number_out_of_all_measure_is_of_no_use(world):
    async with world.scheduler():
        await running(world)
        for after in (-1, 2**80):
            await world.portal.order(StopInstance(instance="abc", after=after))
        await world.portal.until(lambda: not world.portal.orders)
        assert world.portal.newest["abc"].state is State.RUNNING
