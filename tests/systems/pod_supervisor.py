"""What looks after an agent's pods while a test does something to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.pods.manager import PodManager
from dit4c_p2p.node.pods.supervisor import PodSupervisor


@asynccontextmanager
async def keeping(
    pods: PodManager, engine: Engine, config: NodeConfig
) -> AsyncIterator[PodSupervisor]:
    """A keeper that runs, and hears the engine."""
    keeper = PodSupervisor(pods, engine, str(config.data_folder))
    task = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(20):
            await keeper.connected.wait()
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
