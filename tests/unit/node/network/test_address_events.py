"""The kernel tells of a new address at once."""

import asyncio
import subprocess

import pytest

from dit4c_p2p.node.network.address_events import address_events

pytestmark = pytest.mark.root


async def test_a_new_address_and_one_that_is_gone_are_told():
    changed = asyncio.Event()
    with address_events(changed.set):
        for action in ("add", "del"):
            changed.clear()
            command = ["ip", "address", action, "198.51.100.77/32", "dev", "lo"]
            subprocess.run(command, check=True, timeout=10)
            async with asyncio.timeout(1):
                await changed.wait()
