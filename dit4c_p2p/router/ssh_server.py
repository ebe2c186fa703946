"""The router's SSH side: peers log in, listen by name, and reach each other by name.

Nothing here opens a port of the machine or connects to an address. Stock OpenSSH works:

    ssh -N -R instance-abc:80:127.0.0.1:8888 instance-abc@router
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncssh

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.errors import PortalUnreachable
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.ports import INSTANCE_NEWS_PORT
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.overlay import server
from dit4c_p2p.overlay.errors import OverlayError, Refused
from dit4c_p2p.overlay.server import ConnectionAdmission, PeerServer
from dit4c_p2p.overlay.splice import relay_pair
from dit4c_p2p.overlay.ssh_options import PACKET_BYTES, WINDOW_BYTES
from dit4c_p2p.router.access_news import AccessNewsDesk
from dit4c_p2p.router.access_rules import (
    LISTENS,
    access_rule_for,
    check_peer_may_listen,
    check_peer_may_reach,
    check_peer_served,
    parse_dial_target,
)
from dit4c_p2p.router.config import Limits
from dit4c_p2p.router.name_table import NameRegistration, NameTable

_log = summed(logging.getLogger(__name__))

_LOOKUP_TIMEOUT_S = 10.0
# Beside an instance's streams: news goes through whatever its visitors do.
_NEWS_CHANNELS = 2
_LISTENS_AFTER_S = 0.05


class TunnelBusy(OverlayError):
    """A tunnel or a key has reached its limit."""

    code = "busy"


class NotConnected(OverlayError):
    """No connection here holds that name, or its holder has not accepted the channel."""

    code = "not_connected"


def router_admission(
    registry: Registry, limits: Limits, refused: Callable[[str], None]
) -> ConnectionAdmission:
    """Lets in who has something to do at a router.

    A peer that listens has ``limits.tunnels_per_key`` connections; a scheduler, which has one for
    each node that it reaches through here, ``limits.dials_per_key``.
    """
    return ConnectionAdmission(
        registry,
        admit=check_peer_served,
        limits=server.Limits(channels_per_connection=limits.channels_per_tunnel),
        per_key=lambda name: (
            limits.tunnels_per_key if name.kind in LISTENS else limits.dials_per_key
        ),
        refused=refused,
    )


class TunnelRegistry:
    """State shared by the router's SSH connections: name table, admission, limits."""

    def __init__(self, gate: ConnectionAdmission, limits: Limits) -> None:
        self.gate = gate
        self.limits = limits
        self.table: NameTable[RouterServer] = NameTable()
        self.live: set[RouterServer] = set()
        self.news = AccessNewsDesk(self.open, self.table.find)

    def server(self) -> "RouterServer":
        """The factory that asyncssh calls for each connection."""
        return RouterServer(self)

    async def open(
        self,
        name: PeerName,
        port: int,
        session: Callable[[], asyncssh.SSHTCPSession[bytes]],
        origin: tuple[str, int],
        window_bytes: int = WINDOW_BYTES,
    ) -> asyncssh.SSHTCPChannel[bytes]:
        """Open a channel to the holder of (name, port).

        :param session: makes the session once the channel is open.
        :param origin: the address that goes into the channel's originator fields.
        :raises NotConnected: nobody holds it, or whoever does has not accepted it.
        :raises Busy: it has as many channels as it may.
        """
        owner = self.table.find(name, port)
        if owner is None:
            raise NotConnected(f"{name} is not connected to this router now")
        return await owner.open(name, port, session, origin, window_bytes)


class NameListener(asyncssh.SSHListener):
    """One claim on a name; asyncssh closes it when the forward or its connection ends."""

    def __init__(
        self, table: "NameTable[RouterServer]", claim: "NameRegistration[RouterServer]"
    ) -> None:
        super().__init__()
        self._table = table
        self._claim = claim

    def get_port(self) -> int:
        """The port as asked for; none of the machine's."""
        return self._claim.port

    def close(self) -> None:
        """Give the name up, unless a newer connection has taken it."""
        if self._table.release(self._claim):
            _log.info("%s listens on port %d no longer", self._claim.name, self._claim.port)

    async def wait_closed(self) -> None:
        """Closing takes no time."""


