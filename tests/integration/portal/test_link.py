"""The scheduler's link over a real WebSocket: who may speak, of what, and what happens to it."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest
from lib.silent_wire import Wire
from systems.portal import FakeScheduler, allocated, running_instance

from dit4c_p2p.identity.keys import fingerprint, generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    Ack,
    AllocatedKey,
    DiscardInstance,
    InstanceReport,
    RequestState,
    StartInstance,
    ToSchedulerEnvelope,
)
from dit4c_p2p.portal.instances import scheduler_link
from dit4c_p2p.portal.models import Incoming, Instance, Outgoing, SshKey


async def start(work):
    async with work.api() as api:
        return (await api.post("instances", json={"image": "jupyterlab"})).json["id"]


async def keys_of(instance):
    held = await SshKey.filter(name=f"instance-{instance}", revoked_at=None)
    return {key.fingerprint for key in held}


async def refused_code(work, name, key):
    with pytest.raises(ConnectionError) as caught:
        async with FakeScheduler(work, PeerName.parse(name), key):
            pass
    return caught.value.args[0]


async def test_row_6_only_a_published_key_opens_a_link(work):
    assert await refused_code(work, "scheduler-main", generate()) == 4403
    assert await refused_code(work, "scheduler-none", work.keys["scheduler-main"]) == 4403
    assert await refused_code(work, "scheduler-main", work.keys["node-main"]) == 4403


async def test_a_revoked_scheduler_is_cut_and_stays_out(work):
    key = work.keys["scheduler-main"]
    async with work.scheduler() as scheduler, work.api() as api:
        await api.post(f"keys/{fingerprint(key)}/revoke")
        with pytest.raises(ConnectionError) as caught:
            await scheduler.message(StartInstance)
        assert caught.value.args[0] == 4403
    assert await refused_code(work, "scheduler-main", key) == 4403


@pytest.mark.both_databases
async def test_messages_wait_until_they_are_acknowledged(work):
    first = await start(work)
    async with work.scheduler() as scheduler:
        assert (await scheduler.message(StartInstance, ack=False)).instance == first
    second = await start(work)
    await work.stop()
    await work.start()
    async with work.scheduler() as scheduler:
        assert (await scheduler.message(StartInstance)).instance == first
        assert (await scheduler.message(StartInstance)).instance == second
        await scheduler.report(second, State.STARTING)  # the acks are in before it
        assert await Outgoing.all().count() == 0


async def test_the_newest_link_takes_over(work):
    async with work.scheduler() as old, work.scheduler() as new:
        with pytest.raises(ConnectionError) as caught:
            await old.message(StartInstance)
        assert caught.value.args[0] == 4409
        instance = await start(work)
        assert (await new.message(StartInstance)).instance == instance


@pytest.mark.both_databases
async def test_reports_count_by_their_sequence(work):
    instance = await start(work)
    async with work.scheduler() as scheduler:

        async def tell(sequence, state, id=""):
            report = InstanceReport(instance=instance, sequence=sequence, state=state)
            await scheduler.tell(report, id=id)
            return (await Instance.get(id=instance)).state

        assert await tell(3, State.STARTING, "a") == "starting"
        assert await tell(1, State.WAITING_FOR_IMAGE) == "starting", "late"
        assert await tell(4, State.RUNNING, "b") == "running"
        assert await tell(3, State.STARTING, "a") == "running", "twice"
        assert await tell(9, State.ERRORED, "a") == "running", "an id is acted on once"
        assert await tell(5, State.DISCARDED) == "discarded"
        assert await tell(6, State.RUNNING) == "discarded", "nothing comes back from there"
        assert await Incoming.all().count() == 5


async def test_row_6_a_scheduler_speaks_of_its_own_instances_only(work):
    await work.enrol("scheduler-other")
    async with work.scheduler() as mine, work.scheduler("scheduler-other") as other:
        instance, _ = await running_instance(work, mine)
        before = await keys_of(instance)
        await other.report(instance, State.DISCARDED)
        assert (await Instance.get(id=instance)).state == "running"
        row = await Instance.get(id=instance)
        request = StartInstance(instance=instance, image=row.image, key_nonce=row.key_nonce)
        await other.allocate(request)
        assert await keys_of(instance) == before
        await other.report("nosuchthing", State.RUNNING)


async def test_row_17_a_scheduler_can_not_name_a_key_of_its_own(work):
    await work.enrol("scheduler-other")
    foreign = generate()
    await work.portal.enrol_own("admin", PeerName.parse("node-foreign"), foreign, scheduler="other")
    work.keys["node-foreign"] = foreign
    instance = await start(work)
    async with work.scheduler() as scheduler:
        request = await scheduler.message(StartInstance)
        for wrong in (
            {"node_key": generate()},
            {"node_key": work.keys["scheduler-main"]},
            {"instance_key": generate()},
            {"nonce": "another"},
            {"node": "node-foreign"},
        ):
            await scheduler.tell(allocated(work, request, generate(), **wrong))
            assert await keys_of(instance) == set(), wrong
        await scheduler.tell(allocated(work, request, work.keys["node-main"]))
        assert await keys_of(instance) == set(), "a key that another peer holds"
        await scheduler.tell(
            AllocatedKey(
                instance=instance,
                node="node-main",
                public_key="garbage",
                instance_signature="",
                node_signature="",
            )
        )
        key = await scheduler.allocate(request)
        assert await keys_of(instance) == {fingerprint(key)}


async def test_a_revoked_nodes_word_does_not_count(work):
    instance = await start(work)
    async with work.scheduler() as scheduler, work.api() as api:
        request = await scheduler.message(StartInstance)
        await api.post(f"keys/{fingerprint(work.keys['node-main'])}/revoke")
        await scheduler.allocate(request)
        assert await keys_of(instance) == set()


async def test_a_pod_made_again_has_a_new_key_and_the_old_one_ends(work):
    instance = await start(work)
    async with work.scheduler() as scheduler:
        request = await scheduler.message(StartInstance)
        old = await scheduler.allocate(request)
        new = await scheduler.allocate(request)
        assert await keys_of(instance) == {fingerprint(new)}
        await scheduler.tell(allocated(work, request, old))
        assert await keys_of(instance) == {fingerprint(new)}


async def test_discarding_takes_the_key_out_of_force(work):
    async with work.scheduler() as scheduler, work.api() as api:
        instance, _ = await running_instance(work, scheduler)
        await api.post(f"instances/{instance}/discard")
        assert len(await keys_of(instance)) == 1, "not before the scheduler has begun"
        await scheduler.message(DiscardInstance)
        await scheduler.report(instance, State.DISCARDING)
        assert await keys_of(instance) == set()
        await scheduler.allocate(
            StartInstance(
                instance=instance,
                image="",
                key_nonce=(await Instance.get(id=instance)).key_nonce,
            )
        )
        assert await keys_of(instance) == set(), "no new key while it goes"


async def test_row_16_a_scheduler_that_is_away_ends_nothing(work):
    async with work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
    work.clock.ahead = 30 * 24 * 3600
    async with work.scheduler() as scheduler:
        assert (await scheduler.message(RequestState)).instance == instance
    assert (await Instance.get(id=instance)).state == "running"


@pytest.mark.parametrize(
    "frame", ["{}", "not json", '{"type":"hello"}', '{"type":"message","id":"x"}', "x" * 300_000]
)
async def test_garbage_closes_the_link(work, frame):
    async with work.scheduler() as scheduler:
        await scheduler.socket.send_str(frame)
        message = await scheduler.socket.receive(timeout=10)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


async def test_a_scheduler_of_the_next_release_is_understood_as_far_as_it_can_be(work):
    """Its reports have more in them; what is new to this portal is acknowledged, and no more."""
    instance = await start(work)
    async with work.scheduler() as scheduler:

        async def say(body, id):
            await scheduler.say({"type": "message", "id": id, "priority": 1, "body": body})
            while not isinstance(frame := await scheduler.frame(), Ack):
                assert isinstance(frame, ToSchedulerEnvelope)
            return frame.id

        report = {"type": "report", "instance": instance, "sequence": 3, "state": "starting"}
        assert await say({**report, "info": "Soon.", "gpus": [1]}, "a") == "a"
        assert (await Instance.get(id=instance)).info == "Soon."
        await scheduler.say({"type": "load", "load": 0.5})
        assert await say({"type": "measured", "instance": instance}, "b") == "b"
        assert await say({**report, "sequence": 4, "state": "hibernating"}, "c") == "c"
        assert (await Instance.get(id=instance)).state == "starting"
        await scheduler.report(instance, State.STARTING)


async def test_an_opening_that_says_nothing_is_not_a_link(work):
    url = f"{work.url}/schedulers/main/link"
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as socket:
            await socket.receive(timeout=10)
            await socket.send_str('{"type":"ack","id":"x"}')
            message = await socket.receive(timeout=10)
            assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 4403)


@pytest.mark.parametrize("how", ["binary", "close", "gone", "silent"])
async def test_an_opening_that_is_no_text_is_refused_quietly(work, caplog, monkeypatch, how):
    monkeypatch.setattr("dit4c_p2p.portal.instances.scheduler_link._OPENING_S", 0.3)
    opening = work.portal._services.links._opening
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(f"{work.url}/schedulers/main/link", autoclose=False)
        await socket.receive(timeout=10)
        assert opening.taken == 1
        if how == "binary":
            await socket.send_bytes(b"\xff")
        elif how == "close":
            await socket.close()
        elif how == "gone":
            socket._response.connection.transport.abort()
        async with asyncio.timeout(10):
            while opening.taken:
                await asyncio.sleep(0.01)
    assert [one for one in caplog.records if one.exc_info or one.levelname == "ERROR"] == []


async def test_section_4_one_address_opens_four_links_at_once(work):
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        for _ in range(4):
            await stack.enter_async_context(session.ws_connect(f"{work.url}/schedulers/main/link"))
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"{work.url}/schedulers/main/link")
        assert caught.value.status == 429


async def test_row_4_a_scheduler_whose_line_is_dead_is_noticed(work, monkeypatch, caplog):
    """security.md section 4: a dead peer is noticed in 15 s, half-open TCP included."""
    # aiohttp rounds up to a second, and waits half of it for the answer.
    assert scheduler_link.HEARTBEAT_S + 1 + scheduler_link.HEARTBEAT_S / 2 <= 15
    monkeypatch.setattr(scheduler_link, "HEARTBEAT_S", 0.6)
    caplog.set_level("INFO")
    name, links = PeerName.parse("scheduler-main"), work.portal._services.links
    async with Wire(work.port) as wire:
        async with FakeScheduler(work, name, work.keys[str(name)], wire.address) as scheduler:
            instance = await start(work)
            assert (await scheduler.message(StartInstance)).instance == instance
            answering = asyncio.create_task(scheduler.message(DiscardInstance))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await asyncio.shield(answering)
            assert links.connected("main"), "one that is only quiet stays"
            wire.flows.clear()
            async with asyncio.timeout(10):
                while links.connected("main"):
                    await asyncio.sleep(0.01)
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
    assert "No PONG received" in caplog.text
    async with work.scheduler() as scheduler:
        instance = await start(work)
        assert (await scheduler.message(StartInstance)).instance == instance


async def test_reports_reach_the_dashboard_at_once(work):
    async with work.scheduler() as scheduler, work.browser() as browser:
        await browser.log_in(await work.login_link())
        instance = await start(work)
        await scheduler.message(StartInstance)
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        url, headers = f"{work.url}/events", {"Cookie": cookie}
        async with browser.session.get(url, headers=headers) as response:
            await response.content.readuntil(b"\n\n")
            await scheduler.report(instance, State.STARTING, "Nearly there.")
            async with asyncio.timeout(1):
                event = await response.content.readuntil(b"\n\n")
            assert b"event: instance" in event
            assert b"Nearly there." in event
