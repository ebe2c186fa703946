"""One file server: its SSH side, the trees, and what the portal says about them."""

import asyncio
import contextlib
import logging
import os
import resource
import time
from collections.abc import Callable, Mapping

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.fileserver.config import FileServerConfig
from dit4c_p2p.fileserver.expired_folders import ExpiredFolders
from dit4c_p2p.fileserver.grants import GrantsClient
from dit4c_p2p.fileserver.handles import HandleBudget
from dit4c_p2p.fileserver.housekeeping import Housekeeping
from dit4c_p2p.fileserver.metrics import FileServerMetrics
from dit4c_p2p.fileserver.sessions import Sessions
from dit4c_p2p.fileserver.sftp_server import Server
from dit4c_p2p.fileserver.ssh_server import FileServerConnections, admission_for
from dit4c_p2p.fileserver.syscalls import open_beneath
from dit4c_p2p.fileserver.trees import Trees
from dit4c_p2p.fileserver.usage_scans import UsageScans
from dit4c_p2p.fileserver.workers import Workers
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.observe.server import Check
from dit4c_p2p.overlay.server import disconnect_all
from dit4c_p2p.overlay.ssh_listener import SshListener
from dit4c_p2p.overlay.ssh_options import SERVER_OPTIONS

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 5.0
# SYMLINK's arguments come as OpenSSH takes them. Clients that send them the other way round unless
# the server is OpenSSH look for this name.
_VERSION = "dit4c OpenSSH-SFTP"
_ANOTHER_PORT = "choose another port in listen_ssh ('dit4c up': --files-port)"
# Descriptors that are not for clients' handles.
_KEPT_DESCRIPTORS = 512
# Below this the server is not well: writes are about to fail.
_LEAST_FREE_BYTES = 64 * 1024 * 1024


