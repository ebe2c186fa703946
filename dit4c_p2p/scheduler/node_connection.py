"""An open connection to a node: the interface, and its implementation over the overlay."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import asyncssh

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.node import NODE_SUBSYSTEM, NodeReply, NodeRequest
from dit4c_p2p.messages.ports import SSH_PORT
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.overlay.client import dial
from dit4c_p2p.overlay.rpc import call
from dit4c_p2p.overlay.ssh_options import Identity


class NodeConnection(Protocol):
    """Interface of an open connection to a node."""

    def call(self, request: NodeRequest, silence_s: float) -> AsyncGenerator[NodeReply, None]:
        """Make one call; :class:`DitError` says that the connection broke."""

    async def close(self) -> None:
        """Close the connection and all its calls."""


Dialler = Callable[[PeerName], Awaitable[NodeConnection]]


class OverlayConnection:
    """A :class:`NodeConnection` over SSH."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    def call(self, request: NodeRequest, silence_s: float) -> AsyncGenerator[NodeReply, None]:
        """Make one call in a channel with the subsystem ``dit4c-node``."""
        replies: Any = NodeReply
        return call(self._connection, NODE_SUBSYSTEM, request, replies, silence_s=silence_s)

    async def close(self) -> None:
        """Abort the connection; an orderly end would wait for a peer that may be dead."""
        self._connection.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._connection.wait_closed()


def node_dialler(
    identity: Identity, routers: Callable[[], Sequence[RouterInfo]], registry: Registry
) -> Dialler:
    """Reaches nodes through the routers that there are now, their host keys checked."""

    async def reach(node: PeerName) -> NodeConnection:
        return OverlayConnection(await dial(identity, node, SSH_PORT, routers(), registry))

    return reach
