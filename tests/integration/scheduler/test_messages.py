"""security.md, section 5: messages doubled, reordered, replayed: same final state.

The orders of a few instances come in any order and number, over several lines; what the node says
comes again, late. What becomes of each instance depends on what was ordered, and on nothing else.
"""

import asyncio
import tempfile
from pathlib import Path

import pytest
from fakes.link_portal import LinkPortal
from fakes.node import FakeNode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, RequestState, StartInstance

from .conftest import World

INSTANCES = ("one", "two", "three")
ORDERS = [
    order
    for id in INSTANCES
    for order in (
        (f"start-{id}", StartInstance(instance=id, image="sha256:1", key_nonce="n")),
        (f"discard-{id}", DiscardInstance(instance=id)),
        (f"state-{id}", RequestState(instance=id)),
    )
]

STEP = st.one_of(
    st.sampled_from(ORDERS),
    st.sampled_from(ORDERS),
    st.sampled_from(["cut portal", "cut node"]),
    st.tuples(st.just("event"), st.integers(0, 30)),
)


@pytest.fixture(autouse=True)
def _quick(quick):
    """Short pauses."""


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEP, max_size=30))
def test_only_what_was_ordered_counts(steps):
    asyncio.run(play(steps))


async def play(steps):
    with tempfile.TemporaryDirectory() as folder:
        async with LinkPortal() as portal:
            world = World(portal, Path(folder), FakeNode())
            async with world.scheduler() as scheduler:
                await scheduler.ready()
                await carry_out(steps, world)
                await settle(steps, world)


async def carry_out(steps, world):
    for step in steps:
        match step:
            case "cut portal":
                await world.portal.cut()
            case "cut node":
                world.node.cut()
            case ("event", number):
                if world.node.history:
                    world.node.say_again(world.node.history[number % len(world.node.history)])
            case (id, body):
                # Kept until acknowledged, as the portal does; and said at once, perhaps again.
                world.portal.orders.setdefault(id, body)
                await world.portal.replay(id, body)
        await asyncio.sleep(0)


async def settle(steps, world):
    ordered = {step[0] for step in steps if isinstance(step, tuple) and step in ORDERS}
    await world.portal.until(lambda: not world.portal.orders)
    for id in INSTANCES:
        started, discarded = f"start-{id}" in ordered, f"discard-{id}" in ordered
        if discarded:
            await world.portal.until_state(id, State.DISCARDED)
            assert id not in world.node.pods
        elif started:
            await world.portal.until_state(id, State.RUNNING)
            assert id in world.node.pods
        else:
            assert id not in world.portal.newest
        assert world.node.made[id] <= 1
