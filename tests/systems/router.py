"""A real router beside a small portal, and peers of every sort, for the router's tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
from fakes.registry import RegistryPortal
from lib.waiting import until

from dit4c_p2p.identity.keys import write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.overlay.client import connect_router
from dit4c_p2p.overlay.ssh_options import Identity
from dit4c_p2p.router import Limits, Router, RouterConfig


@dataclass
class Answer:
    """What a browser got."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class House:
    """The router, its portal, and what tests do with them."""

    portal: RegistryPortal
    router: Router
    registry: Registry
    folder: Path
    host_key: asyncssh.SSHKey
    stack: AsyncExitStack
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def info(self) -> RouterInfo:
        return RouterInfo(
            name="router-main",
            ssh=[f"127.0.0.1:{self.router.ssh_port}"],
            http=[f"127.0.0.1:{self.router.http_port}"],
        )

    def peer(self, name: str, scheduler: str | None = None) -> Identity:
        """A published peer."""
        return Identity(*self.portal.new_peer(name, scheduler))

    async def connect(self, identity: Identity) -> asyncssh.SSHClientConnection:
        """A connection of ours to the router, closed with the test."""
        connection = await connect_router(identity, self.info, self.registry)
        self.stack.callback(connection.abort)
        return connection

    async def app(self, handler: Callable[..., Any]) -> int:
        """Serve on a port of the machine, as an app would; returns the port."""
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        self.stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    async def tunnel(
        self, name: str, handler: Callable[..., Any], identity: Identity | None = None
    ) -> asyncssh.SSHClientConnection:
        """``handler(reader, writer)`` answers what is asked of instance ``name``."""
        identity = identity or self.peer(name)
        connection = await self.connect(identity)
        await connection.start_server(
            lambda host, port: handler, str(identity.name), 80, encoding=None
        )
        return connection

    async def get(self, host: str, path: str = "/", **headers: str) -> Answer:
        """One request with this Host."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"http://127.0.0.1:{self.router.http_port}{path}",
                headers={"Host": host, **headers},
                timeout=aiohttp.ClientTimeout(total=20),
            ) as response,
        ):
            return Answer(response.status, dict(response.headers), await response.read())

    async def visit(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection to the HTTP side."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.router.http_port)
        self.stack.callback(writer.close)
        return reader, writer

    async def known_hosts(self) -> Path:
        """The portal's own list, as stock OpenSSH reads it."""
        path = self.folder / "known_hosts"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{self.portal.url}/known_hosts") as response:
                path.write_bytes(await response.read())
        return path

    async def ssh(
        self, identity: Identity, *arguments: str, port: int | None = None
    ) -> asyncio.subprocess.Process:
        """Stock OpenSSH's client, logged in at the router as ``identity``."""
        key = self.folder / f"{identity.name}.key"
        write_private(key, identity.key)
        options = {
            "UserKnownHostsFile": str(await self.known_hosts()),
            "HostKeyAlias": "router-main",
            "StrictHostKeyChecking": "yes",
            "ExitOnForwardFailure": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
        }
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-F", "none", "-i", str(key), "-p", str(port or self.router.ssh_port)),
            *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
            *arguments,
            f"{identity.name}@127.0.0.1",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.started.append(process)
        return process

    async def listened(self, name: str, port: int = 80) -> None:
        """Wait until somebody holds (name, port)."""
        await until(lambda: self.holder(name, port) is not None)

    def holder(self, name: str, port: int = 80) -> Any:
        """Who holds (name, port) at the router."""
        return self.router.board.table.find(PeerName.parse(name), port)


@asynccontextmanager
async def a_house(folder: Path, limits: Limits, **changes: Any) -> AsyncIterator[House]:
    """A running router with its portal; ``changes`` go over its configuration."""
    async with AsyncExitStack() as stack:
        portal = await stack.enter_async_context(RegistryPortal())
        name, key = portal.new_peer("router-main")
        config = RouterConfig(
            name=name,
            key=key,
            http=(("127.0.0.1", 0),),
            ssh=(("127.0.0.1", 0),),
            portal=portal.info,
            user_url="http://{id}.localhost:8081/",
            data_folder=folder / "router",
            limits=limits,
        )
        router = Router(replace(config, **changes))
        await router.start()
        stack.push_async_callback(router.stop)
        client = await stack.enter_async_context(PortalClient(portal.info))
        registry = Registry(client, folder / "registry")
        following = asyncio.create_task(registry.run())
        stack.callback(following.cancel)
        house = House(portal, router, registry, folder, key, stack)
        yield house
        for process in house.started:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def hello(reader: Any, writer: Any) -> None:
    """An app that answers each request of a connection with its path, and keeps it alive."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, asyncssh.Error):
            break
        path = head.split(b" ", 2)[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))
    writer.close()
