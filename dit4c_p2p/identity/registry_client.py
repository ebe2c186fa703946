"""Client of the key registry: look keys up live, verify them, cache them while nothing changes.

Every document is verified against the portal's pinned key. ``/keys/events`` announces changes, with
a signed heartbeat. While heartbeats arrive, a cached document is valid until it expires or a change
of its name is announced. While they don't, a cached document is valid for a few seconds, then the
portal is asked again; if the portal can't be reached, the signed copy serves until it expires. A
copy that is known to be out of date never serves.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp.http_exceptions import LineTooLong

from dit4c_p2p.atomic_file import NotWritten, write_whole
from dit4c_p2p.backoff import Backoff
from dit4c_p2p.identity import key_documents, sshsig
from dit4c_p2p.identity.errors import (
    IdentityError,
    InvalidDocument,
    InvalidName,
    InvalidSignature,
    PortalUnreachable,
)
from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.keys import parse_public
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.codec import InvalidMessage, UnknownKind, decode
from dit4c_p2p.messages.registry import (
    SIGNATURE_HEADER,
    SILENCE_S,
    AccessEnded,
    EndedAccess,
    Heartbeat,
    KeyEvent,
    SignedEvent,
)

_log = logging.getLogger(__name__)

# Who holds the stream back without cutting it is silent too: the first heartbeat is made after the
# stream was asked for, and later ones may not fall behind the promptest so far by more than this.
_FIRST_HEARTBEAT_S = 4
_MAX_LAG_S = 5
# A revoked key is refused everywhere within 5 s (security.md), events heard or not.
UNHEARD_TTL_S = 3
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_MAX_CACHED = 4096
_MAX_DOCUMENT_BYTES = 64 * 1024
_MAX_EVENT_BYTES = 16 * 1024

# How long a stream that a router could not prove itself for is followed before the next try.
_ANONYMOUS_S = 60

Watcher = Callable[[KeyEvent | None], None]
_Event = KeyEvent | Heartbeat | AccessEnded


class _RegistryEntry:
    """A verified document, and the time (monotonic) at which it was last known to be the newest."""

    __slots__ = ("confirmed", "document")

    def __init__(self, document: KeyDocument, confirmed: float) -> None:
        self.document = document
        self.confirmed = confirmed


class Registry:
    """Client of the key registry. Run :meth:`run` beside it to learn of changes at once.

    :param client: an entered :class:`PortalClient`; its ``portal.key`` is the pinned key.
    :param cache_folder: where signed copies are kept for a time when the portal is down; None
        keeps them in memory only.
    :param clock: seconds since 1970.
    :param prove: makes a token of a router, which then hears of people's access as well.
    :param on_access_ended: told of whose access to instances has ended.
    :ivar trouble: why changes are not heard of, or were not when it was last tried; empty at first,
        and once they are.
    """

    def __init__(
        self,
        client: PortalClient,
        cache_folder: Path | None,
        *,
        clock: Callable[[], float] = time.time,
        prove: Callable[[], str] | None = None,
        on_access_ended: Callable[[list[EndedAccess]], None] | None = None,
    ) -> None:
        self._prove = prove
        self._proved_last = True
        self._on_access_ended = on_access_ended
        self._client = client
        self._portal_key = parse_public(client.portal.key)
        self._folder = cache_folder
        self._clock = clock
        self._entries: OrderedDict[PeerName, _RegistryEntry] = OrderedDict()
        self._fetching: dict[PeerName, asyncio.Task[KeyDocument]] = {}
        self._newest: OrderedDict[PeerName, int] = OrderedDict()
        self._change = -1
        self._cleared = 0
        self._heard = float("-inf")
        self.trouble = ""
        self._watchers: set[Watcher] = set()

    @property
    def live(self) -> bool:
        """Whether the client currently receives changes as they happen."""
        return time.monotonic() - self._heard < SILENCE_S

    @property
    def unheard(self) -> str:
        """Why the client does not receive changes, for the operator; empty if it does."""
        if self.live:
            return ""
        why = f": {self.trouble}" if self.trouble else ""
        return f"changes of keys at the portal are not heard of{why}"

    async def keys(self, name: PeerName) -> KeyDocument:
        """Return the keys in force of ``name``; an empty document if there are none.

        :raises PortalUnreachable: the portal can't be reached and no signed copy is in force.
        :raises InvalidDocument: the answer is not signed by the portal.
        """
        entry = self._entries.get(name)
        if entry is not None and self._clock() < entry.document.expires:
            self._entries.move_to_end(name)
            if self.live or time.monotonic() - entry.confirmed < UNHEARD_TTL_S:
                return entry.document
        task = self._fetching.get(name)
        if task is None:
            task = asyncio.create_task(self._refresh(name), name=f"keys of {name}")
            self._fetching[name] = task
            task.add_done_callback(lambda _: self._fetching.pop(name, None))
        return await asyncio.shield(task)

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Call ``callback`` with each change of a key; None: any keys may have changed.

        Return a function that ends the subscription.
        """
        self._watchers.add(callback)
        return lambda: self._watchers.discard(callback)

    async def run(self) -> None:
        """Follow the events until cancelled, reconnecting with jittered backoff."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            try:
                await self._follow()
            except (aiohttp.ClientError, TimeoutError, OSError, IdentityError) as error:
                self.trouble = (
                    error.one_line()
                    if isinstance(error, IdentityError)
                    else f"the portal does not answer: {error or type(error).__name__}"
                )
                if self._heard != float("-inf"):
                    _log.warning("key events lost: %s", self.trouble)
                    backoff.reset()
                else:
                    _log.info("key events not reachable yet: %s", self.trouble)
            if self._heard != float("-inf"):
                self._heard = float("-inf")
                self._tell(None)
            await asyncio.sleep(backoff.pause_s())

    # ---- documents

    async def _refresh(self, name: PeerName) -> KeyDocument:
        before = (self._newest.get(name, -1), self._cleared)
        try:
            document = await self._fetch(name)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            unreachable = PortalUnreachable(f"the portal does not answer: {error or 'time is up'}")
            return self._copy_or_raise(name, unreachable)
        except PortalUnreachable as error:
            return self._copy_or_raise(name, error)
        except InvalidDocument as error:
            # Somebody answers, and wrongly: a copy would hide what the portal has to say.
            _log.warning("a key document was not accepted: %s", error.one_line())
            raise
        if before == (self._newest.get(name, -1), self._cleared):
            self._entries[name] = _RegistryEntry(document, time.monotonic())
            self._entries.move_to_end(name)
            while len(self._entries) > _MAX_CACHED:
                self._entries.popitem(last=False)
        return document

    async def _fetch(self, name: PeerName) -> KeyDocument:
        path = f"/{name.kind}s/{name.id}/ssh-keys"
        body, header = await self._get(path)
        if header:
            signature = sshsig.with_armor(header).encode()
        else:  # the portal is of an earlier release
            signature, _ = await self._get(f"{path}.sig?serial={_document_serial(body)}")
        document = self._verified(name, body, signature)
        if document.keys:
            keep = partial(self._keep_copy, name, body, signature)
        else:
            keep = partial(self._drop_copy, name)
        if self._folder is not None:
            # A slow disk holds up this name, and not whatever else the loop has to do.
            await asyncio.to_thread(keep)
        return document

    async def _get(self, path: str) -> tuple[bytes, str]:
        """Return the body, and the header with its signature; empty if there is none."""
        async with self._client.session.get(self._client.url(path)) as response:
            if response.status >= 500 or response.status == 429:
                raise PortalUnreachable(f"the portal answers {response.status} for {path}")
            if response.status != 200:
                raise InvalidDocument(f"the portal answers {response.status} for {path}")
            body = await response.content.read(_MAX_DOCUMENT_BYTES + 1)
            while len(body) <= _MAX_DOCUMENT_BYTES and not response.content.at_eof():
                body += await response.content.read(_MAX_DOCUMENT_BYTES + 1)
            if len(body) > _MAX_DOCUMENT_BYTES:
                raise InvalidDocument(f"the portal's answer for {path} is too large")
            return body, response.headers.get(SIGNATURE_HEADER, "")

    def _verified(self, name: PeerName, body: bytes, signature: bytes) -> KeyDocument:
        try:
            sshsig.verify(
                body,
                signature.decode(errors="replace"),
                sshsig.KEYS_NAMESPACE,
                [self._portal_key],
            )
        except InvalidSignature as error:
            raise InvalidDocument(
                f"the key document of {name} is not signed by the portal: {error}",
                hint="if the portal's key was changed, enrol again",
            ) from None
        document = key_documents.parse(body, name, self._clock())
        if document.change < self._newest.get(name, -1):
            raise InvalidDocument(f"the key document of {name} is older than its newest change")
        known = self._entries.get(name)
        if known is not None and document.serial < known.document.serial:
            raise InvalidDocument(f"the key document of {name} is older than one seen before")
        return document

    def _copy_or_raise(self, name: PeerName, error: PortalUnreachable) -> KeyDocument:
        """Return the signed copy in memory or on disk if it is in force and may be current."""
        entry = self._entries.get(name)
        if entry is not None and self._clock() < entry.document.expires:
            return entry.document
        if self._folder is not None:
            try:
                body = (self._folder / f"{name}.keys").read_bytes()
                signature = (self._folder / f"{name}.keys.sig").read_bytes()
                return self._verified(name, body, signature)
            except (OSError, InvalidDocument) as problem:
                _log.debug("no copy of the keys of %s: %s", name, problem)
        raise error

    def _keep_copy(self, name: PeerName, body: bytes, signature: bytes) -> None:
        if self._folder is None:
            return
        try:
            for suffix, data in (("keys", body), ("keys.sig", signature)):
                write_whole(self._folder / f"{name}.{suffix}", data, lasting=False)
        except NotWritten as error:
            _log.warning("no copy of the keys of %s is kept: %s", name, error.one_line())
            # The one before is out of date.
            self._drop_copy(name)

    def _drop_copy(self, name: PeerName) -> None:
        """Delete the copies in memory and on disk, which must not serve again."""
        if self._folder is None:
            return
        try:
            for suffix in ("keys", "keys.sig"):
                (self._folder / f"{name}.{suffix}").unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the copy of the keys of %s could not be removed: %s", name, error)

    # ---- events

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=SILENCE_S)
        proving = self._prove is not None and self._proved_last
        headers = {}
        if self._prove is not None and proving:
            headers["Authorization"] = f"Bearer {self._prove()}"
        async with self._client.session.get(
            self._client.url("/keys/events"), timeout=timeout, headers=headers
        ) as response:
            self._proved_last = response.status not in (401, 403)
            again_at = time.monotonic() + _ANONYMOUS_S
            if response.status != 200:
                raise InvalidDocument(f"the portal answers {response.status} for its key events")
            promptest = float("inf")
            async with asyncio.timeout(_FIRST_HEARTBEAT_S) as deadline:
                async for data in _event_data(response.content):
                    event = self._take(data)
                    if isinstance(event, Heartbeat):
                        lag = time.monotonic() - event.at
                        promptest = min(promptest, lag)
                        if lag - promptest > _MAX_LAG_S:
                            raise PortalUnreachable("the portal's key events are held back")
                    if self._prove is not None and not proving and time.monotonic() > again_at:
                        return  # by now the portal may know the router's key
                    deadline.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
        raise PortalUnreachable("the portal ended the stream of key events")

    def _take(self, data: str) -> _Event | None:
        """Act on an event; None is an event of a kind that only newer releases know."""
        try:
            signed = decode(data, SignedEvent)
            sshsig.verify(
                signed.body.encode(), signed.signature, sshsig.EVENTS_NAMESPACE, [self._portal_key]
            )
            event: _Event = decode(signed.body, _Event)  # type: ignore[arg-type]
            name = PeerName.parse(event.name) if isinstance(event, KeyEvent) else None
        except UnknownKind as error:
            # If it is about a change, the next heartbeat says so.
            _log.info("a key event was passed over: %s", error.one_line())
            return None
        except (InvalidMessage, InvalidSignature, InvalidName) as error:
            raise InvalidDocument(f"an event is not the portal's: {error}") from None
        if isinstance(event, AccessEnded):
            if self._on_access_ended is not None:
                self._on_access_ended(event.ended)
        elif isinstance(event, Heartbeat):
            self._check_clock(event)
            if event.change != self._change:
                # The first heartbeat of this stream, or events between were lost.
                self._change = event.change
                self._entries.clear()
                self._cleared += 1
                self._now_heard()
                self._tell(None)
                return event
        elif event.change == self._change + 1 and name is not None:
            self._change = event.change
            self._newest[name] = event.change
            self._newest.move_to_end(name)
            while len(self._newest) > _MAX_CACHED:
                self._newest.popitem(last=False)
            self._entries.pop(name, None)
            _log.info("key of %s %s", name, event.what)
            self._tell(event)
        self._now_heard()
        return event

    def _now_heard(self) -> None:
        if self._heard == float("-inf"):
            _log.info("key events are being heard")
            self.trouble = ""
        self._heard = time.monotonic()

    def _check_clock(self, event: Heartbeat) -> None:
        apart = self._clock() - event.at
        if abs(apart) > key_documents.CLOCK_SKEW_S + SILENCE_S:
            raise InvalidDocument(
                f"this machine's clock and the portal's are {abs(apart):.0f} s apart",
                hint="set the clock",
            )

    def _tell(self, event: KeyEvent | None) -> None:
        for watcher in list(self._watchers):
            watcher(event)


def _document_serial(body: bytes) -> int:
    """Return the serial of an unverified body, which is used only to ask for its signature."""
    for field in body[:512].split(b"\n", 1)[0].split():
        if field.startswith(b"serial=") and field[7:].isdigit():
            return int(field[7:])
    raise InvalidDocument("the key document has no serial")


async def _event_data(content: aiohttp.StreamReader) -> AsyncIterator[str]:
    """Yield the ``data:`` line of each event of a server-sent event stream."""
    try:
        while line := await content.readline(max_line_length=_MAX_EVENT_BYTES):
            if line.startswith(b"data:"):
                yield line[5:].decode(errors="replace").strip()
    except LineTooLong:
        raise InvalidDocument("an event is too large") from None
