"""Listen and dial, at the end that opens the connection.

:class:`ListeningAtRouters` keeps a reverse forward open at every router; :func:`dial` opens an SSH
connection to a peer through a router's relay. Both check the far host key against the registry by
its name and are cut when that key is revoked.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

import asyncssh

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.keys import fingerprint
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import split_address
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.overlay.asyncssh_ext.backpressure import install_backpressure
from dit4c_p2p.overlay.asyncssh_ext.fastpath import enable_fast_path
from dit4c_p2p.overlay.errors import (
    NoKeyInForce,
    NotVerified,
    OverlayError,
    Refused,
    TurnedAway,
    Unreachable,
)
from dit4c_p2p.overlay.revocation import RevocationMonitor
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, Identity

_log = logging.getLogger(__name__)

# Before trying again: a thousand tunnels come back after a router's restart.
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
# One that turns away is there, and busy letting others in: its room is free again in a moment.
_LONGEST_TURNED_AWAY_S = 2.0
# A connection that stood this long was a good one: the next pause is the first again.
_GOOD_AFTER_S = 30.0

Bind = Callable[[asyncssh.SSHClientConnection], Awaitable[asyncssh.SSHListener]]


class ListenState(StrEnum):
    """State of a reverse forward at one router."""

    CONNECTING = "connecting"
    LISTENING = "listening"
    LOST = "lost"


OnState = Callable[[RouterInfo, ListenState, str], None]


class _OverlayClient(asyncssh.SSHClient):
    """Client side of a connection; closes the underlying connection when it ends."""

    def __init__(self, beneath: asyncssh.SSHClientConnection | None) -> None:
        self._beneath = beneath
        self._watch: RevocationMonitor | None = None
        self._lost = False

    def watched_by(self, watch: RevocationMonitor) -> None:
        """End ``watch`` with the connection."""
        self._watch = watch
        if self._lost:
            watch.end()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Called by asyncssh when the connection opens."""
        install_backpressure(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh when the connection has ended."""
        self._lost = True
        if self._watch is not None:
            self._watch.end()
        if self._beneath is not None:
            self._beneath.close()


async def connect_router(
    identity: Identity, router: RouterInfo, registry: Registry
) -> asyncssh.SSHClientConnection:
    """Open an SSH connection to a router, over the first of its addresses that answers.

    :raises NotVerified: its host key is not published for its name.
    :raises Refused: it does not accept our key.
    :raises Unreachable: none of its addresses answers.
    :raises IdentityError: its keys can't be looked up.
    """
    return await connect_peer(identity, PeerName.parse(router.name), router.ssh, registry)


async def connect_peer(
    identity: Identity, peer: PeerName, addresses: Sequence[str], registry: Registry
) -> asyncssh.SSHClientConnection:
    """An SSH connection to a peer over the first of its ``host:port`` addresses that answers.

    :raises: as :func:`connect_router`.
    """
    error: OverlayError = Unreachable(f"{peer} has no address")
    for address in addresses:
        host, port = split_address(address)
        try:
            return await _connect_ssh(identity, peer, host, port, registry)
        except Unreachable as problem:
            error = problem
    raise error


async def dial(
    identity: Identity,
    peer: PeerName,
    port: int,
    routers: Sequence[RouterInfo],
    registry: Registry,
) -> asyncssh.SSHClientConnection:
    """Open an SSH connection to ``peer``, end to end, through the first router that reaches it.

    The routers see ciphertext only. The connection to the router ends with the one returned.

    :raises NotVerified: a host key is not published for its name.
    :raises Refused: the router's table or the peer says no.
    :raises Unreachable: no router reaches it now.
    :raises IdentityError: keys can't be looked up.
    """
    error: DitError = Unreachable(f"no router is known to reach {peer} by")
    for router in routers:
        try:
            beneath = await connect_router(identity, router, registry)
        except Unreachable as problem:
            error = problem
            continue
        try:
            return await _connect_ssh(identity, peer, str(peer), port, registry, beneath)
        except Unreachable as problem:
            beneath.close()
            error = problem
        except BaseException:
            beneath.close()
            raise
    raise error


async def _connect_ssh(
    identity: Identity,
    peer: PeerName,
    host: str,
    port: int,
    registry: Registry,
    beneath: asyncssh.SSHClientConnection | None = None,
) -> asyncssh.SSHClientConnection:
    published = await registry.keys(peer)
    if not published.keys:
        raise NoKeyInForce(peer)
    client = _OverlayClient(beneath)
    options: dict[str, Any] = dict(CLIENT_OPTIONS)
    if beneath is not None:
        options["tunnel"] = beneath
    try:
        connection = await asyncssh.connect(
            host,
            port,
            client_factory=lambda: client,
            username=str(identity.name),
            client_keys=[identity.key],
            known_hosts=(list(published.keys), [], []),
            host_key_alias=str(peer),
            **options,
        )
    except asyncssh.HostKeyNotVerifiable:
        raise NotVerified(f"the host key of {peer} at {host}:{port} is not published") from None
    except asyncssh.PermissionDenied:
        raise Refused(
            f"{peer} does not accept the key of {identity.name}",
            hint="is the key published at the portal, and not revoked?",
        ) from None
    except asyncssh.ChannelOpenError as error:
        if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
            raise Refused(f"no way to {peer}: {error.reason}") from None
        raise Unreachable(f"no way to {peer}: {error.reason}") from None
    except asyncssh.KeyExchangeFailed as error:
        raise NotVerified(f"{peer} offers no host key of a published type: {error}") from None
    except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError):
        raise TurnedAway(f"{peer} at {host}:{port} hung up: is it too busy?") from None
    except (OSError, asyncssh.Error, TimeoutError, ValueError) as error:
        # ValueError: asyncssh could not find out who we are here, as when files can't be opened.
        text = str(error) or "time is up"
        raise Unreachable(f"{peer} does not answer at {host}:{port}: {text}") from None
    seen = connection.get_server_host_key()
    if seen is None or fingerprint(seen) not in published.fingerprints():
        connection.abort()
        raise NotVerified(f"the host key of {peer} is not published")
    enable_fast_path(connection)
    client.watched_by(RevocationMonitor(connection, peer, fingerprint(seen), registry))
    return connection


class ListeningAtRouters:
    """Keeps a reverse forward open at every router while :meth:`run` runs.

    :param bind: asks for the reverse forward on a fresh connection, such as
        ``lambda connection: connection.create_server(factory, "instance-abc", 80)``; called anew
        after each reconnect.
    :param on_state: told of each change with a sentence, empty when all is well.
    """

    def __init__(
        self,
        identity: Identity,
        routers: Sequence[RouterInfo],
        registry: Registry,
        bind: Bind,
        on_state: OnState | None = None,
    ) -> None:
        self._identity = identity
        self._routers = routers
        self._registry = registry
        self._bind = bind
        self._on_state = on_state or (lambda router, state, text: None)
        self._changed = asyncio.Event()

    def set_routers(self, routers: Sequence[RouterInfo]) -> None:
        """Listen at these routers from now on, and at no others; known ones stay connected."""
        if list(routers) != list(self._routers):
            self._routers = routers
            self._changed.set()

    async def run(self) -> None:
        """Listen at all routers until cancelled."""
        keeping: dict[bytes, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = {encode(router): router for router in self._routers}
                for gone in keeping.keys() - wanted.keys():
                    keeping.pop(gone).cancel()
                for key, router in wanted.items():
                    if key not in keeping:
                        keeping[key] = group.create_task(
                            self._keep(router), name=f"listen at {router.name}"
                        )
                await self._changed.wait()

    async def _keep(self, router: RouterInfo) -> None:
        loop = asyncio.get_running_loop()
        usual = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        turned_away = Backoff(_FIRST_PAUSE_S, _LONGEST_TURNED_AWAY_S)
        said = ""
        while True:
            self._on_state(router, ListenState.CONNECTING, said)
            since, backoff = loop.time(), usual
            try:
                said = await self._once(router)
            except DitError as error:
                said = error.one_line()
                _log.info("%s at %s: %s", self._identity.name, router.name, said)
                if isinstance(error, TurnedAway):
                    backoff = turned_away
            self._on_state(router, ListenState.LOST, said)
            if loop.time() - since > _GOOD_AFTER_S:
                usual.reset()
                turned_away.reset()
            await asyncio.sleep(backoff.pause_s())

    async def _once(self, router: RouterInfo) -> str:
        """Connect, listen, and wait for the end; return why the connection ended.

        :raises DitError: no connection could be made.
        """
        connection = await connect_router(self._identity, router, self._registry)
        try:
            try:
                async with asyncio.timeout(10):
                    listener = await self._bind(connection)
            except (asyncssh.ChannelListenError, asyncssh.Error, OSError, TimeoutError) as error:
                _log.warning("%s does not let %s listen", router.name, self._identity.name)
                return f"{router.name} does not let {self._identity.name} listen: {error}"
            self._on_state(router, ListenState.LISTENING, "")
            _log.info("%s listens at %s", self._identity.name, router.name)
            await connection.wait_closed()
            listener.close()
            _log.info("%s lost %s", self._identity.name, router.name)
            return f"the connection to {router.name} ended"
        finally:
            connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await connection.wait_closed()
