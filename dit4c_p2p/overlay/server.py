"""Admission and login of peers: the part of an SSH server that all components share.

A peer logs in with its name as the user name and a key that is published for that name at that
moment. Before the login, connections are limited in number, in time and by address; after it, by
key and by channels. A connection is cut when its key is revoked.
"""

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar

import asyncssh

from dit4c_p2p.identity.errors import IdentityError, InvalidName
from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.keys import fingerprint as fingerprint_of
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.net.connection_limits import rate_limit_key
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.overlay.asyncssh_ext.backpressure import STALLED_S, install_backpressure
from dit4c_p2p.overlay.asyncssh_ext.fastpath import enable_fast_path
from dit4c_p2p.overlay.errors import Refused
from dit4c_p2p.overlay.revocation import RevocationMonitor

_log = summed(logging.getLogger(__name__))


@dataclass(frozen=True)
class Limits:
    """security.md, section 4: what one server bears. An address is what ``site_of`` makes of it:
    of IPv6 one /64."""

    unauthenticated: int = 64
    unauthenticated_per_address: int = 8
    # Of the 64, kept for addresses that have logged in before: eight hostile ones can't fill them.
    kept_for_known: int = 16
    tries_per_connection: int = 6
    # One that has not logged in for so long gives way where there is no room for a newcomer.
    gives_way_after_s: float = 2.0
    # After repeated failures an address waits for a refusal, doubling up to this.
    max_delay_s: float = 5.0
    # After login. Channels are counted whoever opens them, from when they are being opened.
    connections_per_key: int = 4
    channels_per_connection: int = 256


_MAX_REMEMBERED = 4096
V = TypeVar("V")

Admit = Callable[[PeerName, KeyDocument], None]


def admit_all(name: PeerName, document: KeyDocument) -> None:
    """Admit any peer whose key is published."""


class ConnectionAdmission:
    """State shared by the connections of one SSH server.

    :param admit: raises :class:`Refused` for a peer that this server does not serve; called with
        its verified document at each login.
    :param per_key: how many connections a key of this peer may have, where that is not
        ``limits.connections_per_key`` for every kind of peer.
    :param refused: told of each refusal with one of a few words for its reason.
    :ivar on_room: called when there is one connection fewer before login.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        admit: Admit = admit_all,
        limits: Limits | None = None,
        per_key: Callable[[PeerName], int] | None = None,
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.registry = registry
        self.admit = admit
        self.refused = refused
        self.limits = limits or Limits()
        self._per_key = per_key or (lambda name: self.limits.connections_per_key)
        self._by_key: Counter[str] = Counter()
        # Those before login, the oldest first, with when they came; and how many of each address.
        self._before_login: dict[PeerServer, float] = {}
        self._waiting: Counter[str] = Counter()
        self.on_room: Callable[[], None] = lambda: None
        self._known: OrderedDict[str, None] = OrderedDict()
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._watching: set[PeerServer] = set()

    def may_enter(self, address: str) -> bool:
        """Whether :meth:`enter` would have room for one more connection from ``address``."""
        return self._has_room(address) or self._gives_way(address) is not None

    def room_after_s(self) -> float:
        """In how many seconds the next connection will have to give way; if none leaves before."""
        now, most_s = self._now(), self.limits.gives_way_after_s
        waits = [most_s - (now - since) for since in self._before_login.values()]
        return max(0.02, min((one for one in waits if one > 0), default=most_s))

    def enter(self, server: "PeerServer") -> bool:
        """Count one more connection before login; False if there is no room for it.

        The oldest one that has not logged in for a while gives way: of the same address where that
        has all that it may have, else of all.
        """
        if not self._has_room(server.address):
            oldest = self._gives_way(server.address)
            if oldest is None:
                self.turned_away(server.address)
                return False
            oldest.give_way()
        self._before_login[server] = self._now()
        self._waiting[rate_limit_key(server.address)] += 1
        return True

    def leave(self, server: "PeerServer") -> None:
        """One fewer before login: it has logged in or gone."""
        if self._before_login.pop(server, None) is not None:
            _count_down_connections(self._waiting, rate_limit_key(server.address))
            # Not now: this may be called while another enters.
            asyncio.get_running_loop().call_soon(self.on_room)

    def turned_away(self, address: str) -> None:
        """A connection from ``address`` was closed: there was no room for it."""
        self.refused("too_many_before_login")
        _log.warning("turned away %s: too many connections before login", address)

    def _has_room(self, address: str) -> bool:
        limits, site = self.limits, rate_limit_key(address)
        room = limits.unauthenticated
        if site not in self._known:
            room -= limits.kept_for_known
        return (
            len(self._before_login) < room
            and self._waiting[site] < limits.unauthenticated_per_address
        )

    def _gives_way(self, address: str) -> "PeerServer | None":
        """The connection that has to make room for one from ``address``."""
        limits, site = self.limits, rate_limit_key(address)
        full = self._waiting[site] >= limits.unauthenticated_per_address
        old = self._now() - limits.gives_way_after_s
        for server, since in self._before_login.items():  # the oldest first
            if since > old:
                return None
            if not full or rate_limit_key(server.address) == site:
                return server
        return None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def failed(self, address: str) -> None:
        """Note a refused login from ``address``."""
        site = rate_limit_key(address)
        _remember_proved_address(self._failures, site, self._failures.get(site, 0) + 1)

    def logged_in(self, server: "PeerServer") -> int:
        """``server.peer`` has proven its key: count its connection and watch over it.

        Returns 0, or how many connections its key may have, and has: then this one must end.
        """
        site = rate_limit_key(server.address)
        _remember_proved_address(self._known, site, None)
        self._failures.pop(site, None)
        most = self._per_key(server.peer)
        if self._by_key[server.fingerprint] >= most:
            return most
        self._by_key[server.fingerprint] += 1
        server.watch = RevocationMonitor(
            server.conn, server.peer, server.fingerprint, self.registry
        )
        self._watching.add(server)
        return 0

    def gone(self, server: "PeerServer") -> None:
        """Forget the connection of a peer that had logged in."""
        if server in self._watching:
            self._watching.discard(server)
            server.watch.end()
            _count_down_connections(self._by_key, server.fingerprint)

    def delay_s(self, address: str) -> float:
        """Return how many seconds a login from ``address`` has to wait now."""
        failures = self._failures.get(rate_limit_key(address), 0)
        return 0.0 if failures < 3 else min(self.limits.max_delay_s, 0.1 * 2 ** (failures - 3))

    async def close(self) -> None:
        """Stop watching; the server's connections are closed by who made the server."""
        for server in list(self._watching):
            self.gone(server)


