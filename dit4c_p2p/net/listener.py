"""Listeners of portal and router, from an accepted TCP connection to its protocol.

    accepted ──▶ PROXY header (from a trusted proxy) ──▶ TLS handshake ──▶ the protocol

What comes before the protocol is limited in time, and a connection counts from the moment it is
accepted: one that never finishes its handshake takes up a place like any other.
"""

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.connection_limits import PerAddressLimiter, rate_limit_key
from dit4c_p2p.net.dead_peers import DeadPeers, set_keepalive_options
from dit4c_p2p.net.proxy_protocol import BadProxyHeader
from dit4c_p2p.net.reset import reset
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.net.trusted_proxies import NOBODY, TrustedProxies, read_proxy_header

_log = summed(logging.getLogger(__name__))

HANDSHAKE_S = 10.0
# What the kernel holds for a visitor beyond what is on its way. Without it, one who reads nothing
# takes 4 MiB of the kernel's, and 500 of them drive all TCP of the machine into memory pressure.
_UNSENT_BYTES = 64 * 1024
# A burst of browsers may wait for the loop's next turn.
_BACKLOG = 1024
# At one turn of the loop, so that those who are connected get theirs.
_ACCEPT_AT_ONCE = 64
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_REST_S = 0.5
# One that has proved nothing gives way to another after this, where there is no room for both.
GIVES_WAY_AFTER_S = 2.0
# So many at one time are told that there is no room; others are just closed.
_TOLD = 64

Address = tuple[str, int]


class ConnectionLimiter:
    """Places for connections; those of trusted proxies have no limit by address.

    Where a limit is reached, one that has not proved who it is gives way to a newcomer, when it has
    had :data:`GIVES_WAY_AFTER_S`: the oldest without a request under way before the oldest with
    one; of the newcomer's own address where that has all that it may have, else of the address with
    the most connections. So a crowd at an address keeps nobody else out.

    :param total: connections at one time.
    :param per_address: the same from one address.
    """

    def __init__(self, total: int, per_address: int, proxies: TrustedProxies = NOBODY) -> None:
        self.proxies = proxies
        self.shares = PerAddressLimiter(total, per_address, proxies.trusts)
        self.turned_away = 0
        # Those that may have to give way, by address, the oldest first, with when they came; idle
        # ones and those with a request under way.
        self._yielding: tuple[_Yielding, _Yielding] = ({}, {})

    @property
    def taken(self) -> int:
        """The number of places taken."""
        return self.shares.taken

    def sit(self, slot: "ConnectionSlot") -> bool:
        """Take a place for ``slot``, or make one; False if there is none for it."""
        address = slot.address[0]
        if not self.shares.take(address):
            oldest = self._gives_way(rate_limit_key(address))
            if oldest is None:
                return False
            oldest.give_way()
            if not self.shares.take(address):
                return False
        self.yields(slot, busy=False)
        return True

    def stand_up(self, slot: "ConnectionSlot") -> None:
        """Give a place back that :meth:`sit` has taken."""
        self.stays(slot)
        self.shares.give_back(slot.address[0])

    def yields(self, slot: "ConnectionSlot", *, busy: bool) -> None:
        """``slot`` has not proved anything, and gives way where it must."""
        self.stays(slot)
        of_address = self._yielding[busy].setdefault(rate_limit_key(slot.address[0]), {})
        of_address[slot] = time.monotonic()

    def stays(self, slot: "ConnectionSlot") -> None:
        """``slot`` gives way to nobody."""
        site = rate_limit_key(slot.address[0])
        for yielding in self._yielding:
            of_address = yielding.get(site)
            if of_address is not None and of_address.pop(slot, None) is not None and not of_address:
                del yielding[site]

    def _gives_way(self, site: str) -> "ConnectionSlot | None":
        if not self.shares.is_full_for(site):
            site = self.shares.most_crowded()
        old = time.monotonic() - GIVES_WAY_AFTER_S
        for yielding in self._yielding:
            for slot, since in yielding.get(site, {}).items():
                if since <= old:
                    return slot
                break
        return None


class ConnectionSlot:
    """One connection among the counted: whose it is, and whether there is room for it.

    :ivar address: the visitor's, as a trusted proxy says it or as it is seen; port 0: not known.
    :ivar peer: the host that the connection comes from, the proxy's if there is one.
    :ivar within: whether the limits allow for it.
    :ivar close: ends the connection, which has to make room for another.
    """

    def __init__(self, room: ConnectionLimiter, peer: Address) -> None:
        self._room = room
        self._gone = False
        self._proved = False
        self.close: Callable[[], None] = lambda: None
        self.peer = peer[0]
        self._sit(peer)

    def move(self, address: Address) -> None:
        """From now on it counts as ``address``'s: a proxy has said for whom it calls."""
        if not self._gone:
            self._stand_up()
            self._sit(address)

    def leave(self) -> None:
        """It is gone; more than once does no harm."""
        if not self._gone:
            self._gone = True
            self._stand_up()

    def busy(self, busy: bool) -> None:
        """Whether a request of it is under way."""
        if self.within and not self._gone and not self._proved:
            self._room.yields(self, busy=busy)

    def prove(self) -> None:
        """Its other end has proved who it is: it gives way to nobody any more."""
        if not self._proved:
            self._proved = True
            if self.within and not self._gone:
                self._room.stays(self)

    def give_way(self) -> None:
        """End it in favour of another."""
        self.leave()
        self.close()

    def _sit(self, address: Address) -> None:
        self.address = address
        self.within = self._room.sit(self)
        self._room.turned_away += not self.within
        if self.within and self._proved:
            self._room.stays(self)

    def _stand_up(self) -> None:
        if self.within:
            self._room.stand_up(self)
        else:
            self._room.turned_away -= 1


