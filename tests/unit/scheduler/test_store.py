"""What is written down, and what the portal is to be told."""

import pytest
from lib.database_engines import commit_fails, connection

from dit4c_p2p.database import DatabaseSpec, databases, missing_migrations
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    AllocatedKey,
    ClusterState,
    DiscardInstance,
    InstanceReport,
    RequestState,
    StartInstance,
)
from dit4c_p2p.messages.node import PodKey
from dit4c_p2p.observe.logs import log_record_fields
from dit4c_p2p.scheduler import store as store_module
from dit4c_p2p.scheduler.errors import StoreFailed
from dit4c_p2p.scheduler.lifecycle import (
    ImageReady,
    Limits,
    Placed,
    PodGone,
    PodStarted,
    PodStopped,
    Progressed,
    TimeUp,
)
from dit4c_p2p.scheduler.store import INCOMING_KEPT_S, Store

pytestmark = pytest.mark.both_databases

START = StartInstance(instance="abc", image="sha256:1", key_nonce="nonce")
KEY = PodKey(public_key="ssh-ed25519 AAAA", instance_signature="i", node_signature="n")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path, engine):
    async with databases([engine.database("scheduler", tmp_path)]):
        store = Store(clock=Clock(), limits=Limits(), on_outgoing=lambda: None)
        store.clock = store._clock
        yield store


async def order(store, id, body):
    return await store.receive(id, body)


async def told(store):
    return [pending.envelope.body for pending in await store.outgoing(0, 100)]


async def running(store):
    await order(store, "1", START)
    for event in (Placed("node-home"), ImageReady(), PodStarted()):
        instance = await store.apply("abc", event)
    return instance


async def test_no_migration_is_missing(tmp_path):
    assert await missing_migrations(DatabaseSpec("scheduler", tmp_path / "x")) == []


async def test_an_order_is_stored_with_its_report(store):
    new, instance = await order(store, "1", START)
    assert new
    assert (instance.state, instance.image) == (State.CREATED, "sha256:1")
    assert instance.sequence == 1
    (report,) = await told(store)
    assert report == InstanceReport(
        instance="abc", sequence=1, state=State.CREATED, info="Waiting for a machine", ran=False
    )


async def test_an_order_that_comes_twice_is_acted_on_once(store):
    await order(store, "1", START)
    new, instance = await order(store, "1", START)
    assert not new
    assert instance.state is State.CREATED
    new, instance = await order(store, "2", START)
    assert new
    assert (instance.state, instance.sequence) == (State.CREATED, 1)


async def test_a_discard_that_overtakes_its_start_wins(store):
    _, instance = await order(store, "2", DiscardInstance(instance="abc"))
    assert instance.state is State.DISCARDED
    _, instance = await order(store, "1", START)
    assert instance.state is State.DISCARDED
    assert await store.unfinished() == []


async def test_every_state_is_reported_in_order_and_once(store):
    await running(store)
    reports = await told(store)
    assert [report.state for report in reports] == [
        State.CREATED,
        State.WAITING_FOR_IMAGE,
        State.STARTING,
        State.RUNNING,
    ]
    assert [report.sequence for report in reports] == [1, 2, 3, 4]
    assert reports[-1].node == "node-home"


def transitions(caplog):
    """What the log says of instance abc's states."""
    told = [record for record in caplog.records if record.name == "dit4c_p2p.scheduler.store"]
    assert {log_record_fields(record)["instance"] for record in told} <= {"abc"}
    return [record.getMessage().partition(": ")[2].partition(" (")[0] for record in told]


async def test_each_transition_is_one_line_that_says_which_instance(store, caplog):
    caplog.set_level("INFO")
    await running(store)
    await order(store, "2", DiscardInstance(instance="abc"))
    for event in (PodStopped(), PodGone(), PodGone()):
        await store.apply("abc", event)
    assert transitions(caplog) == [
        "ordered",
        "created → waiting_for_image",
        "waiting_for_image → starting",
        "starting → running",
        "running → stopping",
        "stopping → discarding",
        "discarding → discarded",
    ]


async def test_what_is_not_written_down_has_not_happened_in_the_log_and_the_figures(
    tmp_path, engine, caplog, monkeypatch
):
    caplog.set_level("INFO")
    moved = []
    async with databases([engine.database("scheduler", tmp_path)]):
        store = Store(
            clock=Clock(),
            limits=Limits(),
            on_outgoing=lambda: None,
            on_moved=lambda instance, state: moved.append(state),
        )
        await order(store, "1", START)
        with monkeypatch.context() as patched:
            patched.setattr(store_module, "in_transaction", commit_fails)
            with pytest.raises(StoreFailed):
                await store.apply("abc", Placed("node-home"))
            with pytest.raises(StoreFailed):
                await order(store, "2", DiscardInstance(instance="abc"))
            with pytest.raises(StoreFailed):
                start = StartInstance(instance="other", image="", key_nonce="")
                await order(store, "3", start)
        assert (transitions(caplog), moved) == (["ordered"], [State.CREATED])
        assert (await store.get("abc")).state is State.CREATED
        assert await store.get("other") is None
        await store.apply("abc", Placed("node-home"))
    assert transitions(caplog) == ["ordered", "created → waiting_for_image"]
    assert moved == [State.CREATED, State.WAITING_FOR_IMAGE]


