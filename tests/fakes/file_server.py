"""A file server for tests of the portal: asyncssh's own SFTP server, a folder for each person.

It takes the portal's key alone, and shows a session what the person's folder holds. That the real
file server keeps everybody within their own tree is tested with the real one.
"""

import asyncio
import os
from pathlib import Path
from typing import Any, Self

import asyncssh

from dit4c_p2p.messages.grants import ACTS_FOR


class FakeFileServer:
    """``async with FakeFileServer(key, portal_key, folder, port) as server``.

    :ivar sessions: whom the portal has acted for, in order.
    :ivar full: whether nothing more can be written.
    :ivar hold: while it is not set, every write waits.
    """

    def __init__(
        self, key: asyncssh.SSHKey, portal_key: asyncssh.SSHKey, folder: Path, port: int
    ) -> None:
        self._key = key
        self._portal_key = portal_key
        self._folder = folder
        self._port = port
        self.sessions: list[str] = []
        self.full = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.connections = 0
        self._live: set[asyncssh.SSHServerConnection] = set()

    async def __aenter__(self) -> Self:
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            self._port,
            server_factory=lambda: _Server(self),
            server_host_keys=[self._key],
            sftp_factory=lambda chan: _Sftp(self, chan),
            allow_scp=False,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        self._acceptor.close()
        for connection in list(self._live):
            connection.abort()
        await self._acceptor.wait_closed()

    def root(self, person: str) -> Path:
        """What a person sees, with a folder ``private``."""
        root = self._folder / person
        (root / "private").mkdir(parents=True, exist_ok=True)
        return root


class _Server(asyncssh.SSHServer):
    def __init__(self, shared: FakeFileServer) -> None:
        self._shared = shared

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._shared.connections += 1
        self._shared._live.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared._live.discard(self._conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        portal = self._shared._portal_key.public_data
        return username == "portal-main" and key.public_data == portal


class _Sftp(asyncssh.SFTPServer):
    def __init__(self, shared: FakeFileServer, chan: Any) -> None:
        peer = dict(chan.get_environment()).get(ACTS_FOR, "")
        assert peer.startswith("user-"), peer
        person = peer.removeprefix("user-")
        shared.sessions.append(person)
        self._shared = shared
        super().__init__(chan, chroot=os.fsencode(shared.root(person)))

    def readlink(self, path: bytes) -> bytes:
        return os.fsencode(Path(os.fsdecode(self.map_path(path))).readlink())

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        await self._shared.hold.wait()
        if self._shared.full:
            raise asyncssh.SFTPFailure("the quota of 50 GiB is used up")
        return super().write(file_obj, offset, data)
