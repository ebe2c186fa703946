"""``kill -9`` at each transition, over a real router and real SSH.

security.md, section 5: same final state in 30 s, no order lost, nothing started twice, no orphan.
"""

import asyncio

import pytest
from fakes.link_portal import LinkPortal
from fakes.node import FakeNode
from fakes.node_server import in_the_overlay
from systems.scheduler import Process

from dit4c_p2p.identity.keys import generate, load_or_create
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    CheckpointInstance,
    ConfirmUpload,
    DiscardInstance,
    SaveInstance,
    StartAgain,
    StartInstance,
    StopInstance,
)
from dit4c_p2p.messages.node import (
    CheckpointPod,
    DiscardPod,
    EnsureImage,
    Failure,
    SavePod,
    StartPod,
    StopPod,
    UploadImage,
)
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.router import Router, RouterConfig

START = StartInstance(instance="abc", image="sha256:1", key_nonce="nonce")
DISCARD = DiscardInstance(instance="abc")


class Cluster:
    """A portal, a router, a node in the overlay, and a scheduler's process to be killed."""

    def __init__(self, portal: LinkPortal, node: FakeNode, process: Process) -> None:
        self.portal, self.node, self.process = portal, node, process

    async def killed_and_up_again(self) -> None:
        await self.process.kill()
        await self.process.start()


@pytest.fixture
async def cluster(tmp_path, engine):
    async with LinkPortal() as portal:
        router_name, router_key = portal.new_peer("router-main")
        node = FakeNode()
        portal.publish(node.name, node.key, scheduler="main")
        scheduler = PeerName.parse("scheduler-main")
        portal.publish(scheduler, load_or_create(tmp_path / "scheduler" / "key"))
        router = Router(
            RouterConfig(
                name=router_name,
                key=router_key,
                http=(("127.0.0.1", 0),),
                ssh=(("127.0.0.1", 0),),
                portal=portal.info,
                user_url="http://{id}.localhost:1/",
                data_folder=tmp_path / "router",
            )
        )
        await router.start()
        routers = [RouterInfo(name="router-main", ssh=[f"127.0.0.1:{router.ssh_port}"], http=[])]
        process = Process(scheduler, tmp_path / "scheduler", portal.info, routers, ["home"])
        try:
            async with in_the_overlay(node, portal.info, routers):
                await process.start()
                yield Cluster(portal, node, process)
                await process.stop()
        finally:
            await process.stop()
            await router.stop()


async def test_through_the_overlay_without_a_fault(cluster):
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    await cluster.portal.order(DISCARD)
    await cluster.portal.until_state("abc", State.DISCARDED)
    assert (cluster.node.made, cluster.node.pods) == ({"abc": 1}, {})


async def converges(cluster, *, discard: bool) -> None:
    """It ends as it would have without the fault."""
    if discard:
        await cluster.portal.order(DISCARD)
    final = State.DISCARDED if discard else State.RUNNING
    await cluster.portal.until_state("abc", final, timeout=30)
    assert set(cluster.node.pods) == (set() if discard else {"abc"}), "no orphan"
    assert cluster.node.made["abc"] <= 1, "nothing was started twice"
    await cluster.portal.until(lambda: not cluster.portal.orders)


@pytest.mark.parametrize("discard", [False, True])
async def test_killed_while_it_waits_for_a_machine(cluster, discard):
    cluster.node.max_pods = 0
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.CREATED)
    cluster.node.max_pods = 1
    await cluster.killed_and_up_again()
    await converges(cluster, discard=discard)


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("verb", [EnsureImage, StartPod])
async def test_killed_on_its_way_up(cluster, verb, discard):
    reached = cluster.node.hold_at(verb)
    await cluster.portal.order(START)
    await reached.wait()
    await cluster.process.kill()
    cluster.node.let_go(verb)
    await cluster.process.start()
    await converges(cluster, discard=discard)


@pytest.mark.parametrize("discard", [False, True])
async def test_killed_while_it_runs(cluster, discard):
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    await cluster.killed_and_up_again()
    await converges(cluster, discard=discard)