async def test_progress_takes_the_place_of_what_is_not_sent_yet(store):
    await order(store, "1", START)
    await store.apply("abc", Placed("node-home"))
    for percent in range(100):
        event = Progressed(State.WAITING_FOR_IMAGE, "unpacking", percent / 100)
        await store.apply("abc", event)
    reports = await told(store)
    assert [report.state for report in reports] == [State.CREATED, State.WAITING_FOR_IMAGE]
    assert (reports[-1].progress, reports[-1].sequence) == (0.99, 102)


async def test_what_was_acknowledged_is_not_told_again_and_positions_only_grow(store):
    await running(store)
    pending = await store.outgoing(0, 100)
    assert [message.envelope for message in await store.outgoing(0, 2)] == [
        message.envelope for message in pending[:2]
    ]
    for message in pending:
        await store.acknowledged(message.envelope.id)
        await store.acknowledged(message.envelope.id)
    assert await told(store) == []
    await order(store, "2", RequestState(instance="abc"))
    (again,) = await store.outgoing(pending[-1].position, 100)
    assert (again.envelope.body.state, again.envelope.body.sequence) == (State.RUNNING, 5)


async def test_a_key_is_told_once_and_only_while_its_pod_is_wanted(store):
    await order(store, "1", START)
    await store.apply("abc", Placed("node-home"))
    await store.key_made("abc", KEY)
    assert not [body for body in await told(store) if isinstance(body, AllocatedKey)]
    await store.apply("abc", ImageReady())
    await store.key_made("abc", KEY)
    await store.key_made("abc", KEY)
    (key,) = [body for body in await told(store) if isinstance(body, AllocatedKey)]
    assert (key.instance, key.node, key.public_key) == ("abc", "node-home", KEY.public_key)
    await store.apply("abc", PodStarted())
    await order(store, "2", DiscardInstance(instance="abc"))
    await store.key_made(
        "abc", PodKey(public_key="other", instance_signature="", node_signature="")
    )
    assert len([body for body in await told(store) if isinstance(body, AllocatedKey)]) == 1


async def test_only_the_newest_state_of_the_cluster_waits(store):
    await store.tell(ClusterState(nodes_up=[], nodes_down=["node-a"]))
    await store.tell(ClusterState(nodes_up=["node-a"], nodes_down=[]))
    assert await told(store) == [ClusterState(nodes_up=["node-a"], nodes_down=[])]


async def test_an_unknown_instance_is_not_reported_on(store):
    new, instance = await order(store, "1", RequestState(instance="never"))
    assert (new, instance) == (True, None)
    assert await told(store) == []
    with pytest.raises(KeyError):
        await store.apply("never", PodStarted())


async def test_ids_of_messages_are_kept_for_long_and_not_for_ever(store):
    await order(store, "1", START)
    store.clock.now += INCOMING_KEPT_S - 1
    await store.tidy()
    assert not (await order(store, "1", START))[0]
    store.clock.now += 2
    await store.tidy()
    new, instance = await order(store, "1", START)
    assert new
    assert instance.sequence == 1, "the instance itself is remembered"


async def test_why_what_is_being_stopped_has_failed_outlives_being_closed(store):
    await order(store, "1", START)
    for event in (Placed("node-home"), ImageReady()):
        await store.apply("abc", event)
    store.clock.now += Limits().start_s
    stopping = await store.apply("abc", TimeUp())
    assert (stopping.state, stopping.failure[:8]) == (State.STOPPING, "No start")
    assert await store.get("abc") == stopping
    failed = await store.apply("abc", PodStopped())
    assert (failed.state, failed.info) == (State.ERRORED, stopping.failure)


async def test_it_outlives_being_closed(tmp_path, engine):
    def make():
        return Store(clock=Clock(), limits=Limits(), on_outgoing=lambda: None)

    spec = engine.database("scheduler", tmp_path)
    async with databases([spec]):
        before = await running(make())
        outgoing = await make().outgoing(0, 100)
    async with databases([spec]):
        assert await make().unfinished() == [before]
        assert await make().outgoing(0, 100) == outgoing


async def test_disk_full_nothing_half_written_and_on_when_there_is_room(store, engine):
    """security.md, section 5: disk full, at each writer."""
    await order(store, "1", START)
    before = await store.get("abc")
    async with engine.no_room("scheduler"):
        with pytest.raises(StoreFailed, match=engine.no_room_text):
            for _ in range(200):
                await store.apply("abc", Progressed(State.CREATED, "x" * 400 + str(_)))
                start = StartInstance(instance=f"i{_}", image="", key_nonce="")
                await order(store, f"fill-{_}", start)
    after = await store.get("abc")
    assert after.state is before.state
    reports = [body for body in await told(store) if body.instance == "abc"]
    assert [report.sequence for report in reports] == [after.sequence]
    assert (await store.apply("abc", Placed("node-home"))).state is State.WAITING_FOR_IMAGE


async def test_a_table_that_is_gone_is_an_error_and_not_a_crash(store):
    await order(store, "1", START)
    await connection("scheduler").execute_script("DROP TABLE outgoing")
    with pytest.raises(StoreFailed):
        await store.outgoing(0, 1)
