"""A scheduler from the portal's order to the node's pod, and back."""

import asyncio
import time

import pytest
from fakes.node import FakeNode, memory_dialler
from lib.database_engines import OWN, database

from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import fingerprint, parse_public
from dit4c_p2p.messages.codec import MAX_MESSAGE_BYTES, encode
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    INSTANCE_KEY_NAMESPACE,
    ClusterState,
    RequestLogs,
    RequestState,
    StartAgain,
    StartInstance,
    StopInstance,
    key_statement,
)
from dit4c_p2p.messages.node import (
    PASSING_CODES,
    Describe,
    DiscardPod,
    EnsureImage,
    Failure,
    PodEvent,
    PodKey,
    PodLogs,
    PodState,
    PodStatus,
    Progress,
    StartPod,
    StopPod,
)
from dit4c_p2p.scheduler import Limits, instance_tasks, work_runner
from dit4c_p2p.scheduler import node_links as nodes_module
from dit4c_p2p.scheduler.errors import StoreFailed
from dit4c_p2p.scheduler.store import Store


@pytest.mark.both_databases
async def test_start_and_discard(world):
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        await world.start()
        report = await world.portal.until_state("abc", State.RUNNING)
        assert report.node == "node-home"
        assert world.portal.cluster == ClusterState(nodes_up=["node-home"], nodes_down=[])
        await world.discard()
        await world.portal.until_state("abc", State.DISCARDED)
        assert world.portal.states("abc") == [
            State.CREATED,
            State.WAITING_FOR_IMAGE,
            State.STARTING,
            State.RUNNING,
            State.STOPPING,
            State.DISCARDING,
            State.DISCARDED,
        ]
        assert world.node.made == {"abc": 1}
        assert world.node.pods == {}
        assert world.portal.orders == {}


async def test_the_key_reaches_the_portal_with_both_signatures(world):
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        (allocated,) = world.portal.keys
        key = parse_public(allocated.public_key)
        statement = key_statement("abc", "node-home", fingerprint(key), "nonce")
        signed = allocated.instance_signature, allocated.node_signature
        for signature, signer in zip(signed, (key, world.node.key), strict=True):
            sshsig.verify(statement, signature, INSTANCE_KEY_NAMESPACE, [signer])


async def test_what_the_node_says_reaches_the_user(world):
    world.node.progress = [Progress(info=f"layer {number}", fraction=None) for number in range(9)]
    reached = world.node.hold_at(EnsureImage)
    async with world.scheduler():
        await world.start()
        await reached.wait()
        await world.portal.until(lambda: world.portal.newest["abc"].info == "Layer 8")
        waiting = [
            report for report in world.portal.reports if report.state is State.WAITING_FOR_IMAGE
        ]
        assert len(waiting) <= 4, "it is told at most four times a second"
        world.node.let_go(EnsureImage)
        await world.portal.until_state("abc", State.RUNNING)


async def test_an_image_that_can_not_be_started(world):
    world.node.fail["EnsureImage"] = [
        Failure(code="no_port", text="the image declares no TCP port")
    ]
    async with world.scheduler():
        await world.start()
        report = await world.portal.until_state("abc", State.ERRORED)
        assert report.info == "The image declares no TCP port"
        await world.discard()
        await world.portal.until_state("abc", State.DISCARDED)
        assert world.node.count(StartPod) == 0


async def test_an_app_that_never_listens(world):
    failure = Failure(code="not_listening", text="the app did not listen", log_tail="Traceback")
    world.node.fail["StartPod"] = [failure]
    async with world.scheduler():
        await world.start()
        report = await world.portal.until_state("abc", State.ERRORED)
        assert (report.info, report.log_tail) == ("The app did not listen", "Traceback")


@pytest.mark.parametrize("code", sorted(PASSING_CODES))
async def test_what_may_pass_at_the_node_is_tried_again_and_said(world, code):
    """security.md section 5, disk full: the instance lives on, and its user is told."""
    failure = Failure(code=code, text="the disk of the machine it runs on is full")
    world.node.fail["EnsureImage"] = [failure, failure]
    world.node.fail["StartPod"] = [failure]
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        assert world.node.count(EnsureImage) == 3
        said = [report.info for report in world.portal.reports if report.instance == "abc"]
        assert "The disk of the machine it runs on is full; trying again" in said


