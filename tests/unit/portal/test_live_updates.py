"""Live views hear of what changed, each thing once, and are capped."""

import asyncio

import pytest

from dit4c_p2p.portal.errors import TooMany
from dit4c_p2p.portal.live_updates import LiveUpdates


async def test_what_changed_is_told_once_to_whom_it_concerns():
    hub = LiveUpdates(10, 10)
    with hub.subscribe("person:a") as mine, hub.subscribe("person:b") as other:
        for item in ("x", "y", "x"):
            hub.tell("person:a", item)
        assert await mine.changed(1) == ["x", "y"]
        assert await mine.changed(0.01) == []
        assert await other.changed(0.01) == []
        waiting = asyncio.create_task(other.changed(5))
        await asyncio.sleep(0)
        hub.tell("person:b", "z")
        assert await waiting == ["z"]


async def test_caps_and_their_release():
    hub = LiveUpdates(3, 2)
    with hub.subscribe("a"), hub.subscribe("a"):
        with pytest.raises(TooMany), hub.subscribe("a"):
            pass
        with hub.subscribe("b"), pytest.raises(TooMany), hub.subscribe("c"):
            pass
    with hub.subscribe("a"):
        pass


async def test_stopping_wakes_everybody():
    hub = LiveUpdates(10, 10)
    with hub.subscribe("a") as one:
        waiting = asyncio.create_task(one.changed(60))
        await asyncio.sleep(0)
        hub.close()
        async with asyncio.timeout(1):
            assert await waiting == []
        assert one.closed
    with hub.subscribe("a") as late:
        assert late.closed
