"""A scheduler between a portal with real signatures and nodes in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from fakes.link_portal import LinkPortal
from fakes.node import FakeNode, memory_dialler
from lib import database_engines

from dit4c_p2p.database import databases
from dit4c_p2p.messages.link import DiscardInstance, StartInstance
from dit4c_p2p.scheduler import (
    Limits,
    Scheduler,
    SchedulerConfig,
    instance_tasks,
    portal_link,
    work_runner,
)
from dit4c_p2p.scheduler import node_links as nodes_module


class World:
    """What is around a scheduler, and stays when it is killed."""

    def __init__(self, portal: LinkPortal, folder: Path, *nodes: FakeNode) -> None:
        self.portal = portal
        self.nodes = list(nodes)
        self.node = nodes[0]
        self.folder = folder
        self.name, self.key = portal.new_peer("scheduler-main")
        self.limits = Limits()
        self.connect: list[str] = []
        self.dialler = memory_dialler(*nodes)

    def config(self) -> SchedulerConfig:
        return SchedulerConfig(
            name=self.name,
            key=self.key,
            data_folder=self.folder,
            portal=msgspec.structs.replace(self.portal.info, connect=self.connect),
            routers=[],
            nodes=[node.name.id for node in self.nodes],
            limits=self.limits,
        )

    @asynccontextmanager
    async def scheduler(self) -> AsyncIterator[Scheduler]:
        """A running scheduler, stopped at the end."""
        async with databases([database_engines.database("scheduler", self.folder)]):
            scheduler = Scheduler(self.config(), dialler=self.dialler)
            await scheduler.start()
            try:
                yield scheduler
            finally:
                await scheduler.stop()

    async def start(self, instance: str = "abc") -> str:
        order = StartInstance(instance=instance, image="sha256:1", key_nonce="nonce", title="Mine")
        return await self.portal.order(order)

    async def discard(self, instance: str = "abc") -> str:
        return await self.portal.order(DiscardInstance(instance=instance))


@pytest.fixture
def quick(monkeypatch):
    """Short pauses, so that a test doesn't wait for them."""
    monkeypatch.setattr(work_runner, "_AGAIN_FIRST_S", 0.02)
    monkeypatch.setattr(instance_tasks, "_AGAIN_FIRST_S", 0.02)
    monkeypatch.setattr(nodes_module, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(portal_link, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(portal_link, "_REFUSED_FIRST_PAUSE_S", 0.02)


@pytest.fixture
async def world(tmp_path, quick, engine):
    async with LinkPortal() as portal:
        yield World(portal, tmp_path, FakeNode())
