"""An instance whose node is lost goes on at another; the node that comes back keeps what it has."""

import pytest
from fakes.node import FakeNode, memory_dialler
from lib.waiting import until

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.kept_files import kept_reference
from dit4c_p2p.messages.link import DiscardInstance, MoveInstance, StartInstance
from dit4c_p2p.messages.node import DiscardPod, PodState, StartPod
from dit4c_p2p.scheduler import node_links

MOVE = MoveInstance(instance="abc", epoch=1, image="sha256:2", key_nonce="nonce2")


@pytest.mark.both_databases
async def test_one_pod_serves_always(world, monkeypatch):
    monkeypatch.setattr(node_links, "COMPARE_EVERY_S", 0.2)
    other = FakeNode("node-other")
    other.online = False
    world.nodes.append(other)
    world.dialler = memory_dialler(*world.nodes)
    portal, home = world.portal, world.node
    async with world.scheduler():
        await world.start()
        assert (await portal.until_state("abc", State.RUNNING)).node == "node-home"
        home.online, other.online = False, True
        home.cut()
        await portal.until(lambda: portal.cluster.nodes_down == ["node-home"])
        await portal.order(MOVE)
        await portal.until(
            lambda: (
                portal.newest["abc"].state is State.RUNNING
                and portal.newest["abc"].node == "node-other"
            )
        )
        assert portal.newest["abc"].epoch == 1
        asked = [one for one in other.asked if isinstance(one, StartPod)][-1]
        assert (asked.image, asked.key_nonce, asked.kept) == ("sha256:2", "nonce2", False)
        assert asked.title == "Mine"
        # The order comes late and again: nothing moves.
        await portal.order(MOVE)

        home.online = True
        assert home.pods["abc"].state is PodState.RUNNING
        await portal.until(lambda: portal.newest["abc"].kept_on == ["node-home"], 20)
        await until(lambda: home.pods["abc"].state is PodState.EXITED, 20)
        # Its machine starts it by itself: it is stopped again.
        home.interrupt("abc")
        await until(lambda: home.pods["abc"].state is PodState.EXITED, 20)
        assert (portal.newest["abc"].state, portal.newest["abc"].node) == (
            State.RUNNING,
            "node-other",
        )
        assert home.count(DiscardPod) == 0, "what it had written is kept"

        # A copy of what a node has goes to that node, whichever else has room.
        copies = {f"copy{number}": node for number, node in enumerate((other, home, other))}
        for copy, node in copies.items():
            image = kept_reference("abc", str(node.name))
            await portal.order(StartInstance(instance=copy, image=image, key_nonce="nonce"))
        for copy, node in copies.items():
            assert (await portal.until_state(copy, State.RUNNING)).node == str(node.name)
            await portal.order(DiscardInstance(instance=copy))
            await portal.until_state(copy, State.DISCARDED)

        await world.discard()
        await portal.until_state("abc", State.DISCARDED)
        await until(lambda: home.pods == {} and other.pods == {}, 20)


async def test_it_runs_on_the_machine_that_was_chosen(world):
    other = FakeNode("node-other")
    world.nodes.append(other)
    world.dialler = memory_dialler(*world.nodes)
    portal = world.portal
    async with world.scheduler():
        await portal.until(lambda: portal.cluster and len(portal.cluster.nodes_up) == 2)
        for number, node in enumerate(("node-other", "node-home", "node-other")):
            id = f"i{number}"
            order = StartInstance(instance=id, image="sha256:1", key_nonce="n", node=node)
            await portal.order(order)
            assert (await portal.until_state(id, State.RUNNING)).node == node
        gone = StartInstance(instance="gone", image="sha256:1", key_nonce="n", node="node-gone")
        await portal.order(gone)
        await portal.until(
            lambda: "gone" in portal.newest and "you chose" in portal.newest["gone"].info
        )


async def test_without_another_machine_it_waits(world):
    portal, home = world.portal, world.node
    async with world.scheduler():
        await world.start()
        await portal.until_state("abc", State.RUNNING)
        await portal.order(MOVE)
        await portal.until(lambda: "no other" in portal.newest["abc"].info)
        assert portal.newest["abc"].state is State.CREATED
        await until(lambda: home.pods["abc"].state is PodState.EXITED, 20)
        await world.discard()
        await portal.until_state("abc", State.DISCARDED)
