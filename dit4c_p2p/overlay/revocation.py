"""Revocation of live connections: each is cut when its peer's key is no longer in force.

An idle connection costs a timer, and a task only while its key is looked up.
"""

import asyncio
import logging

import asyncssh

from dit4c_p2p.identity.errors import IdentityError, InvalidDocument
from dit4c_p2p.identity.key_documents import LIFETIME_S
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.registry import KeyEvent

_log = logging.getLogger(__name__)

# Heard of at once while events are live; the slow look only catches documents that expire.
_LIVE_LOOK_S = 60.0
_UNHEARD_LOOK_S = 4.0


class RevocationMonitor:
    """Aborts ``connection`` once ``fingerprint`` is not in force for ``peer``; :meth:`end` ends it.

    The portal's signed event of the revocation is enough: nothing is fetched. The connection is cut
    as well when the portal can't be asked and the last signed copy has expired.

    :param connection: whoever made it calls :meth:`end` when it is lost.
    """

    __slots__ = (
        "_again",
        "_connection",
        "_fingerprint",
        "_good_at",
        "_loop",
        "_peer",
        "_registry",
        "_task",
        "_timer",
        "_unwatch",
    )

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection | asyncssh.SSHServerConnection,
        peer: PeerName,
        fingerprint: str,
        registry: Registry,
    ) -> None:
        self._connection = connection
        self._peer = peer
        self._fingerprint = fingerprint
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._good_at = self._loop.time()
        self._again = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unwatch = registry.watch(self._tell)
        self._look()

    def end(self) -> None:
        """Stop monitoring, and cancel a look-up that is under way."""
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    def _tell(self, event: KeyEvent | None) -> None:
        """Called by the registry: a key has changed, or any may have."""
        if event is None:
            self._look()
        elif event.name == str(self._peer):
            if event.what == "revoked" and event.fingerprint == self._fingerprint:
                self._disconnect(f"its key {self._fingerprint} was revoked")
            else:
                self._look()

    def _look(self) -> None:
        """Look the key up now, or again after the look-up that is under way."""
        if self._task is not None:
            self._again = True
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._task = self._loop.create_task(self._check(), name=f"watch over {self._peer}")

    async def _check(self) -> None:
        pause_s = None
        try:
            self._again = True
            while self._again:
                self._again = False
                pause_s = await self._checked()
        finally:
            self._task = None
        if pause_s is not None:
            self._timer = self._loop.call_later(pause_s, self._look)

    async def _checked(self) -> float | None:
        """Cut the connection if it is due; otherwise return the seconds until the next look."""
        peer = self._peer
        pause_s = _LIVE_LOOK_S if self._registry.live else _UNHEARD_LOOK_S
        try:
            document = await self._registry.keys(peer)
        except InvalidDocument as error:
            _log.warning("keys of %s: %s", peer, error.one_line())
            if self._loop.time() - self._good_at > LIFETIME_S:
                self._disconnect("what has become of its key can't be found out")
                return None
            return _UNHEARD_LOOK_S
        except IdentityError as error:
            self._disconnect(f"its key can't be looked up: {error.one_line()}")
            return None
        if self._fingerprint not in document.fingerprints():
            self._disconnect(f"its key {self._fingerprint} is not in force")
            return None
        self._good_at = self._loop.time()
        return pause_s

    def _disconnect(self, why: str) -> None:
        _log.warning("cut %s: %s", self._peer, why)
        self._unwatch()
        self._connection.abort()
