"""``kill -9`` of the whole process in each state of an instance's life, then ``up`` again."""

import asyncio
import sqlite3

import pytest

pytestmark = pytest.mark.engine

# Converged: the same final state as without the kill, within this time of being up again.
CONVERGE_S = 30


def state_at_kill(system, instance):
    """The scheduler's own record, read from its file."""
    file = system.data / "scheduler" / "scheduler.sqlite3"
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        found = database.execute("SELECT state FROM instance WHERE id = ?", [instance]).fetchone()
    finally:
        database.close()
    return found[0] if found else "not_there_yet"


async def check_one_pod(system, instance):
    """Wait for all parts of one pod and no others."""
    pod = {"", "-app", "-auth", "-files", "-infra", "-listener", "-mount", "-pod", "-storage"}
    async with asyncio.timeout(CONVERGE_S):
        while True:
            names = system.at_engine(instance)
            roles = [name.removeprefix(f"dit4c-{instance}") for name in names]
            assert len(set(roles)) == len(roles), names
            if set(roles) == pod:
                return
            await asyncio.sleep(0.2)


async def test_killed_on_the_way_up_and_on_the_way_down(own_system):
    """One kill meets several instances, each as far as it has come."""
    seen = set()
    own_system.start()
    # Until the next one is asked for, or the kill. The first one runs by then, or is gone.
    for delays in ((0.1, 0.0), (0.7, 0.3), (1.2, 0.02)):
        async with own_system.api() as api:
            instances = [await api.start()]
            await api.wait_for(instances[0], "running", url=True)
            for delay in delays:
                instances.append(await api.start())
                await asyncio.sleep(delay)
        own_system.kill()
        seen |= {state_at_kill(own_system, instance) for instance in instances}
        own_system.start()
        async with own_system.api() as api:
            for instance in instances:
                await api.wait_for(instance, "running", url=True, timeout=CONVERGE_S)
                await check_one_pod(own_system, instance)
            await api.discard(instances[0])
            for instance, delay in zip(instances[1:], delays, strict=True):
                await api.call("POST", f"instances/{instance}/discard", expect=202)
                await asyncio.sleep(delay)
        own_system.kill()
        seen |= {state_at_kill(own_system, instance) for instance in instances}
        own_system.start()
        async with own_system.api() as api:
            for instance in instances:
                await api.wait_for(instance, "discarded", timeout=CONVERGE_S)
            assert own_system.at_engine() == []
    print("states at the kill:", sorted(seen))
    assert {"starting", "running", "discarded"} <= seen


async def test_killed_while_running_the_app_does_not_notice(own_system):
    own_system.start()
    async with own_system.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True)
        await check_one_pod(own_system, instance)
    own_system.kill()
    before = own_system.at_engine(instance)
    own_system.start()
    async with own_system.api() as api:
        await api.wait_for(instance, "running", url=True, timeout=CONVERGE_S)
        assert own_system.at_engine(instance) == before
        logs = await api.logs(instance)
        assert logs.count("is running at") <= 1
        await api.discard(instance)
