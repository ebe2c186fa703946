"""The auth helper's server."""

import asyncio
import logging
import os

from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.helpers.auth.connection import AuthConnection, InstanceContext
from dit4c_p2p.helpers.auth.headers import Origin
from dit4c_p2p.helpers.auth.login import InstanceLogin
from dit4c_p2p.helpers.auth.oauth import PortalOAuth
from dit4c_p2p.helpers.auth.reserved_paths import ReservedPaths
from dit4c_p2p.helpers.auth.sessions import AppSessions
from dit4c_p2p.helpers.auth.stream import BufferedStream
from dit4c_p2p.helpers.auth.upstream import AppUpstream
from dit4c_p2p.helpers.pod_config import HelperPod
from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.codec import InvalidMessage, decode
from dit4c_p2p.messages.pod import (
    CALLBACK_PATH,
    MAX_NEWS_BYTES,
    NEWS_TAKEN,
    AccessNews,
    HelperState,
)
from dit4c_p2p.net.stranger_log import summed

logger = summed(logging.getLogger(__name__), logging.INFO)

# What the router lets through: 4 tunnels of a key with 256 channels each.
MAX_CONNECTIONS = 1024
# Of these without a session; one more, and the oldest gives way. A tunnel has 256 channels, and
# those who are logged in come first.
MAX_STRANGERS = 64
_NEWS_LIMIT_S = 2.0


class AuthServer:
    """Listens on ``pod.auth_socket`` and serves until :meth:`stop`.

    Use: ``await start()``; ``await wait()``, which returns only by raising; ``await stop()``.
    """

    def __init__(self, pod: HelperPod, status: StatusLines) -> None:
        url = URL(pod.config.url)
        if url.scheme not in ("http", "https") or not url.host or url.path != "/":
            raise ConfigError(f"{pod.config.url!r} is not an instance's URL")
        self._pod = pod
        self._status = status
        self._client = PortalClient(pod.config.portal, ca=pod.config.ca)
        self.app = AppUpstream(pod.config.app_port)
        origin = Origin.of(url)
        redirect_uri = str(url.origin()) + CALLBACK_PATH
        self._oauth = oauth = PortalOAuth(self._client, pod.name, pod.key, redirect_uri)
        self.sessions = AppSessions(oauth.is_active)
        portal_url = pod.config.portal.url
        login = InstanceLogin(portal_url, str(pod.name), redirect_uri)
        own = ReservedPaths(origin, self.app, self.sessions, login, oauth, portal_url)
        self._house = InstanceContext(origin, self.app, self.sessions, own, pod.config.silence_s)
        self._connections: dict[asyncio.Task[None], AuthConnection] = {}
        self._strangers: dict[AuthConnection, None] = {}  # of these, the oldest first
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._news: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def start(self) -> None:
        """Start listening; the app may not be up yet."""
        await self._client.__aenter__()
        path = self._pod.auth_socket
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)  # for the helpers' own user only
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: BufferedStream(self._accept), str(path), backlog=MAX_CONNECTIONS
            )
            self._pod.news_socket.unlink(missing_ok=True)
            self._news = await asyncio.start_unix_server(
                self._take_news, str(self._pod.news_socket), limit=MAX_NEWS_BYTES
            )
        finally:
            os.umask(mask)
        self._tasks = [
            asyncio.create_task(self.sessions.run(), name="sessions"),
            asyncio.create_task(self.app.run(), name="idle connections"),
            asyncio.create_task(self._watch_app(), name="wait for the app"),
        ]

    async def wait(self) -> None:
        """Return only by raising what made a background task fail."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Close everything within a second."""
        if self._server is not None:
            self._server.close()
            self._pod.auth_socket.unlink(missing_ok=True)
        if self._news is not None:
            self._news.close()
            self._pod.news_socket.unlink(missing_ok=True)
        connections = list(self._connections)
        for connection in list(self._connections.values()):
            connection.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*connections, *self._tasks, return_exceptions=True)
        await self._oauth.stop()
        await self._client.__aexit__(None, None, None)

    def _accept(self, wire: BufferedStream) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            logger.warning("refused a connection: %d are open", len(self._connections))
            wire.abort()
            return
        connection = AuthConnection(self._house, wire, self._known)
        task = connection.start()
        self._connections[task] = connection
        self._strangers[connection] = None
        if len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cut()
        task.add_done_callback(self._gone)

    def _known(self, connection: AuthConnection) -> None:
        """A session was found for what a connection asks."""
        self._strangers.pop(connection, None)

    def _gone(self, task: asyncio.Task[None]) -> None:
        connection = self._connections.pop(task, None)
        if connection is not None:
            self._strangers.pop(connection, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a connection failed", exc_info=error)

    async def _take_news(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Doubt the sessions of those whose access has ended, as the router says."""
        try:
            async with asyncio.timeout(_NEWS_LIMIT_S):
                news = decode(await reader.readline(), AccessNews)
            for one in news.ended:
                self.sessions.doubt(one.person, one.at)
            writer.write(NEWS_TAKEN)
        except (InvalidMessage, OSError, TimeoutError, ValueError) as error:
            logger.warning("news of ended access could not be read: %s", error)
        finally:
            writer.close()

    async def _watch_app(self) -> None:
        port = self._pod.config.app_port
        self._status.report(HelperState.WAITING_FOR_APP, f"port {port} does not answer yet")
        await self.app.wait_ready()
        self._status.report(HelperState.APP_READY)


async def serve_auth(pod: HelperPod, status: StatusLines, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set.

    :raises ConfigError: the pod's configuration is not usable.
    """
    server = AuthServer(pod, status)
    await server.start()
    failed = asyncio.create_task(server.wait(), name="auth")
    told = asyncio.create_task(stop.wait(), name="told to stop")
    try:
        await asyncio.wait({failed, told}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
    finally:
        failed.cancel()
        told.cancel()
        await asyncio.gather(failed, told, return_exceptions=True)
        await server.stop()
