"""The scheduler with the portal as it is: what one writes the other reads."""

import asyncio

import pytest
from fakes.node import FakeNode, memory_dialler
from systems.portal import PortalAtWork

from dit4c_p2p.database import databases
from dit4c_p2p.messages.node import StartPod
from dit4c_p2p.scheduler import Scheduler, SchedulerConfig


@pytest.fixture
async def work(tmp_path, quick, engine):
    work = PortalAtWork(tmp_path)
    folder = tmp_path / "scheduler"
    async with databases([work.database, engine.database("scheduler", folder)]):
        await work.start()
        await work.portal.ensure_admin("admin")
        key = await work.enrol("scheduler-main")
        work.node = FakeNode("node-main", key=await work.enrol("node-main"))
        work.token = await work.portal.create_api_token("admin", "test")
        scheduler = Scheduler(
            SchedulerConfig(
                name=work.scheduler().name,
                key=key,
                data_folder=folder,
                portal=work.portal.info,
                routers=[],
                nodes=["main"],
            ),
            dialler=memory_dialler(work.node),
        )
        await scheduler.start()
        await asyncio.wait_for(scheduler.ready(), 10)
        yield work
        await scheduler.stop()
        await work.stop()


async def until(api, id, *states):
    async with asyncio.timeout(20):
        while (found := (await api.get(f"instances/{id}")).json)["state"] not in states:
            await asyncio.sleep(0.02)
    return found


@pytest.mark.both_databases
async def test_from_the_api_to_the_node_and_back(work):
    async with work.api() as api:
        answer = await api.post("instances", json={"image": "jupyterlab"})
        assert answer.status == 201, answer.text
        id = answer.json["id"]
        await until(api, id, "running")
        published = await api.get(f"{work.url}/instances/{id}/ssh-keys")
        assert "ssh-ed25519" in published.text, "the key that node and instance signed for"
        logs = await api.get(f"instances/{id}/logs")
        assert (logs.status, "two" in logs.text) == (200, True)
        assert (await api.post(f"instances/{id}/discard")).status == 202
        await until(api, id, "discarded")
        published = await api.get(f"{work.url}/instances/{id}/ssh-keys")
        assert "ssh-ed25519" not in published.text
        assert work.node.pods == {}


async def test_the_portal_restarts_while_an_instance_starts(work):
    reached = work.node.hold_at(StartPod)
    async with work.api() as api:
        id = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        await reached.wait()
        await work.stop()
        work.node.let_go(StartPod)
        await work.start()
        await until(api, id, "running")
        await api.post(f"instances/{id}/discard")
        await until(api, id, "discarded")
        assert work.node.made == {id: 1}


async def test_an_app_that_fails_says_why(work):
    async with work.api() as api:
        id = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        await until(api, id, "running")
        work.node.end(id, 137, "the app was ended: out of memory", "the last line")
        found = await until(api, id, "errored")
        assert "out of memory" in found["info"]
