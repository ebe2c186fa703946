"""The line to the portal: both ends prove themselves, and no message is lost or acted on twice."""

import asyncio
import json

import aiohttp
import pytest
from lib.silent_wire import Wire

from dit4c_p2p.identity import portal_client
from dit4c_p2p.identity.keys import generate
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import RequestState
from dit4c_p2p.scheduler import portal_link

_asleep = asyncio.sleep


async def until(true, timeout=10):
    """Wait for what nobody tells of."""
    async with asyncio.timeout(timeout):
        while not true():
            await _asleep(0.01)


async def test_the_portal_goes_and_comes_back(world):
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        await world.portal.stop()
        world.node.end("abc", 0)
        await world.discard()
        await world.portal.start()
        await world.portal.until_state("abc", State.DISCARDED)
        assert State.EXITED in world.portal.states("abc"), "what happened meanwhile is told too"


async def test_what_was_not_acknowledged_is_sent_again_under_the_same_id(world):
    world.portal.acknowledges = False
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        sent = list(world.portal.arrived)
        world.portal.acknowledges = True
        await world.portal.cut()
        await world.portal.until(lambda: len(world.portal.arrived) >= 2 * len(sent))
        assert set(sent) <= set(world.portal.arrived[len(sent) :])
        assert world.portal.newest["abc"].state is State.RUNNING


@pytest.mark.both_databases
async def test_what_was_not_acknowledged_is_sent_again_after_a_restart(world):
    world.portal.acknowledges = False
    async with world.scheduler():
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
    world.portal.acknowledges = True
    before = set(world.portal.arrived)
    world.portal.arrived.clear()
    async with world.scheduler():
        await world.portal.until(lambda: len(world.portal.arrived) >= 4)
        assert len(before & set(world.portal.arrived)) >= 4


@pytest.mark.both_databases
async def test_an_order_sent_many_times_is_acted_on_once(world):
    world.portal.copies = 5
    async with world.scheduler():
        id = await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        for _ in range(5):
            await world.portal.replay(id, RequestState(instance="abc"))
        await world.discard()
        await world.portal.until_state("abc", State.DISCARDED)
        assert world.node.made == {"abc": 1}
        assert world.portal.newest["abc"].sequence < 12


async def test_both_keys_are_proved_the_portals(world, caplog):
    """security.md, section 4: logins to a peer whose key is not published: 0."""
    world.portal.welcome_key = generate()
    await world.start()
    async with world.scheduler():
        await until(lambda: world.portal.opened >= 3)
        assert world.portal.orders
        assert world.portal.arrived == []
        assert "is not the portal that was pinned" in caplog.text
        world.portal.welcome_key = world.portal.key
        await world.portal.until_state("abc", State.RUNNING)


async def test_both_keys_are_proved_the_schedulers(world, caplog):
    world.portal.revoke(world.name)
    await world.start()
    async with world.scheduler():
        await until(lambda: world.portal.opened >= 3)
        assert world.portal.arrived == []
        assert "the portal refuses scheduler-main: not this key" in caplog.text
        assert caplog.text.count("the portal refuses") == 1, "said once, not at every try"
        world.portal.publish(world.name, world.key)
        await world.portal.until_state("abc", State.RUNNING)


async def test_a_refused_scheduler_asks_less_and_less_often(world, monkeypatch):
    pauses = []

    async def sleep(seconds, *rest):
        if asyncio.current_task().get_name() == "scheduler's portal":
            pauses.append(seconds)
            seconds = 0
        await _asleep(seconds, *rest)

    monkeypatch.setattr(portal_link, "_REFUSED_FIRST_PAUSE_S", 2.0)
    monkeypatch.setattr(portal_link.asyncio, "sleep", sleep)
    world.portal.refuse = "not today"
    async with world.scheduler():
        await until(lambda: len(pauses) >= 10)
    assert 1 <= pauses[0] <= 3
    assert all(30 <= pause <= 90 for pause in pauses[6:10])


