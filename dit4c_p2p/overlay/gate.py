"""Who may come in: the part of an SSH server that every component shares.

A peer logs in with its name as the user name and a key that is published for that name at that
moment. Before login, connections are few, short and counted by address; after it, each is cut when
its key is revoked.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncssh

from dit4c_p2p.identity.documents import KeyDocument
from dit4c_p2p.identity.errors import IdentityError, InvalidName
from dit4c_p2p.identity.keys import fingerprint as fingerprint_of
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.registry import Registry
from dit4c_p2p.overlay.cut import KeyWatch
from dit4c_p2p.overlay.errors import Refused
from dit4c_p2p.overlay.guard import STALLED_S, guard
from dit4c_p2p.overlay.quick import quicken

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """security.md, section 4: what one server bears before and at login."""

    unauthenticated: int = 64
    unauthenticated_per_address: int = 8
    # Of the 64, kept for addresses that have logged in before: eight hostile ones can't fill them.
    kept_for_known: int = 16
    tries_per_connection: int = 6
    # After repeated failures an address waits, doubling up to this, before it may try again.
    max_delay_s: float = 5.0


_MAX_REMEMBERED = 4096
V = TypeVar("V")

Admit = Callable[[PeerName, KeyDocument], None]


def admit_all(name: PeerName, document: KeyDocument) -> None:
    """Any peer whose key is published."""


class Gate:
    """What the connections of one SSH server share.

    :param admit: raises :class:`Refused` for a peer that this server does not serve; called with
        its verified document at each login.
    :param refused: told of each refusal with one of a few words for its reason.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        admit: Admit = admit_all,
        limits: Limits | None = None,
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.registry = registry
        self.admit = admit
        self.refused = refused
        self.limits = limits or Limits()
        self._waiting: Counter[str] = Counter()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._watching: set[PeerServer] = set()

    def enter(self, address: str) -> bool:
        """Count one more connection before login; False if there is no room for it."""
        limits = self.limits
        room = limits.unauthenticated
        if address not in self._known:
            room -= limits.kept_for_known
        if self._waiting.total() >= room:
            return False
        if self._waiting[address] >= limits.unauthenticated_per_address:
            return False
        self._waiting[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One fewer before login: it has logged in or gone."""
        self._waiting[address] -= 1
        if self._waiting[address] <= 0:
            del self._waiting[address]

    def failed(self, address: str) -> None:
        """A login from ``address`` was refused."""
        _remember(self._failures, address, self._failures.get(address, 0) + 1)

    def logged_in(self, server: "PeerServer") -> None:
        """``server.peer`` has proven its key: watch over it until it goes."""
        _remember(self._known, server.address, None)
        self._failures.pop(server.address, None)
        server.watch = KeyWatch(server.conn, server.peer, server.fingerprint, self.registry)
        self._watching.add(server)

    def gone(self, server: "PeerServer") -> None:
        """The connection of one that had logged in has ended."""
        server.watch.end()
        self._watching.discard(server)

    def delay_s(self, address: str) -> float:
        """How long a login from ``address`` has to wait now."""
        failures = self._failures.get(address, 0)
        return 0.0 if failures < 3 else min(self.limits.max_delay_s, 0.1 * 2 ** (failures - 3))

    async def close(self) -> None:
        """Stop watching; the server's connections are closed by who made the server."""
        for server in list(self._watching):
            self.gone(server)


class PeerServer(asyncssh.SSHServer):
    """One connection of a peer. Components subclass it and answer its requests.

    After login ``peer`` is its name, ``fingerprint`` its key's, ``document`` what was published for
    it then, ``address`` where it comes from, ``conn`` the connection. Subclasses that override a
    method of this class call it too. Nothing is allowed that a subclass does not allow.
    ``stalled_s`` is how long the peer may take nothing of what waits for it.
    """

    stalled_s = STALLED_S

    conn: asyncssh.SSHServerConnection
    peer: PeerName
    fingerprint: str
    document: KeyDocument
    watch: KeyWatch

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.address = ""
        self._port = 0
        self.authenticated = False
        self._entered = False
        self._claimed: PeerName | None = None
        self._tries = 0
        self._answers: dict[str, bool] = {}

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Called by asyncssh when a connection opens, before anything is known of it."""
        self.conn = conn
        guard(conn, self.stalled_s)
        peername = conn.get_extra_info("peername")
        self.address = str(peername[0]) if isinstance(peername, tuple) and peername else ""
        self._port = peername[1] if isinstance(peername, tuple) and len(peername) > 1 else 0
        self._entered = self.gate.enter(self.address)
        if not self._entered:
            self.gate.refused("too_many_before_login")
            _log.warning(
                "turned away %s: too many connections before login", self.address, extra=self._about
            )
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
        try:
            self._claimed = PeerName.parse(username)
        except InvalidName:
            self._claimed = None
        await asyncio.sleep(self.gate.delay_s(self.address))
        return True

    def public_key_auth_supported(self) -> bool:
        """The only way in."""
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether ``key`` is in force for the claimed name. Called twice a login, answered once."""
        offered = fingerprint_of(key)
        if offered in self._answers:
            if self._answers[offered]:
                self.fingerprint = offered
            return self._answers[offered]
        self._tries += 1
        if self._tries > self.gate.limits.tries_per_connection:
            self.gate.refused("too_many_tries")
            self.conn.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "too many tries")
            return False
        accepted = self._answers[offered] = await self._accept(username, offered)
        if accepted:
            self.fingerprint = offered
        else:
            self.gate.failed(self.address)
        return accepted

    async def _accept(self, username: str, offered: str) -> bool:
        name = self._claimed
        if name is None:
            word, reason = "not_a_peer_name", "not a peer name"
        else:
            try:
                document = await self.gate.registry.keys(name)
                if offered in document.fingerprints():
                    self.gate.admit(name, document)
                    self.peer, self.document = name, document
                    return True
                word = "key_not_in_force"
                reason = "the key is not published for this name, or is revoked"
            except (IdentityError, Refused) as error:
                word = "not_served" if isinstance(error, Refused) else error.code
                reason = error.one_line()
        self.gate.refused(word)
        _log.warning(
            "refused %r from %s: %s", username[:60], self.address, reason, extra=self._about
        )
        return False

    def auth_completed(self) -> None:
        """Called by asyncssh when the peer has proven its key."""
        self._left()
        self.authenticated = True
        _log.info("%s logged in from %s", self.peer, self.address, extra=self._about)
        self.gate.logged_in(self)
        quicken(self.conn)

    @property
    def _about(self) -> dict[str, str]:
        """What a log line of this connection has besides."""
        return {"connection": f"{self.address}:{self._port}"}

    def _left(self) -> None:
        if self._entered:
            self._entered = False
            self.gate.leave(self.address)


def _remember(memory: OrderedDict[str, V], key: str, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > _MAX_REMEMBERED:
        memory.popitem(last=False)