class FileServer:
    """A file server; :meth:`start`, then :meth:`wait`, then :meth:`stop`.

    :param clock: seconds since 1970.
    :ivar port: the port of its first address, once started.
    :ivar sessions: who is here.
    :ivar expired: removes the folders of instances that were discarded long ago.
    :ivar housekeeping: what it does by itself.
    """

    port: int
    sessions: Sessions
    expired: ExpiredFolders
    housekeeping: Housekeeping

    def __init__(self, config: FileServerConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self._clock = clock
        self.metrics = FileServerMetrics()
        self._stack = contextlib.AsyncExitStack()
        self._following: list[asyncio.Task[None]] = []
        self._ssh: SshListener | None = None

    async def start(self) -> None:
        """Bind and serve.

        :raises ConfigError: an address can't be bound, or the files' folder is of no use.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Return only when the server was stopped; raise what its background work died of."""
        if not self._following:
            raise RuntimeError("the file server was not started")
        ended, _ = await asyncio.wait(self._following, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """Close every connection and listen no more; takes a few seconds at most."""
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()

    # ---- for those who run it

    @property
    def checks(self) -> Mapping[str, Check]:
        """What has to be well; that it listens, is so once it was started."""
        return {
            "key events": self._check_key_events,
            "grant events": self._check_grant_events,
            "disk": self._check_disk,
        }

    async def measure(self) -> None:
        """Count what is here now."""
        metrics, sessions = self.metrics, self.sessions.all
        metrics.key_events_heard.set(self._registry.live)
        metrics.grant_events_heard.set(not self._grants.trouble)
        metrics.connections.set(len(self._connections.live))
        metrics.sessions.set(len(sessions))
        metrics.handles.set(sum(session.handles for session in sessions))
        metrics.leases.set(sum(tree.leases.count for tree in self._trees.all()))
        metrics.disk_free.set(self._free_bytes())
        metrics.hand_over()

    async def _check_key_events(self) -> str:
        return self._registry.unheard

    async def _check_grant_events(self) -> str:
        trouble = self._grants.trouble
        return f"changes of grants are not heard of: {trouble}" if trouble else ""

    async def _check_disk(self) -> str:
        free = self._free_bytes()
        return "" if free >= _LEAST_FREE_BYTES else f"{free} bytes are free where the files are"

    def _free_bytes(self) -> int:
        room = os.statvfs(self.config.files_folder)
        return room.f_bavail * room.f_frsize

    # ---- inside

    async def _start(self) -> None:
        config, limits = self.config, self.config.limits
        client = await self._stack.enter_async_context(PortalClient(config.portal, ca=config.ca))
        registry = Registry(client, config.data_folder / "registry", clock=self._clock)
        self._registry = registry
        self._follow(asyncio.create_task(registry.run(), name="key events"))

        workers = Workers(limits.threads)
        self._stack.callback(workers.stop)
        sessions = self.sessions = Sessions(clock=self._clock)
        self._stack.push_async_callback(sessions.close)
        scans = UsageScans()
        self._trees = sessions.trees = self._open_trees(sessions, scans)
        self._stack.callback(self._trees.close)
        self._stack.push_async_callback(scans.close)
        grants = GrantsClient(
            *(client, config.name, config.key, sessions.changed), clock=self._clock
        )
        self._grants = sessions.grants = grants
        self._stack.callback(registry.watch(self._key_changed))
        self._follow(asyncio.create_task(grants.run(), name="grant events"))
        self.expired = ExpiredFolders(config.files_folder, self._trees, grants, clock=self._clock)
        self._follow(asyncio.create_task(self.expired.run(), name="expired folders"))

        keeping = self.housekeeping = Housekeeping(
            self._trees,
            hourly=config.snapshots.hourly,
            daily=config.snapshots.daily,
            clock=self._clock,
        )
        self._follow(asyncio.create_task(keeping.run(), name="housekeeping"))
        portal = PeerName.parse(config.portal.name)
        admission = admission_for(registry, portal, limits, self._refused)
        self._stack.push_async_callback(admission.close)
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        budget = HandleBudget(max(64, most - _KEPT_DESCRIPTORS))
        shared = Server(workers, self.metrics, budget, limits.handles_per_session)
        self._connections = FileServerConnections(admission, shared, sessions, limits)
        self._stack.push_async_callback(_cut_all_for_file_server, self._connections)
        await self._listen()
        _log.info("%s serves SFTP on port %d", config.name, self.port)

    def _open_trees(self, sessions: Sessions, scans: UsageScans) -> Trees:
        """:raises ConfigError: the files' folder is of no use."""
        folder = self.config.files_folder
        try:
            trees = Trees(folder, sessions.notify, scans.add)
            probe = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.close(open_beneath(probe, b".", os.O_PATH))
                writable = os.access(folder, os.W_OK | os.X_OK)
            finally:
                os.close(probe)
        except OSError as error:
            raise ConfigError(
                f"the files' folder {folder} is of no use: {error.strerror}",
                hint="give a folder of this user's on a file system of Linux 5.6 or later",
            ) from None
        if not writable:
            raise ConfigError(
                f"the files' folder {folder} can't be written",
                hint="give it to the user that the file server runs as",
            )
        return trees

    def _key_changed(self, event: KeyEvent | None) -> None:
        """A proof of a key counts only while the key is in force."""
        self._grants.forget_proofs(None if event is None else PeerName.parse(event.name))

    def _refused(self, reason: str) -> None:
        self.metrics.refused.labels(reason).inc()

    def _follow(self, task: "asyncio.Task[None]") -> None:
        self._following.append(task)
        self._stack.push_async_callback(_end_for_file_server, task)

    async def _listen(self) -> None:
        """Bind the SSH addresses, listened on until :meth:`stop`."""
        self._ssh = listener = SshListener(
            self._connections.admission,
            server_factory=self._connections.server,
            server_host_keys=[self.config.key],
            line_editor=False,
            **SERVER_OPTIONS | {"server_version": _VERSION},
        )
        self._stack.callback(listener.close)
        self.port = await listener.listen_all(self.config.ssh, another=_ANOTHER_PORT)


async def _cut_all_for_file_server(connections: FileServerConnections) -> None:
    """Close every connection, and wait until nothing of their sessions is under way."""
    sessions = (session.closed.wait() for session in connections.sessions.all)
    await disconnect_all(connections.live, "the file server stops", _STOP_TIMEOUT_S, *sessions)


async def _end_for_file_server(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
