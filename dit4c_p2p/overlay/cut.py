"""Revocation reaches live connections: each is cut when its peer's key is no longer in force."""

import asyncio
import contextlib
import logging

import asyncssh

from dit4c_p2p.identity.documents import LIFETIME_S
from dit4c_p2p.identity.errors import IdentityError, InvalidDocument
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.registry import Registry

_log = logging.getLogger(__name__)

# Heard of at once while events are live; the slow look only catches documents that expire.
_LIVE_LOOK_S = 60.0
_UNHEARD_LOOK_S = 4.0
# A change of this very peer was told, and what it is can't be found out: the worst is assumed.
_UNRESOLVED_S = 7.0


async def cut_when_revoked(
    connection: asyncssh.SSHClientConnection | asyncssh.SSHServerConnection,
    peer: PeerName,
    fingerprint: str,
    registry: Registry,
) -> None:
    """Abort ``connection`` once ``fingerprint`` is not in force for ``peer``; runs until it ends.

    It is cut as well when the portal can't be asked and the last signed copy has expired, and when
    a change of its keys was told and no proper document says what it is.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    told_at: float | None = None
    good_at = loop.time()

    def tell(name: PeerName | None) -> None:
        nonlocal told_at
        if name == peer and told_at is None:
            told_at = loop.time()
        if name in (None, peer):
            changed.set()

    unwatch = registry.watch(tell)
    closed = asyncio.ensure_future(connection.wait_closed())
    try:
        while not closed.done():
            changed.clear()
            pause = _LIVE_LOOK_S if registry.live else _UNHEARD_LOOK_S
            try:
                asked_at = loop.time()
                if fingerprint not in (await registry.keys(peer)).fingerprints():
                    _log.warning("cut %s: its key %s is not in force", peer, fingerprint)
                    connection.abort()
                    return
                good_at = loop.time()
                if told_at is not None and told_at <= asked_at:
                    told_at = None
            except InvalidDocument as error:
                _log.warning("keys of %s: %s", peer, error.one_line())
                now = loop.time()
                unresolved = told_at is not None and now - told_at > _UNRESOLVED_S
                if unresolved or now - good_at > LIFETIME_S:
                    _log.warning("cut %s: what has become of its key can't be found out", peer)
                    connection.abort()
                    return
                pause = _UNHEARD_LOOK_S
            except IdentityError as error:
                _log.warning("cut %s: its key can't be looked up: %s", peer, error.one_line())
                connection.abort()
                return
            look = asyncio.ensure_future(changed.wait())
            await asyncio.wait(
                (look, closed),
                timeout=pause,
                return_when=asyncio.FIRST_COMPLETED,
            )
            look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await look
    finally:
        unwatch()
        closed.cancel()
