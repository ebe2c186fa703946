"""security.md section 5, "engine restart", and a machine that reboots: on an engine of our own.

In order (the engine is upgraded, the machine is shut down) and by a power cut; with an agent that
lives through it, and with one that comes up later.
"""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from systems.pod_supervisor import keeping
from systems.pods import (
    app_of,
    docker,
    inspect,
    leave_work,
    pods_of,
    run_start,
    running,
    stands,
    until_at_engine,
    work_is_there,
)
from systems.second_engine import SecondEngine

from dit4c_p2p.messages.node import PodState
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.settings.node import PodSettings

pytestmark = [pytest.mark.engine, pytest.mark.root]

# security.md: the agent finds its pods again in 15 s; starting them takes a moment more.
BACK_S = 30


@pytest.fixture(scope="module")
def second(images, tmp_path_factory) -> Iterator[SecondEngine]:
    with SecondEngine(tmp_path_factory.mktemp("engine"), networks="10.223.") as engine:
        engine.load(images)
        yield engine


@pytest.fixture
def there(second, monkeypatch, config):
    """The engine's own client, and an agent's configuration, for the second engine."""
    monkeypatch.setenv("DOCKER_HOST", second.url)
    yield replace(
        config, engine_url=second.url, pods=PodSettings(network_range=IPv4Network("10.223.0.0/16"))
    )
    asyncio.run(remove_everything_of_node(config.data_folder, second.url))


@asynccontextmanager
async def agent(config):
    """The parts of an agent that look after pods, running."""
    async with Engine(config.engine_url) as engine:
        pods = pods_of(config, engine)
        async with keeping(pods, engine, config) as keeper:
            yield pods, keeper


async def down_and_up(second: SecondEngine, how: str) -> None:
    await asyncio.to_thread(second.stop if how == "in order" else second.cut_power)
    await asyncio.to_thread(second.start)


@pytest.mark.parametrize("how", ["in order", "power cut"])
async def test_row_engine_restart_pods_come_back_with_their_files(
    second, there, images, instance, how
):
    async with agent(there) as (pods, keeper):
        with keeper.subscribe() as events:
            await run_start(pods, instance, images.app)
            before = inspect(app_of(instance))
            leave_work(instance)
            await down_and_up(second, how)
            told = []
            async with asyncio.timeout(BACK_S):
                while PodState.INTERRUPTED not in told:
                    event = await events.next(BACK_S)
                    told.append(event.status.state)
            assert set(told) == {PodState.INTERRUPTED}, "it is never said that the app has ended"
            await until_at_engine(lambda: stands(instance), BACK_S)
            after = inspect(app_of(instance))
            assert after["Id"] == before["Id"]
            assert work_is_there(instance)
            (status,) = (await pods.list()).pods
            assert (status.state, status.run) == (PodState.RUNNING, 1)
            assert "went down" in status.reason
            assert "started again" in status.reason


@pytest.mark.parametrize("how", ["in order", "power cut"])
async def test_a_machine_that_reboots_each_pod_as_its_user_would_expect(
    second, there, images, instance, how
):
    runs_on, stopped, ended = (f"{instance[:-1]}{letter}" for letter in "xyz")
    async with agent(there) as (pods, _):
        for one in (runs_on, stopped, ended):
            await run_start(pods, one, images.app)
        await pods.stop(stopped)
        docker("kill", app_of(ended))
        # Once the rest of it is stopped the agent has written down that it was by itself.
        await until_at_engine(lambda: not running(ended), BACK_S)
        began = inspect(app_of(runs_on))["State"]["StartedAt"]
    await down_and_up(second, how)
    assert docker("ps", "-q") == "", "nothing starts before the agent has seen to its firewall"
    async with agent(there) as (pods, _):
        await until_at_engine(lambda: stands(runs_on), BACK_S)
        listed = {status.instance: status for status in (await pods.list()).pods}
        assert listed[runs_on].state is PodState.RUNNING
        assert listed[stopped].state is listed[ended].state is PodState.EXITED
        assert listed[stopped].reason == "it was stopped as asked"
        assert listed[ended].reason == "the app was ended by force (SIGKILL)"
        assert inspect(app_of(runs_on))["State"]["StartedAt"] > began
        said = await run_start(pods, stopped, images.app, run=2, kept=True)
        assert said[-1].instance == stopped
        assert stands(stopped)


async def test_an_app_that_ended_while_no_agent_looked_stays_ended(second, there, images, instance):
    async with agent(there) as (pods, _):
        await run_start(pods, instance, images.app)
    docker("kill", app_of(instance))
    await asyncio.sleep(6)  # past status.TOGETHER_S: the engine goes down later than the app
    await down_and_up(second, "in order")
    async with agent(there) as (pods, _):
        (status,) = (await pods.list()).pods
        assert (status.state, status.exit_code) == (PodState.EXITED, 137)


async def test_interrupted_while_it_starts_for_the_first_time_it_is_asked_for_again(
    second, there, images, instance
):
    async with agent(there) as (pods, _):
        starting = asyncio.create_task(run_start(pods, instance, images.deaf))
        await until_at_engine(
            lambda: docker("ps", "-q", "--filter", f"name={app_of(instance)}") != "", BACK_S
        )
        await down_and_up(second, "in order")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        (status,) = (await pods.list()).pods
        assert status.state is PodState.PARTIAL
        await run_start(pods, instance, images.app)
        assert stands(instance)