_Yielding = dict[str, dict[ConnectionSlot, float]]
Factory = Callable[[ConnectionSlot], asyncio.BaseProtocol]


@dataclass(frozen=True)
class ListenerOptions:
    """Options for every connection of a listener.

    :ivar handshake_s: for the PROXY header, and again for the TLS handshake.
    :ivar stalled_s: one that takes no byte for so long is cut by the kernel; so is one that has
        been closed for so long and not taken what was left for it.
    """

    room: ConnectionLimiter
    handshake_s: float = HANDSHAKE_S
    stalled_s: float = 300.0


class Listener:
    """Listener on one address for one protocol.

    :param factory: makes the protocol of a connection, which has to call ``place.leave()`` when
        the connection is lost. Without TLS it is asked for connections over the limit as well, to
        say so: ``place.within`` is False then.
    :param tls: given, connections have to shake hands first.
    """

    def __init__(
        self, factory: Factory, manner: ListenerOptions, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._factory = factory
        self._manner = manner
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._dead_peers = DeadPeers(manner.stalled_s)
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}

    def listen(self, host: str, port: int, *, another: str = "choose another port") -> int:
        """Begin; the port that it is, which with ``port`` 0 the system has chosen.

        :param another: what to do where the port is not to be had.
        :raises ConfigError: it is taken, not ours to take, or not this machine's.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                sock = socket.socket(family, kind, protocol)
                self._sockets.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address[0], port, *address[2:]))
                sock.listen(_BACKLOG)
                port = port or int(sock.getsockname()[1])
        except OSError as error:
            self.close()
            raise address_not_bound_error(host, port, another, error) from None
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.add_reader(sock.fileno(), self._accept, sock)
        return port

    def close(self) -> None:
        """Accept no more, and drop what has not become a protocol's yet."""
        loop = asyncio.get_running_loop()
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        self._dead_peers.close()
        for task in self._opening:
            task.cancel()

    async def wait_closed(self) -> None:
        """Until nothing of it is left, after :meth:`close`."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    @property
    def opening(self) -> int:
        """How many connections are on their way to a protocol."""
        return len(self._opening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    _log.warning("a connection could not be accepted: %s", error)
                    return
                self._rest(listening, error)
                return
            self._begin(sock, (str(address[0]), int(address[1])))

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """Nothing can be accepted until others have gone."""
        _log.error("connections can't be accepted now: %s", error.strerror)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())

        def again() -> None:
            del self._resting[listening]
            loop.add_reader(listening.fileno(), self._accept, listening)

        self._resting[listening] = loop.call_later(_REST_S, again)

    def _begin(self, sock: socket.socket, peer: Address) -> None:
        sock.setblocking(False)
        place = ConnectionSlot(self._manner.room, peer)
        if not self._may_stay(place):
            place.leave()
            sock.close()
            return
        task = asyncio.create_task(self._open(sock, place), name=f"connection from {peer[0]}")
        place.close = partial(_cancel_connection_task, task)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _may_stay(self, place: ConnectionSlot) -> bool:
        room = self._manner.room
        if place.within:
            return True
        if self._tls is None and room.turned_away <= _TOLD:
            return True  # the protocol says why, and closes
        _log.debug("dropped a connection from %s: too many", place.address[0])
        return False

    async def _open(self, sock: socket.socket, place: ConnectionSlot) -> None:
        loop = asyncio.get_running_loop()
        manner = self._manner
        handed_over = False
        try:
            set_keepalive_options(sock, _UNSENT_BYTES)
            proxies = manner.room.proxies
            if proxies.proxy_protocol and proxies.trusts(place.peer):
                async with asyncio.timeout(manner.handshake_s):
                    client = await read_proxy_header(sock)
                if client is not None:
                    place.move((client.host, client.port))
                    if not self._may_stay(place):
                        return
            if self._tls is None:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: self._factory(place), sock
                )
            else:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: self._factory(place),
                    sock,
                    ssl=self._tls,
                    ssl_handshake_timeout=manner.handshake_s,
                    ssl_shutdown_timeout=manner.stalled_s,
                )
            handed_over = True
            place.close = partial(reset, transport)
            self._dead_peers.watch(sock, place.close)
        except BadProxyHeader as error:
            _log.warning("%s: %s", place.peer, error)
        except (OSError, TimeoutError) as error:
            # Scanners and half-open browsers: nothing that anybody could act on.
            _log.debug("a connection from %s came to nothing: %s", place.address[0], error)
        finally:
            if not handed_over:
                place.leave()
                sock.close()


def _cancel_connection_task(task: "asyncio.Task[None]") -> None:
    task.cancel()


def address_not_bound_error(host: str, port: int, another: str, error: OSError) -> ConfigError:
    """What to tell whoever chose an address that can't be listened on.

    :param another: what to do where the port is not to be had.
    """
    where = f"{host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return ConfigError(
                f"port {port} on {host} is taken by another program",
                hint=f"end that program, or {another}",
            )
        case errno.EADDRNOTAVAIL:
            return ConfigError(
                f"{where} can't be listened on: {host} is no address of this machine",
                hint="give 127.0.0.1, or an address that `ip address` shows",
            )
        case errno.EACCES:
            return ConfigError(
                f"{where} can't be listened on: ports below 1024 are for root",
                hint=f"{another}, or grant CAP_NET_BIND_SERVICE",
            )
        case _:
            return ConfigError(f"{where} can't be listened on: {error.strerror or error}")


async def close_all_listeners(listeners: Sequence[Listener]) -> None:
    """Close several listeners and wait for the end of their connections."""
    for listener in listeners:
        listener.close()
    for listener in listeners:
        await listener.wait_closed()