@pytest.mark.parametrize("verb", [StopPod, DiscardPod])
async def test_killed_on_its_way_down(cluster, verb):
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    reached = cluster.node.hold_at(verb)
    await cluster.portal.order(DISCARD)
    await reached.wait()
    await cluster.process.kill()
    cluster.node.let_go(verb)
    await cluster.process.start()
    await converges(cluster, discard=True)


async def seen(cluster, state: State) -> int:
    return (await cluster.portal.until_state("abc", state)).sequence


@pytest.mark.parametrize("discard", [False, True])
async def test_killed_while_its_user_stops_it_and_starts_it_again(cluster, discard):
    await cluster.portal.order(START)
    reached = cluster.node.hold_at(StopPod)
    await cluster.portal.order(
        StopInstance(instance="abc", after=await seen(cluster, State.RUNNING))
    )
    await reached.wait()
    await cluster.process.kill()
    cluster.node.let_go(StopPod)
    await cluster.process.start()
    stopped = await seen(cluster, State.EXITED)
    await cluster.killed_and_up_again()
    reached = cluster.node.hold_at(StartPod)
    await cluster.portal.order(StartAgain(instance="abc", after=stopped))
    await reached.wait()
    await cluster.process.kill()
    cluster.node.let_go(StartPod)
    await cluster.process.start()
    await converges(cluster, discard=discard)
    assert cluster.node.starts["abc"] == 2


async def test_killed_while_a_pod_that_went_down_is_started(cluster):
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    reached = cluster.node.hold_at(StartPod)
    cluster.node.interrupt("abc")
    await reached.wait()
    await cluster.process.kill()
    cluster.node.let_go(StartPod)
    await cluster.process.start()
    await cluster.portal.until(lambda: cluster.portal.newest["abc"].state is State.RUNNING)
    await converges(cluster, discard=False)
    assert cluster.node.starts["abc"] == 2


async def test_what_went_down_while_it_was_dead(cluster):
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    await cluster.process.kill()
    cluster.node.interrupt("abc")
    await cluster.process.start()
    await cluster.portal.until(lambda: cluster.node.starts["abc"] == 2)
    await converges(cluster, discard=False)


async def test_what_was_ordered_and_what_happened_while_it_was_dead(cluster):
    for id in ("ends", "vanishes", "stays"):
        await cluster.portal.order(StartInstance(instance=id, image="sha256:1", key_nonce="n"))
        await cluster.portal.until_state(id, State.RUNNING)
    await cluster.process.kill()
    cluster.node.end("ends", 1, "the app crashed")
    cluster.node.set("vanishes", None)
    await cluster.portal.order(START)
    await cluster.process.start()
    await cluster.portal.until_state("ends", State.ERRORED)
    await cluster.portal.until_state("vanishes", State.ERRORED)
    await cluster.portal.until_state("abc", State.RUNNING)
    assert cluster.portal.newest["stays"].state is State.RUNNING
    assert set(cluster.node.made.values()) == {1}


@pytest.mark.both_databases
async def test_killed_again_and_again(cluster):
    for number in range(4):
        await cluster.portal.order(
            StartInstance(instance=f"i{number}", image="sha256:1", key_nonce="n")
        )
    for _ in range(4):
        await asyncio.sleep(0.15)
        await cluster.killed_and_up_again()
    for number in range(4):
        await cluster.portal.until_state(f"i{number}", State.RUNNING, timeout=30)
        await cluster.portal.order(DiscardInstance(instance=f"i{number}"))
    for _ in range(4):
        await asyncio.sleep(0.15)
        await cluster.killed_and_up_again()
    for number in range(4):
        await cluster.portal.until_state(f"i{number}", State.DISCARDED, timeout=30)
    assert cluster.node.pods == {}
    assert set(cluster.node.made.values()) == {1}


async def test_revoked_node_is_not_spoken_to(cluster):
    """security.md, section 4: revoked: refused everywhere in 5 s, live lines cut in 10 s."""
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    cluster.portal.revoke(cluster.node.name)
    await cluster.portal.until(lambda: cluster.portal.cluster.nodes_down == ["node-home"], 10)
    cluster.portal.publish(cluster.node.name, generate())
    await asyncio.sleep(1)
    assert cluster.portal.cluster.nodes_up == []
    assert cluster.portal.newest["abc"].state is State.RUNNING, "nothing is thrown away"