class PeerServer(asyncssh.SSHServer):
    """One connection of a peer. Components subclass it and answer its requests.

    After login ``peer`` is its name, ``fingerprint`` its key's, ``document`` what was published for
    it then, ``address`` where it comes from, ``conn`` the connection, and ``authenticated`` is True
    if it may stay. Subclasses that override a method of this class call it too. Nothing is allowed
    that a subclass does not allow. A channel beyond the gate's limit can't be made: trying raises
    :class:`asyncssh.ChannelOpenError` (``OPEN_RESOURCE_SHORTAGE``), with which asyncssh answers.
    ``extra_channels`` is how many more the next one may find there. ``stalled_s`` is how long the
    peer may take nothing of what waits for it.
    """

    stalled_s = STALLED_S
    extra_channels = 0

    conn: asyncssh.SSHServerConnection
    peer: PeerName
    fingerprint: str
    document: KeyDocument
    watch: RevocationMonitor

    def __init__(self, gate: ConnectionAdmission) -> None:
        self.gate = gate
        self.address = ""
        self._port = 0
        self.authenticated = False
        self._entered = False
        self._tries = 0
        self._has_waited = False  # for failures of others at its address
        # By claimed name and key: a peer may claim one name after the other, and ask about keys
        # that it doesn't have.
        self._answers: dict[tuple[str, str], KeyDocument | None] = {}

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Called by asyncssh when a connection opens, before anything is known of it."""
        self.conn = conn
        install_backpressure(conn, self.stalled_s)
        self._cap_channels(conn)
        self.address, self._port = _peer_address_of(conn)
        self._entered = self.gate.enter(self)
        if not self._entered:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh when the connection has ended, for whatever reason."""
        self._left()
        if self.authenticated:
            self.gate.gone(self)
            why = f": {exc}" if exc else ""
            _log.info("%s from %s has gone%s", self.peer, self.address, why, extra=self._about)

    async def begin_auth(self, username: str) -> bool:
        """Called with the name that the peer claims; always demands a proof."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Return True: a public key is the only way to log in."""
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether ``key`` is in force for the claimed name. Called twice a login, answered once.

        Each time it is, the peer is who it claims to be now: asyncssh's next step is to see whether
        it has signed with this very key, and only then it is logged in.
        """
        offered = fingerprint_of(key)
        asked = username, offered
        if asked not in self._answers:
            self._tries += 1
            if self._tries > self.gate.limits.tries_per_connection:
                self.gate.refused("too_many_tries")
                self.conn.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many tries")
                return False
            document = self._answers[asked] = await self._look_up(username, offered)
            if document is None:
                # Whose key is published does not wait for what others at its address did.
                delay_s = 0.0 if self._has_waited else self.gate.delay_s(self.address)
                self._has_waited = True
                self.gate.failed(self.address)
                await asyncio.sleep(delay_s)
        document = self._answers[asked]
        if document is None:
            return False
        self.peer, self.document, self.fingerprint = document.name, document, offered
        return True

    async def _look_up(self, username: str, offered: str) -> KeyDocument | None:
        """What is published for the claimed name, if the key is in force for it and may come in."""
        try:
            name = PeerName.parse(username)
            document = await self.gate.registry.keys(name)
            if offered in document.fingerprints():
                self.gate.admit(name, document)
                return document
            word = "key_not_in_force"
            reason = "the key is not published for this name, or is revoked"
        except InvalidName:
            word, reason = "not_a_peer_name", "not a peer name"
        except (IdentityError, Refused) as error:
            word = "not_served" if isinstance(error, Refused) else error.code
            reason = error.one_line()
        self.gate.refused(word)
        _log.warning(
            "refused %r from %s: %s", username[:60], self.address, reason, extra=self._about
        )
        return None

    def auth_completed(self) -> None:
        """Called by asyncssh when the peer has proven its key."""
        self._left()
        if most := self.gate.logged_in(self):
            self.gate.refused("too_many_connections")
            _log.warning(
                "turned away %s from %s: %d connections",
                *(self.peer, self.address, most),
                extra=self._about,
            )
            self.conn.disconnect(
                asyncssh.DISC_TOO_MANY_CONNECTIONS,
                f"the key of {self.peer} has {most} connections here already",
            )
            return
        self.authenticated = True
        _log.info("%s logged in from %s", self.peer, self.address, extra=self._about)
        enable_fast_path(self.conn)

    @property
    def channels(self) -> int:
        """How many channels there are, whoever opened them or is opening them."""
        return len(self.conn._channels)

    def _cap_channels(self, conn: Any) -> None:
        add_channel = conn.add_channel
        most = self.gate.limits.channels_per_connection

        def add(channel: Any) -> int:
            if self.channels >= most + self.extra_channels:
                raise asyncssh.ChannelOpenError(
                    asyncssh.OPEN_RESOURCE_SHORTAGE,
                    f"this connection has {most} channels open already",
                )
            number: int = add_channel(channel)
            return number

        conn.add_channel = add

    @property
    def _about(self) -> dict[str, str]:
        """What a log line of this connection has besides."""
        return {"connection": f"{self.address}:{self._port}"}

    def _left(self) -> None:
        if self._entered:
            self._entered = False
            self.gate.leave(self)

    def give_way(self) -> None:
        """End the connection, which has not logged in, in favour of another."""
        self.gate.turned_away(self.address)
        self._left()
        self.conn.abort()


def _peer_address_of(conn: asyncssh.SSHServerConnection) -> tuple[str, int]:
    """Address and port of who connects; empty and 0 if there is none.

    Through a router they are those that it has seen, in the channel's originator fields. One that
    lies there gains little: it can keep anybody away as it is, and the limit in all stands.
    """
    for kind in ("peername", "remote_peername"):
        name = conn.get_extra_info(kind)
        if isinstance(name, tuple) and len(name) > 1 and _is_ip_address(name[0]):
            return str(name[0]), int(name[1])
    return "", 0


def _is_ip_address(text: object) -> bool:
    try:
        ip_address(str(text))
    except ValueError:
        return False
    return True


def _count_down_connections(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]


def _remember_proved_address(memory: OrderedDict[str, V], key: str, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > _MAX_REMEMBERED:
        memory.popitem(last=False)


async def disconnect_all(
    servers: Iterable[PeerServer], reason: str, limit_s: float, *others: Awaitable[object]
) -> None:
    """Disconnect peers for ``reason``, and abort those that are not gone after ``limit_s``.

    :param others: what has to end as well, within the same time.
    """
    live = list(servers)
    for server in live:
        server.conn.disconnect(asyncssh.DISC_BY_APPLICATION, reason)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            closing = (server.conn.wait_closed() for server in live)
            await asyncio.gather(*closing, *others, return_exceptions=True)
    for server in live:
        server.conn.abort()
