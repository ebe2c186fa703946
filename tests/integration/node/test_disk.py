"""What an app may write to the machine's disk: measured on the real engine, or limited by it."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from systems.pods import MIB, docker, inspect, pods_of, run_start

from dit4c_p2p.messages.node import PodRunning, PodState
from dit4c_p2p.node.errors import EngineSaid
from dit4c_p2p.node.parts import NodeParts
from dit4c_p2p.node.pods import disk_quota

pytestmark = [pytest.mark.engine, pytest.mark.root]

LIMIT = 8 * MIB


@pytest.fixture
def lent(config, monkeypatch):
    """An agent's configuration whose owner lends so much; it is measured all the time."""
    monkeypatch.setattr(disk_quota, "MEASURE_EVERY_S", 0.1)
    return replace(config, policy=replace(config.policy, disk_bytes=LIMIT))


class Counting:
    """An engine that counts how often it has measured."""

    def __init__(self, engine):
        self._engine, self.measured = engine, 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def containers(self, *arguments, sizes=False):
        found = await self._engine.containers(*arguments, sizes=sizes)
        self.measured += sizes
        return found

    async def twice(self):
        """Until it was measured from the beginning to its end."""
        wanted = self.measured + 2
        async with asyncio.timeout(30):
            while self.measured < wanted:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def measuring(parts, counting):
    task = asyncio.create_task(parts.disk.run())
    try:
        await counting.twice()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def write(instance, path, mib):
    app = f"dit4c-{instance}-app"
    docker("exec", app, "dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mib}")


async def until_exited(pods):
    async with asyncio.timeout(30):
        while (await pods.list()).pods[0].state is not PodState.EXITED:
            await asyncio.sleep(0.05)
    return (await pods.list()).pods[0].reason


@pytest.mark.parametrize("path", ["/work", "/data/work"])
async def test_over_the_limit_it_is_stopped_and_its_files_are_kept(
    lent, engine, images, instance, path
):
    """In the container's own files, and in a volume that the image declares."""
    counting = Counting(engine)
    parts = NodeParts(lent, counting)
    pods = parts.pods
    await run_start(pods, instance, images.app)
    async with measuring(parts, counting):
        write(instance, path, 6)
        await counting.twice()
        assert (await pods.list()).pods[0].state is PodState.RUNNING
        write(instance, path, 12)
        reason = await until_exited(pods)
        assert "written more than the 8 MiB that the owner of this machine lends" in reason
        assert "files are kept" in reason
        # Started again, there is time to remove something, and none to go on as before.
        said = await run_start(pods, instance, images.app, run=2, kept=True)
        assert said[-1] == PodRunning(instance=instance)
        await counting.twice()
        assert (await pods.list()).pods[0].state is PodState.RUNNING
        size = docker("exec", f"dit4c-{instance}-app", "stat", "-c", "%s", path)
        assert int(size) == 12 * MIB
        write(instance, path, 14)
        await until_exited(pods)


async def test_without_a_limit_nothing_is_measured(parts):
    assert parts.disk is None


class Quotas:
    """An engine whose storage driver sets limits, or one that refuses the first app's."""

    def __init__(self, engine, *, refuses):
        self._engine, self._refuses, self.asked = engine, refuses, []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def create_container(self, name, definition):
        host = dict(definition["HostConfig"])
        if (options := host.pop("StorageOpt", None)) is not None:
            self.asked.append((name, options))
            if self._refuses:
                raise EngineSaid("--storage-opt is not for this driver")
        return await self._engine.create_container(name, {**definition, "HostConfig": host})


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_storage_driver_that_sets_limits_is_asked_for_one(
    lent, engine, images, instance, refuses
):
    other = instance[:-1] + "x"
    quotas = Quotas(engine, refuses=refuses)
    pods = pods_of(lent, quotas)
    for one in (instance, other):
        await run_start(pods, one, images.app)
    options = {"size": str(LIMIT)}
    asked = [(f"dit4c-{one}-app", options) for one in (instance, other)]
    assert quotas.asked == (asked[:1] if refuses else asked)


async def test_this_machines_engine_is_asked_and_apps_start_whatever_it_says(
    lent, engine, images, instance
):
    said = await run_start(pods_of(lent, engine), instance, images.app)
    assert said[-1] == PodRunning(instance=instance)
    assert inspect(f"dit4c-{instance}-app")["State"]["Running"]