async def test_an_app_that_ends(world):
    async with world.scheduler():
        for instance, code in (("good", 0), ("bad", 137)):
            await world.start(instance)
            await world.portal.until_state(instance, State.RUNNING)
            world.node.end(instance, code, "the app was ended: out of memory", "last words")
        await world.portal.until_state("good", State.EXITED)
        report = await world.portal.until_state("bad", State.ERRORED)
        assert report.info == "The app was ended: out of memory"
        assert report.log_tail == "last words"
        for instance in ("good", "bad"):
            await world.discard(instance)
            await world.portal.until_state(instance, State.DISCARDED)
        assert world.node.pods == {}


async def test_a_discard_while_it_starts_cancels(world):
    reached = world.node.hold_at(StartPod)
    async with world.scheduler():
        await world.start()
        await reached.wait()
        await world.discard()
        await world.portal.until_state("abc", State.DISCARDED)
        assert world.node.pods == {}
        assert State.RUNNING not in world.portal.states("abc")


async def test_a_discard_while_the_image_is_fetched_needs_no_node(world):
    reached = world.node.hold_at(EnsureImage)
    async with world.scheduler():
        await world.start()
        await reached.wait()
        world.node.online = False
        world.node.cut()
        await world.discard()
        await world.portal.until_state("abc", State.DISCARDED)


async def test_removing_goes_on_until_it_is_done(world):
    world.node.fail["DiscardPod"] = [Failure(code="internal", text="the network is in use")] * 3
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        await world.discard()
        await world.portal.until_state("abc", State.DISCARDED)
        assert world.node.count(DiscardPod) == 4


async def test_time_limits(world, monkeypatch):
    monkeypatch.setattr(instance_tasks, "RESUME_GRACE_S", 0)
    world.limits = Limits(image_s=0.2, start_s=0.2)
    world.node.hold_at(EnsureImage)
    async with world.scheduler():
        await world.start("one")
        report = await world.portal.until_state("one", State.ERRORED)
        assert "The image was not ready within 0.2 seconds" in report.info
        world.node.let_go(EnsureImage)
        world.node.hold_at(StartPod)
        await world.start("two")
        report = await world.portal.until_state("two", State.ERRORED)
        assert "No start within 0.2 seconds" in report.info
        assert world.node.pods["two"].state is PodState.EXITED, "no pod runs on unseen"
        assert world.portal.states("two")[-2:] == [State.STOPPING, State.ERRORED]
        for instance in ("one", "two"):
            await world.discard(instance)
        world.node.let_go(StartPod)
        for instance in ("one", "two"):
            await world.portal.until_state(instance, State.DISCARDED)
        assert world.node.pods == {}


async def test_the_line_to_the_node_breaks_and_nothing_is_thrown_away(world):
    """security.md, section 2, row 16: silence is not death."""
    async with world.scheduler() as scheduler:
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        world.node.online = False
        world.node.cut()
        await world.portal.until(
            lambda: world.portal.cluster and world.portal.cluster.nodes_down == ["node-home"]
        )
        await world.start("later")
        await world.portal.until(
            lambda: (
                "later" in world.portal.newest
                and "none answers" in world.portal.newest["later"].info
            )
        )
        world.node.online = True
        await scheduler.ready()
        await world.portal.until_state("later", State.RUNNING)
        assert world.portal.newest["abc"].state is State.RUNNING
        assert world.node.made == {"abc": 1, "later": 1}
        assert world.node.count(StopPod) == world.node.count(DiscardPod) == 0


@pytest.mark.parametrize("verb", [EnsureImage, StartPod, StopPod, DiscardPod])
async def test_a_verb_is_asked_again_when_the_line_breaks_in_the_middle(world, verb):
    reached = world.node.hold_at(verb)
    async with world.scheduler():
        await world.start()
        if verb in (StopPod, DiscardPod):
            await world.portal.until_state("abc", State.RUNNING)
            await world.discard()
        await reached.wait()
        world.node.cut()
        world.node.let_go(verb)
        final = State.DISCARDED if verb in (StopPod, DiscardPod) else State.RUNNING
        await world.portal.until_state("abc", final)
        assert world.node.made == {"abc": 1}
        # That it has stopped may be heard of as an event before it is asked for again.
        assert world.node.count(verb) >= (1 if verb is StopPod else 2)


