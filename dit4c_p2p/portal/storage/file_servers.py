"""The portal's own connections to the file servers, for the file page.

There is one SSH connection to each file server, made when it is needed and checked against the keys
that the portal itself publishes. A person's session is a channel of its own on it, which names the
person (:data:`dit4c_p2p.messages.grants.ACTS_FOR`); the file server asks the portal what that
person sees, and ends the session when that is taken away.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import asyncssh
from yarl import URL

from dit4c_p2p.identity.keys import fingerprint
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import split_address
from dit4c_p2p.messages.grants import ACTS_FOR
from dit4c_p2p.messages.public import FileServerInfo
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS
from dit4c_p2p.portal.errors import TooMany, Unavailable
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.keys.user_keys import user_name

_log = logging.getLogger(__name__)

_CONNECT_S = 10.0
_SESSION_S = 15.0
_DEFAULT_PORT = 22
# One file server allows the portal as many channels on one connection.
MAX_SESSIONS = 48
MAX_SESSIONS_PER_PERSON = 8


class FileServers:
    """Sessions at file servers, in the name of people.

    :param name: the portal's peer name.
    :param key: the portal's private key, published for that name.
    """

    def __init__(
        self,
        name: PeerName,
        key: asyncssh.SSHKey,
        servers: Sequence[FileServerInfo],
        registry: KeyRegistry,
    ) -> None:
        self._name = name
        self._key = key
        self._servers = {PeerName.parse(info.name).id: info for info in servers}
        self._registry = registry
        self._connections: dict[str, asyncssh.SSHClientConnection] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._by_person: Counter[str] = Counter()
        self._by_server: Counter[str] = Counter()
        self._unwatch = registry.watch(self._key_changed)

    async def close(self) -> None:
        """End every connection."""
        self._unwatch()
        connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            connection.abort()
        for connection in connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.wait_closed()

    @contextlib.asynccontextmanager
    async def session(self, server: str, person: str) -> AsyncIterator[asyncssh.SFTPClient]:
        """An SFTP session of a person's at a file server (its id), with paths as bytes.

        :raises Unavailable: the file server is not reached, or refuses the session.
        :raises TooMany: the person has as many sessions as they may, or all people together have.
        """
        if self._by_person[person] >= MAX_SESSIONS_PER_PERSON:
            raise TooMany(
                f"you have {MAX_SESSIONS_PER_PERSON} transfers under way, as many as there may be",
                hint="wait until one has ended",
            )
        if self._by_server[server] >= MAX_SESSIONS:
            raise TooMany("the file server is busy", hint="try again in a moment")
        self._by_person[person] += 1
        self._by_server[server] += 1
        try:
            client = await self._open(server, person)
            try:
                yield client
            finally:
                client.exit()
        finally:
            _count_down_for_file_servers(self._by_person, person)
            _count_down_for_file_servers(self._by_server, server)

    async def _open(self, server: str, person: str) -> asyncssh.SFTPClient:
        try:
            async with asyncio.timeout(_SESSION_S):
                connection = await self._connection(server)
                return await connection.start_sftp_client(
                    env={ACTS_FOR: str(user_name(person))}, path_encoding=None
                )
        except (asyncssh.Error, OSError, TimeoutError) as error:
            _log.warning("no session for %s at fileserver-%s: %s", person, server, error)
            raise Unavailable(
                "the file server does not open your files now", hint="try again in a moment"
            ) from None

    async def _connection(self, server: str) -> asyncssh.SSHClientConnection:
        async with self._locks.setdefault(server, asyncio.Lock()):
            connection = self._connections.get(server)
            if connection is None or connection.is_closed():
                connection = self._connections[server] = await self._connect(server)
            return connection

    async def _connect(self, server: str) -> asyncssh.SSHClientConnection:
        info = self._servers.get(server)
        if info is None:
            raise Unavailable(f"there is no file server called {server} any more")
        name = PeerName.parse(info.name)
        keys = await self._registry.in_force(name)
        if not keys:
            raise Unavailable(
                f"no key is published for {name}", hint="an admin has to enrol the file server"
            )
        error: Exception = OSError("it has no address")
        for host, port in _addresses_for_file_servers(info):
            try:
                async with asyncio.timeout(_CONNECT_S):
                    connection = await asyncssh.connect(
                        host,
                        port,
                        username=str(self._name),
                        client_keys=[self._key],
                        known_hosts=(list(keys), [], []),
                        host_key_alias=str(name),
                        **CLIENT_OPTIONS,
                    )
            except (asyncssh.Error, OSError, TimeoutError, ValueError) as problem:
                error = problem
                continue
            seen = connection.get_server_host_key()
            if seen is None or fingerprint(seen) not in {fingerprint(key) for key in keys}:
                connection.abort()
                raise Unavailable(f"the host key of {name} is not published")
            _log.info("connected to %s at %s:%d", name, host, port)
            return connection
        _log.warning("%s is not reached: %s", name, error or "time is up")
        raise Unavailable("the file server is not reached now", hint="try again in a moment")

    def _key_changed(self, event: KeyEvent) -> None:
        """Cut the connection to a file server one of whose keys was revoked."""
        if event.what != "revoked":
            return
        for server, info in self._servers.items():
            if info.name == event.name and (connection := self._connections.pop(server, None)):
                connection.abort()


def _addresses_for_file_servers(info: FileServerInfo) -> list[tuple[str, int]]:
    if info.connect:
        return [split_address(text) for text in info.connect]
    url = URL(info.url)
    return [(url.host or "", url.explicit_port or _DEFAULT_PORT)]


def _count_down_for_file_servers(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
