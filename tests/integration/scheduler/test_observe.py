"""What those who run a scheduler see of it."""

import asyncio

from fakes.node import FakeNode

from dit4c_p2p.messages.instances import State


async def value(scheduler, name, **labels):
    await scheduler.measure()
    return scheduler.metrics.registry.get_sample_value(name, labels)


async def results(scheduler):
    return {name: await check() for name, check in scheduler.checks.items()}


async def test_figures_agree_with_what_happened(world):
    async with world.scheduler() as scheduler:
        await scheduler.ready()
        await world.start()
        await world.portal.until_state("abc", State.RUNNING)
        assert await value(scheduler, "dit4c_instances", state="running") == 1
        assert await value(scheduler, "dit4c_instance_start_seconds_count") == 1
        assert await value(scheduler, "dit4c_nodes", state="up") == 1
        assert await value(scheduler, "dit4c_portal_link_up") == 1
        async with asyncio.timeout(10):
            while await value(scheduler, "dit4c_outbox_messages"):
                await asyncio.sleep(0.02)
        assert await results(scheduler) == {"database": "", "portal": "", "nodes": ""}


async def test_not_ready_without_a_portal_or_a_node(world):
    world.nodes.append(FakeNode("node-away"))
    world.nodes = world.nodes[1:]
    async with world.scheduler() as scheduler:
        said = await results(scheduler)
        assert said["portal"] or said["nodes"]
        assert "node-away" in said["nodes"]
        assert said["database"] == ""
        assert await value(scheduler, "dit4c_nodes", state="down") == 1