async def test_what_happened_while_the_line_was_down_is_found(world):
    async with world.scheduler():
        for instance in ("ended", "gone", "fine"):
            await world.start(instance)
            await world.portal.until_state(instance, State.RUNNING)
        world.node.online = False
        world.node.cut()
        await world.portal.until(lambda: world.portal.cluster.nodes_down == ["node-home"])
        world.node.end("ended", 1, "the app crashed")
        world.node.set("gone", None)
        world.node.online = True
        assert (await world.portal.until_state("ended", State.ERRORED)).info == "The app crashed"
        report = await world.portal.until_state("gone", State.ERRORED)
        assert report.info == "Its container is gone from the machine it ran on"
        assert world.portal.newest["fine"].state is State.RUNNING


async def test_unknown_pods_are_left_alone_and_leftovers_removed(world, caplog):
    stranger = PodStatus(instance="stranger", state=PodState.RUNNING)
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        await world.discard()
        await world.portal.until_state("abc", State.DISCARDED)
    left = PodStatus(instance="abc", state=PodState.RUNNING)
    world.node.pods = {"stranger": stranger, "abc": left}
    gone = asyncio.Event()
    followed = world.node.set

    def noticed(instance, status):
        followed(instance, status)
        if instance == "abc" and status is None:
            gone.set()

    world.node.set = noticed
    async with world.scheduler():
        await asyncio.wait_for(gone.wait(), 10)
    assert world.node.pods == {"stranger": stranger}
    assert "'stranger'" in caplog.text


async def test_a_node_speaks_of_its_own_instances_only(world, caplog):
    """security.md, section 1: a node's owner can touch only what runs on that node."""
    other = FakeNode("node-other")
    world.node.max_pods = 0
    world.nodes.append(other)
    world.dialler = memory_dialler(*world.nodes)
    async with world.scheduler():
        await world.start()
        report = await world.portal.until_state("abc", State.RUNNING)
        assert report.node == "node-other"
        exited = PodStatus(instance="abc", state=PodState.EXITED, exit_code=1, reason="a lie")
        world.node.say_again(PodEvent(instance="abc", status=exited))
        world.node.say_again(PodEvent(instance="abc", status=None))
        world.node.max_pods = 1
        other.online = False
        other.cut()
        await world.start("def")
        assert (await world.portal.until_state("def", State.RUNNING)).node == "node-home"
        assert world.portal.newest["abc"].state is State.RUNNING
        assert "node-home reports 'abc', which is not placed there" in caplog.text


async def test_more_than_there_is_room_for(world):
    world.node.max_pods = 2
    async with world.scheduler():
        for number in range(5):
            await world.start(f"i{number}")
        newest = world.portal.newest

        def of(state):
            return sorted(id for id, report in newest.items() if report.state is state)

        await world.portal.until(
            lambda: (
                len(of(State.RUNNING)) == 2
                and sum("all are full" in report.info for report in newest.values()) == 3
            )
        )
        assert len(world.node.pods) == 2
        for _ in range(3):
            await world.discard(of(State.RUNNING)[0])
            gone = len(of(State.DISCARDED)) + 1
            await world.portal.until(
                lambda gone=gone: len(of(State.DISCARDED)) == gone and len(of(State.RUNNING)) == 2
            )
        assert set(world.node.made.values()) == {1}


async def test_state_and_logs_on_request(world, monkeypatch):
    async with world.scheduler():
        await world.start()
        report = await world.portal.until_state("abc", State.RUNNING)
        await world.portal.order(RequestState(instance="abc"))
        await world.portal.until(lambda: world.portal.newest["abc"].sequence == report.sequence + 1)
        world.node.log = "\x1b" * 60_000
        for request, instance in (("r1", "abc"), ("r2", "never")):
            await world.portal.order(RequestLogs(request=request, instance=instance, lines=10))
        await world.portal.until(lambda: {"r1", "r2"} <= set(world.portal.logs))
        assert set(world.portal.logs["r1"].text) == {"\x1b"}
        assert world.portal.logs["r2"].error == "There is no log yet"
        monkeypatch.setattr(work_runner, "LOGS_LIMIT_S", 0.1)
        world.node.hold_at(PodLogs)
        await world.portal.order(RequestLogs(request="r3", instance="abc", lines=10))
        await world.portal.until(lambda: "r3" in world.portal.logs)
        assert world.portal.logs["r3"].error == "node-home does not answer at the moment"