class RouterServer(PeerServer):
    """One peer's connection."""

    def __init__(self, board: TunnelRegistry) -> None:
        super().__init__(board.gate)
        self._board = board
        self.stalled_s = board.limits.stalled_s
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- coming and going

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Called by asyncssh when a connection opens."""
        self._board.live.add(self)
        super().connection_made(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh when the connection has ended."""
        self._board.live.discard(self)
        super().connection_lost(exc)

    def cut(self, reason: str) -> None:
        """End the connection at once."""
        _log.warning("cut %s from %s: %s", self.peer, self.address, reason)
        self.conn.abort()

    # ---- listen

    def server_requested(self, listen_host: str, listen_port: int) -> asyncssh.SSHListener | bool:
        """Called by asyncssh for ``tcpip-forward``: the peer's own name and port, or nothing."""
        if not self.authenticated:
            return False
        try:
            check_peer_may_listen(self.peer, listen_host, listen_port)
        except Refused as error:
            self.gate.refused("listen")
            _log.warning("refused %s from %s: %s", self.peer, self.address, error.one_line())
            self.conn.send_debug(error.one_line())
            return False
        claim, displaced = self._board.table.claim(self.peer, listen_port, self)
        if displaced is not None:
            _log.info(
                "%s:%d taken over from %s by %s",
                self.peer,
                listen_port,
                displaced.address,
                self.address,
            )
            displaced.conn.disconnect(
                asyncssh.DISC_BY_APPLICATION,
                f"a newer connection of {self.peer} listens for port {listen_port} now",
            )
        else:
            _log.info("%s listens on port %d, from %s", self.peer, listen_port, self.address)
        if listen_port == INSTANCE_NEWS_PORT:
            # When the peer knows that it listens.
            loop = asyncio.get_running_loop()
            loop.call_later(_LISTENS_AFTER_S, self._board.news.tell, self.peer.id)
        return NameListener(self._board.table, claim)

    async def open(
        self,
        name: PeerName,
        port: int,
        session: Callable[[], asyncssh.SSHTCPSession[bytes]],
        origin: tuple[str, int],
        window_bytes: int,
    ) -> asyncssh.SSHTCPChannel[bytes]:
        """Open a channel into this connection; see :meth:`TunnelRegistry.open`."""
        self.extra_channels = _NEWS_CHANNELS if port == INSTANCE_NEWS_PORT else 0
        try:
            channel = self.conn.create_tcp_channel(
                window=window_bytes, max_pktsize=min(PACKET_BYTES, window_bytes)
            )
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_RESOURCE_SHORTAGE:
                raise TunnelBusy(f"{name} has as many streams open as it may") from None
            raise NotConnected(f"{name} is not connected any more") from None
        finally:
            self.extra_channels = 0

        async def ask() -> None:
            if self.conn.is_closed():  # in the moment between; the channel went with it
                raise asyncssh.ConnectionLost("it has gone")
            await channel.accept(session, str(name), port, *origin)

        opening = asyncio.create_task(ask(), name=f"channel to {name}")
        # It is never cancelled: asyncssh would leave a channel behind that is confirmed later.
        self._tasks.add(opening)
        opening.add_done_callback(self._tasks.discard)
        try:
            done, _ = await asyncio.wait((opening,), timeout=self._board.limits.open_s)
        except asyncio.CancelledError:
            opening.add_done_callback(partial(_abandon_tunnel_channel, channel))
            raise
        if not done:
            opening.add_done_callback(partial(_abandon_tunnel_channel, channel))
            raise NotConnected(f"{name} does not accept streams")
        try:
            opening.result()
        except asyncssh.ChannelOpenError as error:
            raise NotConnected(f"{name} did not accept a stream: {error.reason}") from None
        except (asyncssh.Error, OSError) as error:
            raise NotConnected(f"the connection of {name} broke: {error}") from None
        return channel

    # ---- reach

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Any:
        """Called by asyncssh for ``direct-tcpip``: a name out of the table, never an address."""
        channel = self.conn.create_tcp_channel(window=WINDOW_BYTES, max_pktsize=PACKET_BYTES)
        return channel, self._relay(dest_host, dest_port)

    async def _relay(self, host: str, port: int) -> asyncssh.SSHTCPSession[bytes]:
        """The caller's end of a stream to (host, port).

        :raises ChannelOpenError: with a reason that the caller can act on; nothing else, because
            asyncssh closes the whole connection for any other error.
        """
        try:
            return await self._reach(host, port)
        except Refused as error:
            self.gate.refused("reach")
            _log.warning("refused %s from %s: %s", self.peer, self.address, error.one_line())
            code = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            raise asyncssh.ChannelOpenError(code, error.one_line()) from None
        except DitError as error:
            _log.info("%s did not reach %s: %s", self.peer, host[:60], error.one_line())
            code = asyncssh.OPEN_CONNECT_FAILED
            raise asyncssh.ChannelOpenError(code, error.one_line()) from None
        except Exception:  # noqa: BLE001  it would close the whole connection
            _log.exception("%s did not reach %s", self.peer, host[:60])
            code = asyncssh.OPEN_CONNECT_FAILED
            raise asyncssh.ChannelOpenError(code, "the router failed; its log says why") from None

    async def _reach(self, host: str, port: int) -> asyncssh.SSHTCPSession[bytes]:
        target = parse_dial_target(host)
        # Who reaches nobody in any case has nothing looked up at the portal for it.
        access_rule_for(self.peer, target, port)
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                document = await self.gate.registry.keys(target)
        except TimeoutError:
            raise PortalUnreachable(f"the keys of {target} can't be looked up now") from None
        check_peer_may_reach(self.peer, target, port, document)
        far, near = relay_pair()
        channel = await self._board.open(target, port, lambda: far, (self.address, 0))
        if self.conn.is_closed():
            channel.abort()
            raise NotConnected(f"{self.peer} has gone")
        _log.info("%s reached %s:%d", self.peer, target, port)
        return near


def _abandon_tunnel_channel(
    channel: asyncssh.SSHTCPChannel[bytes], opening: "asyncio.Task[Any]"
) -> None:
    """Close a channel that was confirmed after nobody waited for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        channel.abort()
