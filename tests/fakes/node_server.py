"""Puts a :class:`FakeNode` into the overlay: a real SSH server, reached through a real router."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
from fakes.node import FakeNode

from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.node import NODE_SUBSYSTEM
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.overlay.client import ListeningAtRouters
from dit4c_p2p.overlay.rpc import CallSession
from dit4c_p2p.overlay.server import ConnectionAdmission, PeerServer
from dit4c_p2p.overlay.ssh_options import SERVER_OPTIONS, Identity


@asynccontextmanager
async def in_the_overlay(
    node: FakeNode, portal: PortalInfo, routers: Sequence[RouterInfo]
) -> AsyncIterator[None]:
    """Serve the node's verbs at (its name, 22) of every router."""
    async with PortalClient(portal) as client:
        registry = Registry(client, None)
        gate = ConnectionAdmission(registry)

        class Server(PeerServer):
            def session_requested(self) -> Any:
                session = CallSession({NODE_SUBSYSTEM: node.serve})
                return self.conn.create_server_channel(encoding=None), session

        async def bind(connection: asyncssh.SSHClientConnection) -> Any:
            return await asyncssh.listen(
                str(node.name),
                22,
                tunnel=connection,
                server_factory=lambda: Server(gate),
                server_host_keys=[node.key],
                **SERVER_OPTIONS,
            )

        listening = ListeningAtRouters(Identity(node.name, node.key), routers, registry, bind)
        tasks = [asyncio.create_task(registry.run()), asyncio.create_task(listening.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await gate.close()
