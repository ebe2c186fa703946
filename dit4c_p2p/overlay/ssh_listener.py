"""An SSH server's addresses: newcomers wait outside until there is room for their login.

    accepted ──▶ waiting ──room, or somebody gives way──▶ SSH, before login ──▶ logged in
                    └──full, or too long──▶ closed

Before login a connection has one of few places (``overlay.server.Limits``). Who holds one and does
not log in would keep others out, such as a node behind the same home router. So newcomers wait
here, without any SSH spent on them, and the oldest that has not logged in for 2 s gives way. Those
who have sent the beginning of SSH's first line (RFC 4253 section 4.2) come before the silent ones.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import asyncssh

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.connection_limits import rate_limit_key
from dit4c_p2p.net.listener import address_not_bound_error
from dit4c_p2p.overlay.server import ConnectionAdmission
from dit4c_p2p.overlay.ssh_options import LOGIN_TIMEOUT_S

# Of each kind, silent or not; and of these from one address.
_MAX_WAITING = 128
_MAX_WAITING_PER_ADDRESS = 32
# The first line is 255 bytes at the most; a key exchange may follow it at once.
_MAX_FIRST_BYTES = 8 * 1024
_FIRST = b"SSH-"
# A burst may wait for the loop's next turn.
_BACKLOG = 1024


class SshListener:
    """Listens on addresses for one SSH server.

    :param admission: whose places before login newcomers wait for.
    :param options: of :class:`asyncssh.SSHServerConnectionOptions`.
    """

    def __init__(self, admission: ConnectionAdmission, **options: Any) -> None:
        self._admission = admission
        self._options = asyncssh.SSHServerConnectionOptions(**options)
        self._servers: list[asyncio.Server] = []
        self._waiting: dict[SshNewcomer, None] = {}  # in the order in which they came
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        admission.on_room = self.look

    async def listen(self, host: str, port: int) -> int:
        """Listen on an address; the port that it is, which with ``port`` 0 the system has chosen.

        :raises OSError: it can't be listened on.
        """
        server = await asyncio.get_running_loop().create_server(
            lambda: SshNewcomer(self), host, port, backlog=_BACKLOG
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_all(self, addresses: Iterable[tuple[str, int]], *, another: str) -> int:
        """Listen on every address; return the first one's port.

        :param addresses: host and port; port 0 is the first one's, or what the system chooses.
        :param another: how another port is chosen, for one that is taken.
        :raises ConfigError: there is no address, or one can't be listened on.
        """
        first = 0
        for host, wanted in addresses:
            port = wanted or first
            try:
                port = await self.listen(host, port)
            except OSError as error:
                raise address_not_bound_error(host, port, another, error) from None
            first = first or port
        if not first:
            raise ConfigError("there is no address to listen on for SSH", hint="give it one")
        return first

    @property
    def listens(self) -> bool:
        """Whether every address is listened on."""
        return bool(self._servers) and all(server.sockets for server in self._servers)

    @property
    def waiting(self) -> int:
        """How many newcomers wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Listen no more, and drop those who wait."""
        self._closed = True
        for server in self._servers:
            server.close()
        if self._timer is not None:
            self._timer.cancel()
        for newcomer in list(self._waiting):
            newcomer.drop()

    # ---- called by newcomers

    def arrived(self, newcomer: "SshNewcomer") -> None:
        """One has come, or has begun to speak."""
        self._waiting.setdefault(newcomer)
        self.look()
        if newcomer in self._waiting:
            self._make_room(newcomer)

    def left(self, newcomer: "SshNewcomer") -> None:
        """One does not wait any more."""
        self._waiting.pop(newcomer, None)

    def look(self) -> None:
        """Let in whom there is room for, those who speak first."""
        if self._closed:
            return
        in_turn = sorted(self._waiting, key=lambda newcomer: not newcomer.speaks)
        for newcomer in in_turn:
            if self._admission.may_enter(newcomer.address):
                del self._waiting[newcomer]
                newcomer.enter(asyncssh.SSHServerConnection(newcomer.loop, self._options))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            pause_s = self._admission.room_after_s()
            self._timer = asyncio.get_running_loop().call_later(pause_s, self.look)

    def _make_room(self, newcomer: "SshNewcomer") -> None:
        """Where too many wait, the one that has waited longest of the newcomer's kind goes."""
        alike = [one for one in self._waiting if one.speaks == newcomer.speaks]
        of_address = [one for one in alike if one.site == newcomer.site]
        if len(of_address) > _MAX_WAITING_PER_ADDRESS:
            self._turn_away(of_address[0])
        elif len(alike) > _MAX_WAITING:
            crowd, _ = Counter(one.site for one in alike).most_common(1)[0]
            self._turn_away(next(one for one in alike if one.site == crowd))

    def _turn_away(self, newcomer: "SshNewcomer") -> None:
        self._admission.turned_away(newcomer.address)
        newcomer.drop()


class SshNewcomer(asyncio.Protocol):
    """One connection before any SSH.

    :ivar address: where it comes from; ``site`` is what counts as one address.
    :ivar speaks: it has begun as SSH does.
    """

    def __init__(self, listener: SshListener) -> None:
        self._listener = listener
        self.loop = asyncio.get_running_loop()
        self.address = self.site = ""
        self.speaks = False
        self._first = bytearray()
        self._entered = False
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop when a connection was accepted."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.site = rate_limit_key(self.address)
        self._timer = self.loop.call_later(LOGIN_TIMEOUT_S, self.drop)
        self._listener.arrived(self)

    def data_received(self, data: bytes) -> None:
        """Called by the loop with the first bytes."""
        self._first += data
        if len(self._first) > _MAX_FIRST_BYTES:
            self._transport.pause_reading()
        if not _FIRST.startswith(self._first[: len(_FIRST)]):
            self.drop()
        elif not self.speaks and len(self._first) >= len(_FIRST):
            self.speaks = True
            self._listener.arrived(self)

    def eof_received(self) -> bool:
        """Called by the loop when the other end sends no more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop when the connection has gone while it waited."""
        self._timer.cancel()
        self._listener.left(self)

    def drop(self) -> None:
        """Close the connection."""
        self._timer.cancel()
        self._listener.left(self)
        if not self._entered:
            self._transport.abort()

    def enter(self, connection: asyncssh.SSHServerConnection) -> None:
        """Hand the connection over to SSH, with what has come already."""
        self._timer.cancel()
        self._entered = True
        transport, protocol = self._transport, cast(asyncio.Protocol, connection)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._first and not transport.is_closing():
            protocol.data_received(bytes(self._first))
        if len(self._first) > _MAX_FIRST_BYTES and not transport.is_closing():
            transport.resume_reading()
