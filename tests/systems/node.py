"""A real agent in the overlay of a real router, on a machine whose engine does not answer.

That is enough for whatever it decides before it asks the engine.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from systems.router import House

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.node.agent import Node
from dit4c_p2p.node.config import HelperImages, NodeConfig
from dit4c_p2p.overlay.client import connect_router, dial
from dit4c_p2p.overlay.ssh_options import Identity


class RealNode:
    """``node-main`` and its scheduler.

    :ivar scheduler: whom it serves.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self.scheduler = house.peer("scheduler-main")
        self.identity = house.peer("node-main", "main")
        self.agent = Node(
            NodeConfig(
                name=self.identity.name,
                key=self.identity.key,
                data_folder=house.folder,
                scheduler=self.scheduler.name,
                images=HelperImages("sha256:0", "sha256:0", "sha256:0"),
                portal=house.portal.info,
                routers=(house.info,),
                user_url="http://{id}.localhost:8081/",
                engine_url=f"unix://{house.folder}/nothing.sock",
            )
        )

    async def line(self, identity: Identity | None = None):
        """A connection of its scheduler's, or of another peer."""
        house = self._house
        name = PeerName.parse("node-main")
        line = await dial(identity or self.scheduler, name, 22, [house.info], house.registry)
        house.stack.callback(line.abort)
        return line

    async def streams(self):
        """A connection to the router, over which streams to the agent's server can be opened."""
        house = self._house
        beneath = await connect_router(self.scheduler, house.info, house.registry)
        house.stack.callback(beneath.abort)
        return beneath


@asynccontextmanager
async def a_node(house: House) -> AsyncIterator[RealNode]:
    """The agent, found at the house's router."""
    node = RealNode(house)
    await node.agent.start()
    try:
        await house.listened("node-main", 22)
        yield node
    finally:
        await node.agent.stop()
