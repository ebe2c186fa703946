"""security.md section 5: killed between any two calls to the engine, then asked again.

The engine of the first attempt dies with the n-th call that changes something: that call is still
done, and from then on nothing is, as after a ``kill -9`` of the agent.
"""

import asyncio
import inspect
from typing import Any

import pytest
from systems.pods import app_of, docker, look, pods_of, run_start, running

from dit4c_p2p.messages.node import PodRunning

pytestmark = [pytest.mark.engine, pytest.mark.root]

CHANGES = {
    "create_container",
    "start_container",
    "stop_container",
    "remove_container",
    "put_files",
    "create_network",
    "remove_network",
    "create_volume",
    "remove_volume",
}
# A start of a pod without a trace makes this many; asserted below.
CALLS_OF_A_START = 12
CALLS_OF_A_DISCARD = 8


class Dying:
    """An engine that dies with its ``last``-th change."""

    def __init__(self, engine: Any, last: int) -> None:
        self._engine, self._left, self.dead = engine, last, asyncio.Event()
        self.changes = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._engine, name)
        if not inspect.iscoroutinefunction(call):
            return self._stream(call)

        async def guarded(*arguments: Any, **options: Any) -> Any:
            await self._alive()
            if name not in CHANGES:
                return await call(*arguments, **options)
            self._left -= 1
            last = self._left == 0
            if self._left < 0:
                await self._alive()
            try:
                done = await call(*arguments, **options)
            finally:
                if last:
                    self.dead.set()
            self.changes += 1
            await self._alive()
            return done

        return guarded

    def _stream(self, call: Any) -> Any:
        async def guarded(*arguments: Any, **options: Any) -> Any:
            await self._alive()
            async for item in call(*arguments):
                await self._alive()
                yield item

        return guarded

    async def _alive(self) -> None:
        """What a dead agent would do next never happens."""
        if self._left < 0 or self.dead.is_set():
            await asyncio.Event().wait()


async def cut_off(work: Any, engine: Dying) -> None:
    """Run ``work`` until ``engine`` dies, and stop it there."""
    task = asyncio.ensure_future(work)
    dead = asyncio.ensure_future(engine.dead.wait())
    async with asyncio.timeout(60):
        await asyncio.wait((task, dead), return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        dead.cancel()
        await asyncio.gather(task, dead, return_exceptions=True)


def whole(instance: str) -> bool:
    """Whether exactly one pod is there, all of it running."""
    found = look(instance)
    parts = (found.containers, running(instance), found.networks, found.volumes)
    return [len(part) for part in parts] == [4, 4, 1, 2]


async def test_a_start_makes_as_many_changes_as_are_tried(config, engine, images, instance):
    counted = Dying(engine, 10_000)
    await run_start(pods_of(config, counted), instance, images.app)
    assert counted.changes == CALLS_OF_A_START
    await pods_of(config, counted).discard(instance)
    assert counted.changes == CALLS_OF_A_START + CALLS_OF_A_DISCARD


@pytest.mark.parametrize("last", range(1, CALLS_OF_A_START + 1))
async def test_row_kill_9_at_each_call_of_a_start(config, engine, images, instance, last):
    """Asked again it is one whole pod, with the same key; discarded, nothing is left."""
    dying = Dying(engine, last)
    await cut_off(run_start(pods_of(config, dying), instance, images.app), dying)
    key = (config.folder / "instances" / instance / "key").read_bytes()
    again = pods_of(config, engine)
    (listed,) = (await again.list()).pods
    assert listed.instance == instance
    said = await run_start(again, instance, images.app)
    assert said[-1] == PodRunning(instance=instance)
    assert whole(instance)
    assert (config.folder / "instances" / instance / "key").read_bytes() == key
    await again.discard(instance)
    assert not look(instance)


@pytest.mark.parametrize("last", range(1, CALLS_OF_A_DISCARD + 1))
async def test_row_kill_9_at_each_call_of_a_discard(config, engine, images, instance, last):
    await run_start(pods_of(config, engine), instance, images.app)
    dying = Dying(engine, last)
    await cut_off(pods_of(config, dying).discard(instance), dying)
    again = pods_of(config, engine)
    (listed,) = (await again.list()).pods
    assert listed.instance == instance
    await again.discard(instance)
    assert not look(instance)
    assert (await again.list()).pods == []


async def test_infra_gone_before_it_was_reachable_the_pod_is_made_anew(
    config, engine, images, instance
):
    pods = pods_of(config, engine)
    starting = asyncio.ensure_future(run_start(pods, instance, images.deaf))
    async with asyncio.timeout(30):
        while not docker("ps", "-q", "--filter", f"name=dit4c-{instance}-app"):
            await asyncio.sleep(0.1)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    docker("kill", f"dit4c-{instance}-infra")
    said = await run_start(pods_of(config, engine), instance, images.app)
    assert said[-1] == PodRunning(instance=instance)
    assert whole(instance)


async def test_a_helper_that_is_missing_is_added(config, engine, images, instance):
    pods = pods_of(config, engine)
    await run_start(pods, instance, images.app)
    docker("rm", "-f", f"dit4c-{instance}-auth", f"dit4c-{instance}-listener")
    app = docker("inspect", "-f", "{{.Id}}", app_of(instance))
    said = await run_start(pods, instance, images.app)
    assert said[-1] == PodRunning(instance=instance)
    assert whole(instance)
    assert docker("inspect", "-f", "{{.Id}}", app_of(instance)) == app