async def test_a_dead_portal_is_noticed(world, monkeypatch, caplog):
    """security.md, section 4: a dead peer is noticed in 15 s, half-open TCP included."""
    assert portal_link.HEARTBEAT_S * 1.5 <= 15
    monkeypatch.setattr(portal_link, "HEARTBEAT_S", 0.2)
    async with Wire(world.portal._port) as wire:
        world.connect = [wire.address]
        async with world.scheduler() as scheduler:
            await scheduler.ready()
            wire.flows.clear()
            await until(lambda: "the line ended" in caplog.text)
            await world.start()
            wire.flows.set()
            await world.portal.until_state("abc", State.RUNNING)


async def test_a_portal_that_does_not_acknowledge_is_left(world, monkeypatch):
    monkeypatch.setattr(portal_link, "ACK_LIMIT_S", 0.1)
    world.portal.acknowledges = False
    async with world.scheduler():
        await world.start()
        await until(lambda: world.portal.opened >= 3)
        world.portal.acknowledges = True
        await world.portal.until_state("abc", State.RUNNING)


@pytest.mark.parametrize(
    "frame", ["", "{}", "[" * 5000, '{"type":"welcome","signature":"x"}', "x" * 300_000]
)
async def test_what_is_no_message_ends_the_line_and_nothing_else(world, frame):
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        opened = world.portal.opened
        for socket in list(world.portal._sockets):
            await socket.send_str(frame)
        await until(lambda: world.portal.opened > opened)
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)


async def test_a_portal_of_the_next_release_is_understood_as_far_as_it_can_be(world):
    """An order of a new kind is not acknowledged: it waits for a scheduler that knows it."""
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        (socket,) = world.portal._sockets
        new = {"type": "order-of-the-next-release", "instance": "abc"}
        for frame in (
            {"type": "notice", "text": "upgraded"},
            {"type": "message", "id": "new-order", "body": new},
        ):
            await socket.send_str(json.dumps(frame))
        known = {"type": "start", "instance": "abc", "image": "sha256:1", "key_nonce": "nonce"}
        envelope = {"type": "message", "id": "known", "body": {**known, "gpus": 1}, "urgent": True}
        world.portal.orders |= {"known": None, "new-order": None}
        await socket.send_str(json.dumps(envelope))
        await world.portal.until_state("abc", State.RUNNING)
        assert list(world.portal.orders) == ["new-order"]
        assert world.portal.opened == 1


async def test_more_messages_than_fit_at_once(world, monkeypatch):
    monkeypatch.setattr(portal_link, "MAX_IN_FLIGHT", 2)
    world.node.max_pods = 20
    async with world.scheduler():
        for number in range(20):
            await world.start(f"i{number}")
        for number in range(20):
            await world.portal.until_state(f"i{number}", State.RUNNING)


async def test_the_line_outlives_the_limit_of_a_request(world, monkeypatch):
    """The session's limit for a request (10 s) is none for the WebSocket."""
    monkeypatch.setattr(portal_client, "TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        opened = world.portal.opened
        await asyncio.sleep(0.5)
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        assert world.portal.opened == opened == 1


async def test_which_nodes_are_reached_is_told_again_on_every_line(world):
    """A portal that was restarted keeps nothing of what the line before told."""
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        await world.portal.until(lambda: world.portal.cluster and world.portal.cluster.nodes_up)
        world.portal.cluster = None
        await world.portal.stop()
        await world.portal.start()
        await world.portal.until(lambda: world.portal.cluster is not None)
        assert world.portal.cluster.nodes_up == ["node-home"]


async def test_a_key_that_is_published_ends_the_pause_after_a_refusal(world, monkeypatch):
    monkeypatch.setattr(portal_link, "_REFUSED_FIRST_PAUSE_S", 600.0)
    monkeypatch.setattr(portal_link, "_REFUSED_LONGEST_PAUSE_S", 600.0)
    world.portal.revoke(world.name)
    await world.start()
    async with world.scheduler():
        await until(lambda: world.portal.opened >= 1)
        await asyncio.sleep(0.5)
        world.portal.publish(world.name, world.key)
        await world.portal.until_state("abc", State.RUNNING, timeout=10)
