"""Stopped, started again, gone down and come back: the whole system, killed in between."""

import asyncio
import subprocess

import pytest
from systems.all_in_one import browser_session, log_in

pytestmark = pytest.mark.engine

CONVERGE_S = 60


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, check=True, text=True, timeout=60
    )
    return done.stdout.strip()


def app_of(instance: str) -> str:
    return f"dit4c-{instance}-app"


def leave_work(instance: str) -> None:
    docker("exec", app_of(instance), "sh", "-c", "echo kept > /tmp/work")


def work_is_there(instance: str) -> bool:
    return docker("exec", app_of(instance), "cat", "/tmp/work") == "kept"


async def page_at(system, url: str) -> tuple[int, str]:
    """What an instance's address answers to somebody who is logged in at the portal."""
    async with browser_session(system.access["portal"], url) as session:
        await log_in(session, system.access["login_url"])
        async with session.get(url, headers={"Accept": "application/json"}) as answer:
            return answer.status, await answer.text()


async def test_stopped_and_started_again_at_the_same_address(own_system):
    own_system.start()
    async with own_system.api() as api:
        instance = await api.start()
        running = await api.wait_for(instance, "running", url=True)
        leave_work(instance)
        container = docker("inspect", "-f", "{{.Id}}", app_of(instance))

        await api.call("POST", f"instances/{instance}/stop", expect=202)
        stopped = await api.wait_for(instance, "exited")
        assert (stopped["url"], stopped["actions"]) == (None, ["start", "save", "discard"])
        status, text = await page_at(own_system, running["url"])
        assert (status, "stopped" in text) == (503, True)
        # Whatever happens to the system meanwhile, it stays stopped.
        own_system.kill()
        own_system.start()
    async with own_system.api() as api:
        await asyncio.sleep(3)
        assert (await api.call("GET", f"instances/{instance}"))["state"] == "exited"
        assert docker("ps", "-q", "--filter", f"label=dit4c.instance={instance}") == ""

        await api.call("POST", f"instances/{instance}/start", expect=202)
        again = await api.wait_for(instance, "running", url=True, timeout=CONVERGE_S)
        assert again["url"] == running["url"]
        assert docker("inspect", "-f", "{{.Id}}", app_of(instance)) == container
        assert work_is_there(instance)
        await api.discard(instance)
        assert own_system.at_engine(instance) == []


async def test_killed_at_each_state_of_stopping_and_starting_again(own_system):
    own_system.start()
    async with own_system.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True)
        leave_work(instance)
    for delay in (0.0, 0.05, 0.3, 1.0):
        for wish, state in (("stop", "exited"), ("start", "running")):
            async with own_system.api() as api:
                await api.call("POST", f"instances/{instance}/{wish}", expect=202)
                await asyncio.sleep(delay)
            own_system.kill()
            own_system.start()
            async with own_system.api() as api:
                await api.wait_for(instance, state, url=state == "running", timeout=CONVERGE_S)
        assert work_is_there(instance)
    async with own_system.api() as api:
        await api.discard(instance)
    assert own_system.at_engine() == []


async def test_a_pod_that_goes_down_comes_back_and_its_row_says_so(own_system):
    own_system.start()
    async with own_system.api() as api:
        instance = await api.start()
        running = await api.wait_for(instance, "running", url=True)
        leave_work(instance)
        began = docker("inspect", "-f", "{{.State.StartedAt}}", app_of(instance))
        docker("kill", f"dit4c-{instance}-infra")
        async with asyncio.timeout(CONVERGE_S):
            while True:
                now = await api.call("GET", f"instances/{instance}")
                assert now["state"] in ("running", "starting"), now
                back = docker("inspect", "-f", "{{.State.StartedAt}}", app_of(instance)) > began
                # It stays said once the app runs again.
                if back and now["state"] == "running" and "went down" in now["info"]:
                    break
                await asyncio.sleep(0.1)
        assert work_is_there(instance)
        again = await api.wait_for(instance, "running", url=True)
        assert again["url"] == running["url"]
        await api.discard(instance)
