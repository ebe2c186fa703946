"""What the portal says about whose files a peer sees, followed as it changes.

``messages/grants.py`` has the requests. Grants are asked for when a session begins, and again when
the portal tells of a change, or has told nothing for too long.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import asyncssh
from aiohttp.http_exceptions import LineTooLong

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.problems import read_problem
from dit4c_p2p.messages.codec import MAX_MESSAGE_BYTES, InvalidMessage, decode
from dit4c_p2p.messages.grants import GRANTS_SILENCE_S, GrantEvent, Grants

_log = logging.getLogger(__name__)

_TOKEN_S = 60
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_MAX_EVENT_BYTES = 64 * 1024
_MAX_KNOWN = 4096
# While the portal does not answer, what it said last counts for so long.
_KNOWN_S = 3600.0


class GrantsUnknown(DitError):
    """The portal can't be asked now."""

    code = "grants_unknown"


class NoGrants(DitError):
    """The portal says that there are none, or does not know the peer."""

    code = "no_grants"


class KeyTaken(DitError):
    """A key that has logged in belongs to somebody else by now."""

    code = "key_taken"


class GrantsClient:
    """Asks the portal as the file server.

    :param client: an entered :class:`PortalClient`.
    :param changed: told of a peer whose grants may have changed, or None: everybody's.
    :param clock: seconds since 1970.
    :ivar trouble: why changes are not heard of; empty while they are.
    """

    def __init__(
        self,
        client: PortalClient,
        name: PeerName,
        key: asyncssh.SSHKey,
        changed: Callable[[PeerName | None], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._name = name
        self._key = key
        self._changed = changed
        self._clock = clock
        self._known: OrderedDict[PeerName, tuple[float, Grants]] = OrderedDict()
        self._proved: OrderedDict[str, PeerName] = OrderedDict()
        self.trouble = "the portal has not answered yet"

    async def of(self, peer: PeerName) -> Grants:
        """The grants of an instance or a person.

        :raises NoGrants: it has none.
        :raises GrantsUnknown: the portal does not answer, and has said nothing lately.
        """
        try:
            grants = await self._ask(peer)
        except GrantsUnknown:
            known = self._known.get(peer)
            if known is None or time.monotonic() - known[0] > _KNOWN_S:
                raise
            return known[1]
        except NoGrants:
            self._known.pop(peer, None)
            raise
        self._known[peer] = time.monotonic(), grants
        self._known.move_to_end(peer)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return grants

    async def _ask(self, peer: PeerName) -> Grants:
        url = self._client.url(f"/{peer.kind}s/{peer.id}/grants")
        try:
            async with self._client.session.get(
                url, headers=self._authorization(), allow_redirects=False
            ) as response:
                if response.status == 404:
                    raise NoGrants(f"the portal does not know {peer}")
                if response.status != 200:
                    raise GrantsUnknown(str(await read_problem(response)))
                body = b""
                while chunk := await response.content.read(MAX_MESSAGE_BYTES + 1 - len(body)):
                    body += chunk
            grants = decode(body, Grants)
        except (aiohttp.ClientError, OSError, TimeoutError, InvalidMessage) as error:
            reason = str(error) or "time is up"
            raise GrantsUnknown(f"the portal does not answer: {reason}") from None
        if grants.peer != str(peer):
            raise GrantsUnknown(f"the portal answers for {grants.peer} instead of {peer}")
        return grants

    async def prove(self, peer: PeerName, fingerprint: str) -> None:
        """Tell the portal that a person's key has logged in here.

        :raises KeyTaken: it is somebody else's.
        :raises GrantsUnknown: the portal can't be told now.
        """
        if self._proved.get(fingerprint) == peer:
            return
        url = self._client.url(f"/users/{peer.id}/ssh-keys/{fingerprint}/proved")
        try:
            async with self._client.session.post(
                url, headers=self._authorization(), allow_redirects=False
            ) as response:
                if response.status in (404, 409):
                    raise KeyTaken(f"the key is not {peer}'s: {await read_problem(response)}")
                if response.status != 204:
                    raise GrantsUnknown(str(await read_problem(response)))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = str(error) or "time is up"
            raise GrantsUnknown(f"the portal does not answer: {reason}") from None
        self._proved[fingerprint] = peer
        while len(self._proved) > _MAX_KNOWN:
            self._proved.popitem(last=False)

    def forget_proofs(self, peer: PeerName | None) -> None:
        """Keys of ``peer``, or anybody's, have changed: their next login proves them anew."""
        for fingerprint, holder in list(self._proved.items()):
            if peer in (None, holder):
                del self._proved[fingerprint]

    def _authorization(self) -> dict[str, str]:
        token = tokens.issue(
            *(self._key, self._name, self._client.portal.url),
            now=self._clock(),
            lifetime_s=_TOKEN_S,
        )
        return {"Authorization": f"Bearer {token}"}

    # ---- events

    async def run(self) -> None:
        """Follow the events for ever, coming back by jittered backoff."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            try:
                await self._follow(backoff)
            except (aiohttp.ClientError, TimeoutError, OSError, DitError) as error:
                reason = error.one_line() if isinstance(error, DitError) else str(error)
                if not self.trouble:
                    _log.warning("changes of grants are not heard of: %s", reason or "silence")
                self.trouble = reason or "the portal says nothing"
            # Whatever has changed meanwhile was not told.
            self._changed(None)
            await asyncio.sleep(backoff.pause_s())

    async def _follow(self, backoff: Backoff) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=GRANTS_SILENCE_S)
        url = self._client.url("/grants/events")
        async with self._client.session.get(
            url, headers=self._authorization(), timeout=timeout, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise GrantsUnknown(str(await read_problem(response)))
            async for data in _events_for_grants(response.content):
                event = decode(data, GrantEvent)
                if self.trouble:
                    self.trouble = ""
                    backoff.reset()
                    _log.info("changes of grants are being heard")
                    self._changed(None)
                self._tell(event)
        raise GrantsUnknown("the portal ended the stream of grant events")

    def _tell(self, event: GrantEvent) -> None:
        if event.all:
            self._changed(None)
        for name in event.peers:
            self._changed(PeerName.parse(name))


async def _events_for_grants(content: aiohttp.StreamReader) -> AsyncIterator[str]:
    """The ``data:`` of each server-sent event, one line each."""
    read: Any = content.readline
    try:
        while line := await read(max_line_length=_MAX_EVENT_BYTES):
            if line.startswith(b"data:"):
                yield line[5:].decode(errors="replace").strip()
    except LineTooLong:
        raise GrantsUnknown("an event is too large") from None