async def test_a_node_that_says_too_much_keeps_nobody_else_from_being_heard(world):
    """security.md 1: a node's owner can touch only what runs on that node."""
    much = "x" * (MAX_MESSAGE_BYTES - 100)  # the most that a line of a node's can carry
    loud = FakeNode("node-loud")
    loud.said_keys = [PodKey(public_key=much, instance_signature="", node_signature="")]
    loud.fail["PodLogs"] = [Failure(code="internal", text=much)]
    loud.max_pods, world.node.max_pods = 2, 1
    world.nodes.append(loud)
    world.dialler = memory_dialler(*world.nodes)
    async with world.scheduler():
        for instance in ("one", "two", "three"):
            await world.start(instance)
        for instance in ("one", "two", "three"):
            await world.portal.until_state(instance, State.RUNNING)
        assert len(loud.pods) == 2 and len(world.portal.keys) == 1
        await world.portal.order(RequestLogs(request="r1", instance=min(loud.pods), lines=10))
        await world.portal.until(lambda: "r1" in world.portal.logs)
        assert len(encode(world.portal.logs["r1"])) < 2000
        assert world.portal.opened == 1


async def test_a_node_names_one_key_each_time_it_is_asked(world):
    """Each key that is published is told to every peer, and is kept for ever."""
    world.node.said_keys = [
        PodKey(public_key=f"key {number}", instance_signature="", node_signature="")
        for number in range(20)
    ]
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        assert [key.public_key for key in world.portal.keys] == ["key 0"]


async def test_a_node_that_makes_a_pod_anew_time_and_again_waits_for_its_next_key(
    world, monkeypatch
):
    monkeypatch.setattr(work_runner, "KEY_EVERY_S", 1.0)
    told_at = []
    async with world.scheduler():
        await world.start()
        for number in range(3):
            world.node.said_keys = [
                PodKey(public_key=f"key {number}", instance_signature="", node_signature="")
            ]
            if number:
                world.node.interrupt("abc")
            await world.portal.until(lambda number=number: len(world.portal.keys) == number + 1)
            told_at.append(asyncio.get_running_loop().time())
            await world.portal.until_state("abc", State.RUNNING)
        assert told_at[2] - told_at[1] > 0.5


async def test_a_node_that_takes_its_time_holds_up_no_start_elsewhere(world, monkeypatch):
    monkeypatch.setattr(nodes_module, "QUICK_LIMIT_S", 3600)
    monkeypatch.setattr(nodes_module, "OTHERS_S", 0.1)
    slow = FakeNode("node-slow")
    asked = slow.hold_at(Describe)
    world.nodes.append(slow)
    world.dialler = memory_dialler(*world.nodes)
    both = ClusterState(nodes_up=["node-home", "node-slow"], nodes_down=[])
    async with world.scheduler():
        await world.portal.until(lambda: world.portal.cluster == both)
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        assert asked.is_set() and "abc" in world.node.pods


async def test_an_order_that_can_not_be_meant_is_put_aside(world):
    async with world.scheduler():
        for instance, image in (("../etc", "x"), ("ok", "x" * 9999)):
            await world.portal.order(
                StartInstance(instance=instance, image=image, key_nonce="nonce")
            )
        await world.start("abc")
        await world.portal.until_state("abc", State.RUNNING)
        await world.portal.until(lambda: not world.portal.orders)
        assert set(world.portal.newest) == {"abc"}


async def test_it_stops_in_time_whatever_it_is_doing(world):
    for verb in (EnsureImage, StartPod):
        world.node.hold_at(verb)
    world.node.online = True
    async with world.scheduler() as scheduler:
        await world.start()
        await world.node.reached["EnsureImage"].wait()
        begun = asyncio.get_running_loop().time()
        await scheduler.stop()
        assert asyncio.get_running_loop().time() - begun < 5
        await scheduler.wait()


async def test_what_it_can_not_go_on_after_is_raised(world, monkeypatch):
    async def broken(self):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(instance_tasks.InstanceTasks, "run", broken)
    async with world.scheduler() as scheduler:
        with pytest.raises(ZeroDivisionError):
            await scheduler.ready()
        with pytest.raises(ZeroDivisionError):
            await scheduler.wait()


@pytest.mark.both_databases
async def test_a_database_that_fails_for_a_while_loses_nothing(world, engine, caplog):
    """security.md, section 5: disk full: a clear error, nothing corrupt, on when there is room."""
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        async with engine.no_room("scheduler"):
            for number in range(30):
                await world.start(f"i{number}")
            async with asyncio.timeout(10):
                while "the scheduler's database does not work" not in caplog.text:
                    await asyncio.sleep(0.01)
        for number in range(30):
            await world.discard(f"i{number}")
        for number in range(30):
            await world.portal.until_state(f"i{number}", State.DISCARDED)
        assert world.node.pods == {}
        assert engine.no_room_text in caplog.text


