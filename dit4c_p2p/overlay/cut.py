"""Revocation reaches live connections: each is cut when its peer's key is no longer in force."""

import asyncio
import contextlib
import logging

import asyncssh

from dit4c_p2p.identity.errors import IdentityError, InvalidDocument
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.registry import Registry

_log = logging.getLogger(__name__)

# Heard of at once while events are live; the slow look only catches documents that expire.
_LIVE_LOOK_S = 60.0
_UNHEARD_LOOK_S = 4.0


async def cut_when_revoked(
    connection: asyncssh.SSHClientConnection | asyncssh.SSHServerConnection,
    peer: PeerName,
    fingerprint: str,
    registry: Registry,
) -> None:
    """Abort ``connection`` once ``fingerprint`` is not in force for ``peer``; runs until it ends.

    It is cut as well when the portal can't be asked and the last signed copy has expired.
    """
    changed = asyncio.Event()
    unwatch = registry.watch(lambda name: changed.set() if name in (None, peer) else None)
    closed = asyncio.ensure_future(connection.wait_closed())
    try:
        while not closed.done():
            changed.clear()
            try:
                if fingerprint not in (await registry.keys(peer)).fingerprints():
                    _log.warning("cut %s: its key %s is not in force", peer, fingerprint)
                    connection.abort()
                    return
            except InvalidDocument as error:
                _log.warning("keys of %s: %s", peer, error.one_line())
            except IdentityError as error:
                _log.warning("cut %s: its key can't be looked up: %s", peer, error.one_line())
                connection.abort()
                return
            look = asyncio.ensure_future(changed.wait())
            await asyncio.wait(
                (look, closed),
                timeout=_LIVE_LOOK_S if registry.live else _UNHEARD_LOOK_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await look
    finally:
        unwatch()
        closed.cancel()