@pytest.mark.parametrize("verb", [StopPod, SavePod, UploadImage, DiscardPod])
async def test_killed_at_each_step_of_a_save(cluster, verb):
    await cluster.portal.order(START)
    after = await seen(cluster, State.RUNNING)
    reached = cluster.node.hold_at(verb)
    await cluster.portal.order(SaveInstance(instance="abc", save="s1", after=after))
    if verb is DiscardPod:
        await cluster.portal.until(lambda: cluster.node.uploads["abc"] > 0)
        await cluster.portal.order(ConfirmUpload(instance="abc", save="s1", digest="sha256:d"))
    await reached.wait()
    assert set(cluster.node.pods) == {"abc"}, "kept until it is confirmed"
    await cluster.process.kill()
    cluster.node.let_go(verb)
    await cluster.process.start()
    if verb is not DiscardPod:
        await cluster.portal.until(lambda: cluster.node.uploads["abc"] > 0)
        assert set(cluster.node.pods) == {"abc"}, "kept until it is confirmed"
        await cluster.killed_and_up_again()
        await cluster.portal.order(ConfirmUpload(instance="abc", save="s1", digest="sha256:d"))
    await cluster.portal.until_state("abc", State.UPLOADED, timeout=30)
    await cluster.portal.until(lambda: cluster.node.pods == {})
    assert cluster.portal.newest["abc"].failed_save == ""
    await cluster.portal.order(DISCARD)
    await cluster.portal.until_state("abc", State.DISCARDED)
    await cluster.portal.until(lambda: not cluster.portal.orders)


async def test_what_can_not_be_saved_is_kept_and_said(cluster):
    await cluster.portal.order(START)
    after = await seen(cluster, State.RUNNING)
    cluster.node.fail["UploadImage"] = [Failure(code="not_saved", text="it is too large")]
    await cluster.portal.order(SaveInstance(instance="abc", save="s1", after=after))
    await cluster.portal.until(lambda: cluster.portal.newest["abc"].failed_save == "s1", 30)
    kept = cluster.portal.newest["abc"]
    assert (kept.state, kept.info) == (
        State.EXITED,
        "Not saved, its files are still there: it is too large",
    )
    assert set(cluster.node.pods) == {"abc"}


async def test_killed_during_a_checkpoint(cluster):
    """It goes on with the next scheduler; the instance runs all the time."""
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    reached = cluster.node.hold_at(CheckpointPod)
    await cluster.portal.order(CheckpointInstance(instance="abc", save="c1"))
    await reached.wait()
    await cluster.portal.until(lambda: cluster.portal.newest["abc"].checkpoint == "c1")
    await cluster.process.kill()
    cluster.node.let_go(CheckpointPod)
    await cluster.process.start()
    await cluster.portal.until(lambda: cluster.portal.newest["abc"].checkpoint == "", 30)
    newest = cluster.portal.newest["abc"]
    assert (newest.state, newest.failed_checkpoint) == (State.RUNNING, "")
    assert cluster.node.uploads["abc"] == 1

    cluster.node.fail["CheckpointPod"] = [Failure(code="unknown_kind", text="what is that?")]
    await cluster.portal.order(CheckpointInstance(instance="abc", save="c2"))
    await cluster.portal.until(lambda: cluster.portal.newest["abc"].failed_checkpoint == "c2", 30)
    newest = cluster.portal.newest["abc"]
    assert (newest.state, "upgraded" in newest.checkpoint_info) == (State.RUNNING, True)


async def test_a_discard_ends_a_checkpoint(cluster):
    await cluster.portal.order(START)
    await cluster.portal.until_state("abc", State.RUNNING)
    reached = cluster.node.hold_at(CheckpointPod)
    await cluster.portal.order(CheckpointInstance(instance="abc", save="c1"))
    await reached.wait()
    await cluster.portal.order(DISCARD)
    await cluster.portal.until_state("abc", State.DISCARDED)
    assert cluster.portal.newest["abc"].failed_checkpoint == "c1"
    assert cluster.node.uploads["abc"] == 0
