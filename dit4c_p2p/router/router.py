"""A router: its SSH side, its HTTP side, and their shared state."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from dit4c_p2p import resources
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.net.https_redirect import HttpsRedirect
from dit4c_p2p.net.listener import Listener, ListenerOptions, close_all_listeners
from dit4c_p2p.net.tls import Certificate
from dit4c_p2p.observe.server import Check
from dit4c_p2p.overlay.server import disconnect_all
from dit4c_p2p.overlay.ssh_listener import SshListener
from dit4c_p2p.overlay.ssh_options import SERVER_OPTIONS
from dit4c_p2p.router.config import Addresses, RouterConfig
from dit4c_p2p.router.error_pages import ErrorPageRenderer
from dit4c_p2p.router.http_server import HttpFrontend
from dit4c_p2p.router.instance_states import PageStates
from dit4c_p2p.router.metrics import RouterMetrics
from dit4c_p2p.router.ssh_server import TunnelRegistry, router_admission

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 3.0
_ANOTHER_PORT = "choose another port ('dit4c up': --router-port)"
_ANOTHER_SSH_PORT = "choose another port ('dit4c up': --router-ssh-port)"


class Router:
    """A routing server; :meth:`start`, then :meth:`wait`, then :meth:`stop`.

    :param clock: seconds since 1970.
    :ivar http_port: the port of the first address of its plain HTTP side, once started; 0: none.
    :ivar https_port: the same with TLS.
    :ivar redirect_port: the same for what leads to HTTPS.
    :ivar ssh_port: the same for its SSH side.
    :ivar board: its SSH connections and who holds which name.
    :ivar door: its visitors.
    """

    http_port: int
    https_port: int
    redirect_port: int
    ssh_port: int
    board: TunnelRegistry
    door: HttpFrontend

    def __init__(self, config: RouterConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self._clock = clock
        self.metrics = RouterMetrics()
        self._stack = contextlib.AsyncExitStack()
        self._following: list[asyncio.Task[None]] = []
        self._domain = config.user_domain
        self._ssh: SshListener | None = None

    async def start(self) -> None:
        """Bind and serve.

        :raises ConfigError: an address can't be bound, or the portal's URL is not acceptable.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Return when the router was stopped; raise the error that ended a background task."""
        if not self._following:
            raise RuntimeError("the router was not started")
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
        return {"key events": self._check_events, "ssh": self._check_ssh}

    async def measure(self) -> None:
        """Update the gauges."""
        metrics, board = self.metrics, self.board
        metrics.key_events_heard.set(self._registry.live)
        metrics.tunnels.set(len(board.table.names))
        metrics.ssh_connections.set(len(board.live))
        metrics.channels.set(sum(server.channels for server in board.live))
        metrics.visitors.set(self.door.visitors)

    def _refused(self, reason: str) -> None:
        self.metrics.refused.labels(reason).inc()

    async def _check_events(self) -> str:
        return self._registry.unheard

    async def _check_ssh(self) -> str:
        if self._ssh is not None and self._ssh.listens:
            return ""
        return "an address is not listened on any more"

    # ---- inside

    async def _start(self) -> None:
        config, limits = self.config, self.config.limits
        certificate = self._certificate()
        client = await self._stack.enter_async_context(PortalClient(config.portal, ca=config.ca))
        registry = Registry(
            client,
            config.data_folder / "registry",
            clock=self._clock,
            prove=self._token,
            on_access_ended=lambda ended: board.news.take(ended),
        )
        self._registry = registry
        gate = router_admission(registry, limits, self._refused)
        self._stack.push_async_callback(gate.close)
        board = self.board = TunnelRegistry(gate, limits)
        self._stack.push_async_callback(_cut_all_tunnels, board)
        self._stack.push_async_callback(board.news.close)
        self._follow(asyncio.create_task(registry.run(), name="key events"))
        if certificate is not None:
            self._follow(asyncio.create_task(certificate.run(), name="certificate"))
        self.ssh_port = await self._listen_ssh(board)

        states = PageStates(
            client,
            config.name,
            config.key,
            timeout_s=limits.page_state_s,
            ttl_s=limits.page_state_ttl_s,
            clock=self._clock,
        )
        renderer = ErrorPageRenderer(resources.folder("templates") / "router", secure=config.secure)
        door = self.door = HttpFrontend(board, states, renderer, config, self.metrics)
        self._stack.push_async_callback(door.close)
        self._listen_http(door, certificate)
        _log.info(
            "%s serves HTTP on %d, HTTPS on %d and SSH on %d (0: not at all)",
            config.name,
            self.http_port,
            self.https_port,
            self.ssh_port,
        )

    def _token(self) -> str:
        """That this is the router, for the portal."""
        config = self.config
        return tokens.issue(config.key, config.name, config.portal.url, now=self._clock())

    def _certificate(self) -> Certificate | None:
        """:raises ConfigError: there is none where one is needed, or it is no good."""
        config = self.config
        if not config.http and not config.https:
            raise ConfigError("the router has no address to listen on", hint="give it one")
        if config.tls is None:
            if config.https:
                raise ConfigError("HTTPS needs a certificate", hint="give it one with its key")
            return None
        certificate = Certificate(config.tls, [f"*.{self._domain}"], clock=self._clock)
        certificate.load()
        return certificate

    def _follow(self, task: "asyncio.Task[None]") -> None:
        self._following.append(task)
        self._stack.push_async_callback(_end_router_task, task)

    def _listen_http(self, door: HttpFrontend, certificate: Certificate | None) -> None:
        """Visitors' addresses: plain, with TLS, and those that lead to the latter."""
        config, limits = self.config, self.config.limits
        manner = ListenerOptions(
            door.room, handshake_s=limits.handshake_s, stalled_s=limits.stalled_s
        )
        listeners: list[Listener] = []
        self._stack.push_async_callback(close_all_listeners, listeners)

        def bind(addresses: Addresses, make: Callable[[], Listener]) -> int:
            first = 0
            for host, wanted in addresses:
                listeners.append(make())
                port = listeners[-1].listen(host, wanted or first, another=_ANOTHER_PORT)
                first = first or port
            return first

        context = None if certificate is None else certificate.context
        self.http_port = bind(config.http, lambda: Listener(door.visitor, manner))
        self.https_port = bind(config.https, lambda: Listener(door.visitor, manner, tls=context))
        self.redirect_port = bind(
            config.redirect,
            lambda: Listener(lambda place: HttpsRedirect(door.canonical, place), manner),
        )

    async def _listen_ssh(self, board: TunnelRegistry) -> int:
        """Peers' addresses, listened on until :meth:`stop`; returns the first one's port."""
        self._ssh = listener = SshListener(
            board.gate,
            server_factory=board.server,
            server_host_keys=[self.config.key],
            **SERVER_OPTIONS,
        )
        self._stack.callback(listener.close)
        return await listener.listen_all(self.config.ssh, another=_ANOTHER_SSH_PORT)


async def _cut_all_tunnels(board: TunnelRegistry) -> None:
    """Close every SSH connection; peers come back to the next router by themselves."""
    await disconnect_all(board.live, "the router stops", _STOP_TIMEOUT_S)


async def _end_router_task(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
