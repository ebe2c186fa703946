"""security.md section 5, disk full, at the agent: a clear error, nothing corrupt, and on when there
is room. Once it is the disk of the agent's own files, once that of the engine."""

import asyncio
import os
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from systems.pod_supervisor import keeping
from systems.pods import app_of, docker, inspect, look, pods_of, run_start, running, until_at_engine
from systems.second_engine import SecondEngine
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.node import (
    DiscardPod,
    Failure,
    PodGone,
    PodRunning,
    PodState,
    PodStopped,
    StartPod,
    StopPod,
)
from dit4c_p2p.node.agent import NodeVerbs, remove_everything_of_node
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import EngineFull, FilesFailed
from dit4c_p2p.node.pods.supervisor import PodSupervisor
from dit4c_p2p.settings.node import PodSettings

pytestmark = [pytest.mark.engine, *ONLY_ROOT]

FULL = "the disk of the machine it runs on is full. Its owner has to make room"


@pytest.fixture
def disk(tmp_path):
    """Where the agent keeps its files."""
    with SmallDisk(tmp_path / "small", size="256k") as disk:
        yield disk


@pytest.fixture
def data_folder(disk):
    yield disk.folder
    asyncio.run(remove_everything_of_node(disk.folder))


async def last_of(pods, engine, config, request):
    """How a verb ends that the scheduler asks for."""
    verbs = NodeVerbs(pods, PodSupervisor(pods, engine, str(config.data_folder)))
    async with asyncio.timeout(60):
        return [reply async for reply in verbs.serve(encode(request))][-1]


async def test_each_verb_is_to_be_asked_again_and_removing_works(
    pods, engine, config, images, instance, disk, caplog
):
    start = StartPod(instance=instance, image=images.app, key_nonce="n")
    disk.fill()
    for _ in range(2):
        refused = await last_of(pods, engine, config, start)
        assert refused == Failure(code="storage", text=FULL)
    assert f"instances/{instance}/key can't be written: No space left" in caplog.text
    assert "Traceback" not in caplog.text
    assert not look(instance)
    disk.make_room()
    assert await last_of(pods, engine, config, start) == PodRunning(instance=instance)
    app = inspect(app_of(instance))["State"]["StartedAt"]
    disk.fill()
    stop = StopPod(instance=instance)
    assert (await last_of(pods, engine, config, stop)).code == "storage"
    assert len(running(instance)) == 4, "what can't be written down is not done"
    disk.make_room()
    assert await last_of(pods, engine, config, stop) == PodStopped(instance=instance)
    disk.fill()
    again = StartPod(instance=instance, image=images.app, key_nonce="n", run=2, kept=True)
    assert (await last_of(pods, engine, config, again)).code == "storage"
    (status,) = (await pods.list()).pods
    assert (status.state, status.reason) == (PodState.EXITED, "it was stopped as asked")
    assert inspect(app_of(instance))["State"]["StartedAt"] == app
    gone = DiscardPod(instance=instance)
    assert await last_of(pods, engine, config, gone) == PodGone(instance=instance)
    assert not look(instance)


async def test_reachability_is_written_before_it_is_reported(pods, images, instance, disk):
    request = StartPod(instance=instance, image=images.app, key_nonce="n")
    with pytest.raises(FilesFailed):
        async for _ in pods.start(request):
            if not (disk.folder / "filler").exists():
                disk.fill()
    before = inspect(app_of(instance))["State"]
    assert before["Running"]
    disk.make_room()
    assert (await run_start(pods, instance, images.app))[-1] == PodRunning(instance=instance)
    assert inspect(app_of(instance))["State"]["StartedAt"] == before["StartedAt"]


async def test_an_ended_app_is_reported_and_stays_down(
    pods, engine, config, images, instance, disk
):
    async with keeping(pods, engine, config) as keeper:
        await run_start(pods, instance, images.app)
        disk.fill()
        with keeper.subscribe() as events:
            docker("kill", app_of(instance))
            event = await events.next(20)
            while event is not None and event.status.state is not PodState.EXITED:
                event = await events.next(20)
        assert event is not None
        assert event.status.reason == "the app was ended by force (SIGKILL)"
        disk.make_room()
        await until_at_engine(lambda: not running(instance))
        (status,) = (await pods.list()).pods
        assert status.reason == event.status.reason


async def test_an_interrupted_app_comes_back_when_there_is_room(
    pods, engine, config, images, instance, disk, caplog
):
    async with keeping(pods, engine, config):
        await run_start(pods, instance, images.app)
        disk.fill()
        docker("kill", f"dit4c-{instance}-infra")
        await until_at_engine(lambda: f"pod of {instance}: still down: {FULL}" in caplog.text)
        disk.make_room()
        await until_at_engine(lambda: len(running(instance)) == 4)
        (status,) = (await pods.list()).pods
        assert status.state is PodState.RUNNING
        assert status.reason.endswith("the app was started again, with its files")


async def test_a_full_engine_disk_is_reported_and_retried(
    config, images, instance, monkeypatch, tmp_path_factory, caplog
):
    with SecondEngine(tmp_path_factory.mktemp("engine"), size="120m") as second:
        second.load(images)
        monkeypatch.setenv("DOCKER_HOST", second.url)
        there = replace(
            config,
            engine_url=second.url,
            pods=PodSettings(network_range=IPv4Network("10.216.0.0/16")),
        )
        filler = second.folder / "data" / "filler"
        async with Engine(second.url) as engine:
            pods = pods_of(there, engine)
            with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
                while True:
                    file.write(os.urandom(1024 * 1024))
            with pytest.raises(EngineFull) as caught:
                await run_start(pods, instance, images.app)
            assert caught.value.one_line() == FULL
            assert "no space left on device" in caplog.text, "where, is for the owner"
            filler.unlink()
            assert (await run_start(pods, instance, images.app))[-1] == PodRunning(
                instance=instance
            )
            await pods.discard(instance)
