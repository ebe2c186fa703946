"""A real file server beside a small portal, and clients of every sort.

async with running_file_server(tmp_path) as system:
    async with system.sftp(system.person("ada")) as sftp: ...
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from fakes.grants_portal import GrantsPortal
from lib.sftp_client import PrivateClient
from lib.waiting import until

from dit4c_p2p.fileserver import FileServer, FileServerConfig, Limits
from dit4c_p2p.identity.keys import public_line, write_private
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, Identity


@dataclass
class FileServerSystem:
    """The file server, its portal, and what tests do with them."""

    portal: GrantsPortal
    server: FileServer
    folder: Path
    host_key: asyncssh.SSHKey
    stack: AsyncExitStack
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def trees(self) -> Path:
        """Where the files are."""
        return self.server.config.files_folder

    def private(self, person: str) -> Path:
        """A person's private folder on the disk."""
        return self.trees / f"user-{person}" / "files" / "private"

    def person(self, id: str, quota: int | None = None) -> Identity:
        """A person with a published key and the usual folders."""
        identity = Identity(*self.portal.new_peer(f"user-{id}"))
        self.portal.grant_usual(f"user-{id}", id, quota)
        return identity

    def instance(self, id: str, person: str, quota: int | None = None) -> Identity:
        """An instance of a person."""
        identity = Identity(*self.portal.new_peer(f"instance-{id}"))
        self.portal.grant_usual(f"instance-{id}", person, quota)
        return identity

    async def connect(self, identity: Identity, **options: Any) -> asyncssh.SSHClientConnection:
        """A connection of ours, closed with the test."""
        connection = await asyncssh.connect(
            "127.0.0.1",
            self.server.port,
            username=str(identity.name),
            client_keys=[identity.key],
            known_hosts=([self.host_key.convert_to_public()], [], []),
            **{**CLIENT_OPTIONS, **options},
        )
        self.stack.callback(connection.abort)
        return connection

    @asynccontextmanager
    async def sftp(self, identity: Identity) -> AsyncIterator[asyncssh.SFTPClient]:
        """asyncssh's own client."""
        connection = await self.connect(identity)
        async with connection.start_sftp_client() as client:
            yield client
        connection.abort()

    @asynccontextmanager
    async def session(
        self, identity: Identity, *, hello: bool = True, mount: int = 0
    ) -> AsyncIterator[Any]:
        """A session with our private extensions."""
        connection = await self.connect(identity)
        async with PrivateClient(connection, hello=hello, mount=mount) as client:
            yield client
        connection.abort()

    def ssh_files(self, identity: Identity) -> tuple[Path, Path]:
        """A private key and a known_hosts file for stock clients."""
        key, hosts = self.folder / f"{identity.name}.key", self.folder / "known_hosts"
        write_private(key, identity.key)
        public = public_line(self.host_key)
        hosts.write_text(f"[127.0.0.1]:{self.server.port} {public}\nfiles {public}\n")
        return key, hosts

    def ssh_options(self, identity: Identity) -> list[str]:
        """``-o`` options of OpenSSH's programs."""
        key, hosts = self.ssh_files(identity)
        options = {
            "UserKnownHostsFile": str(hosts),
            "StrictHostKeyChecking": "yes",
            "IdentityFile": str(key),
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]

    async def run(
        self, *command: str, stdin: bytes = b"", ok: bool = True, timeout_s: float = 60
    ) -> tuple[int, str]:
        """Run a program to its end; its status and everything that it says."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.processes.append(process)
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(stdin)
        said = output.decode(errors="replace")
        assert not ok or process.returncode == 0, said
        return process.returncode or 0, said


@asynccontextmanager
async def running_file_server(
    folder: Path, limits: Limits | None = None
) -> AsyncIterator[FileServerSystem]:
    """A running file server with its portal."""
    async with AsyncExitStack() as stack:
        portal = await stack.enter_async_context(GrantsPortal())
        name, key = portal.new_peer("fileserver-files")
        server = FileServer(
            FileServerConfig(
                name=name,
                key=key,
                ssh=(("127.0.0.1", 0),),
                portal=portal.info,
                data_folder=folder / "data",
                files_folder=folder / "trees",
                limits=limits or Limits(),
            )
        )
        await server.start()
        stack.push_async_callback(server.stop)
        system = FileServerSystem(portal, server, folder, key, stack)
        await until(lambda: not server._grants.trouble)
        yield system
        for process in system.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