@pytest.mark.parametrize("engine", OWN, indirect=True)
async def test_a_database_that_is_gone_for_a_while_loses_nothing(world, engine, caplog):
    """In the middle of everything its server ends or its file is moved, and it comes back."""
    reached = world.node.hold_at(StartPod)
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        await world.start("one")
        await asyncio.wait_for(reached.wait(), 10)
        with engine.gone(database("scheduler", world.folder)):
            world.node.let_go(StartPod)
            order = await world.start("two")
            async with asyncio.timeout(10):
                while "the scheduler's database does not work" not in caplog.text:
                    await asyncio.sleep(0.01)
            with pytest.raises(StoreFailed):
                await scheduler.checks["database"]()
            assert order in world.portal.orders, "it is not confirmed"
        for id in ("one", "two"):
            await world.portal.until_state(id, State.RUNNING)
            await world.discard(id)
            await world.portal.until_state(id, State.DISCARDED)
        assert (world.node.made, world.node.pods) == ({"one": 1, "two": 1}, {})


@pytest.mark.both_databases
async def test_a_line_that_breaks_while_the_database_fails(world, monkeypatch, caplog):
    async with world.scheduler() as scheduler:
        await scheduler.ready()

        async def full(self, message):
            raise StoreFailed("no room")

        with monkeypatch.context() as patched:
            patched.setattr(Store, "tell", full)
            world.node.online = False
            world.node.cut()
            async with asyncio.timeout(10):
                while "the loss of node-home can't be recorded yet" not in caplog.text:
                    await asyncio.sleep(0.01)
        portal = world.portal  # which may not have heard of any node before this
        await portal.until(lambda: portal.cluster and portal.cluster.nodes_down == ["node-home"])
        world.node.online = True
        await portal.until(lambda: portal.cluster and portal.cluster.nodes_up == ["node-home"])


async def test_a_node_whose_key_was_revoked_strands_nobody(world):
    """Stop and discard end without the node, and say why; nothing is thrown away."""
    async with world.scheduler():
        for instance in ("abc", "going", "stopped"):
            await world.start(instance)
            await world.portal.until_state(instance, State.RUNNING)
        before = time.time()
        world.node.key_revoked = True
        world.node.cut()
        running = world.portal.newest["stopped"]
        await world.portal.order(StopInstance(instance="stopped", after=running.sequence))
        failed = await world.portal.until_state("stopped", State.ERRORED)
        assert failed.info == "The key of its machine (node-home) was revoked"
        await world.discard("going")
        gone = await world.portal.until_state("going", State.DISCARDED)
        assert "out of reach: the key of its machine" in gone.info
        await world.portal.until(lambda: world.portal.cluster.troubles)
        assert world.portal.cluster.troubles == {"node-home": "its key was revoked"}
        assert abs(world.portal.cluster.heard["node-home"] - before) < 60

        # It comes back with another key: what was discarded meanwhile is removed there.
        world.node.key_revoked = False
        async with asyncio.timeout(20):
            while "going" in world.node.pods:
                await asyncio.sleep(0.05)
        assert set(world.node.pods) == {"abc", "stopped"}
        assert world.portal.newest["abc"].state is State.RUNNING


async def test_a_node_that_was_removed_from_the_cluster_holds_up_no_discard(world):
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
    node, world.nodes = world.nodes, []
    async with world.scheduler():
        assert world.portal.newest["abc"].state is State.RUNNING
        await world.discard()
        gone = await world.portal.until_state("abc", State.DISCARDED)
        assert "was removed from the cluster" in gone.info
    assert node[0].pods


async def test_a_key_is_replaced_while_the_app_runs_on(world):
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        await world.portal.until(lambda: len(world.portal.keys) == 1)
        order = StartAgain(instance="abc", after=world.portal.newest["abc"].sequence, new_key=True)
        await world.portal.order(order)
        await world.portal.until(lambda: len(world.portal.keys) == 2)
        await world.portal.until_state("abc", State.RUNNING)
        assert world.portal.keys[0].public_key != world.portal.keys[1].public_key
        assert world.node.starts == {"abc": 1}
