"""The connection to the portal: a WebSocket that the scheduler opens; both ends prove their keys.

See ``messages.link``. A message that was not acknowledged is sent again on the next connection; an
order is acknowledged once it is stored.
"""

import asyncio
import base64
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import asyncssh

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.errors import InvalidSignature
from dit4c_p2p.identity.keys import parse_public
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.codec import (
    MAX_MESSAGE_BYTES,
    InvalidMessage,
    UnknownKind,
    decode,
    encode,
)
from dit4c_p2p.messages.link import (
    HEARTBEAT_S,
    LINK_NAMESPACE,
    REFUSED_CODE,
    Ack,
    Challenge,
    Hello,
    PortalFrame,
    ToSchedulerEnvelope,
    Welcome,
    opening_statement,
)
from dit4c_p2p.messages.registry import KeyEvent
from dit4c_p2p.scheduler.errors import LinkLost, LinkRefused, first_error_of_group
from dit4c_p2p.scheduler.store import Store

_log = logging.getLogger(__name__)

F = TypeVar("F")

OPENING_LIMIT_S = 10
# Sent and not acknowledged at one time; the rest wait in the store.
MAX_IN_FLIGHT = 64
ACK_LIMIT_S = 30
# With the opening's limit: back within 20 s after a cut line has healed (security.md).
_FIRST_PAUSE_S = 0.3
_LONGEST_PAUSE_S = 5.0
# A refusal changes when somebody publishes a key, not by asking often.
_REFUSED_FIRST_PAUSE_S = 2.0
_REFUSED_LONGEST_PAUSE_S = 60.0

OnOrder = Callable[[ToSchedulerEnvelope], Awaitable[None]]


class PortalLink:
    """Keeps the line open for as long as :meth:`run` runs.

    :param on_connected: called on each new line; what is kept in the portal's memory only is told
        again. A :class:`DitError` breaks the line.
    :param on_order: writes an order down; it is acknowledged when this returns. A
        :class:`DitError` breaks the line, and the order comes again on the next one.
    """

    def __init__(
        self,
        name: PeerName,
        key: asyncssh.SSHKey,
        client: PortalClient,
        store: Store,
        on_order: OnOrder,
        on_connected: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._key = key
        self._client = client
        self._store = store
        self._on_order = on_order
        self._on_connected = on_connected
        self._portal_key = parse_public(client.portal.key)
        self._news = asyncio.Event()
        self._in_flight: dict[str, float] = {}
        # The pause before a refused line is opened again, while there is one.
        self._refused_pause: asyncio.Timeout | None = None
        self._keys_changed = False
        self.connected = asyncio.Event()

    def outgoing_changed(self) -> None:
        """Send the store's new messages."""
        self._news.set()

    def keys_changed(self, event: KeyEvent | None) -> None:
        """A key (None: any) has changed: a refusal of this scheduler's may be over."""
        if event is None or event.name == str(self._name):
            self._keys_changed = True
            if self._refused_pause is not None:
                self._refused_pause.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Keep the line open until cancelled."""
        lost = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        refused = Backoff(_REFUSED_FIRST_PAUSE_S, _REFUSED_LONGEST_PAUSE_S)
        said = ""
        while True:
            pause = lost
            self._keys_changed = False
            try:
                await self._once()
            except LinkRefused as error:
                pause = refused
                reason = f"the portal refuses {self._name}: {error.one_line()}"
            except DitError as error:
                reason = f"no line to the portal: {error.one_line()}"
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                reason = f"no line to the portal: {error or type(error).__name__}"
            if self.connected.is_set():
                self.connected.clear()
                lost.reset()
                refused.reset()
                said = ""
            _log.log(logging.WARNING if reason != said else logging.DEBUG, reason)
            said = reason
            await self._pause(pause, until_keys_change=pause is refused)

    async def _pause(self, backoff: Backoff, *, until_keys_change: bool) -> None:
        """Wait before the line is opened again; begin anew when keys change meanwhile."""
        limit_s = 0 if until_keys_change and self._keys_changed else None
        try:
            async with asyncio.timeout(limit_s) as pause:
                self._refused_pause = pause if until_keys_change else None
                await asyncio.sleep(backoff.pause_s())
        except TimeoutError:
            backoff.reset()
        finally:
            self._refused_pause = None

    async def _once(self) -> None:
        """One line, from its opening to its end.

        :raises LinkRefused: the portal says no, or is another.
        :raises LinkLost: the line broke.
        """
        url = self._client.url(f"/schedulers/{self._name.id}/link")
        async with asyncio.timeout(OPENING_LIMIT_S) as opening:
            async with self._connect(url) as socket:
                await self._open(socket)
                opening.reschedule(None)
                self.connected.set()
                _log.info("line to the portal is up")
                self._in_flight.clear()
                broken: BaseExceptionGroup[BaseException] | None = None
                await self._on_connected()
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._send(socket), name="to the portal")
                        group.create_task(self._receive(socket), name="from the portal")
                except* (DitError, aiohttp.ClientError, OSError) as group_of_errors:
                    # Debian 12's Python 3.11.2 makes a group of what is raised in here.
                    broken = group_of_errors
                if broken is not None:
                    raise first_error_of_group(broken)

    @asynccontextmanager
    async def _connect(self, url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        try:
            socket = await self._client.session.ws_connect(
                url, heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (401, 403, 404):
                raise LinkRefused(f"it answers {error.status} for {url}") from None
            raise
        async with socket:
            yield socket

    async def _open(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        challenge = await _expect_portal_frame(socket, Challenge)
        nonce = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()

        def statement(signer: str) -> bytes:
            return opening_statement(
                signer, str(self._name), self._client.portal.url, challenge.nonce, nonce
            )

        signature = sshsig.sign(self._key, statement("scheduler"), LINK_NAMESPACE)
        hello = Hello(name=str(self._name), nonce=nonce, signature=signature)
        await socket.send_str(encode(hello).decode())
        welcome = await _expect_portal_frame(socket, Welcome)
        try:
            sshsig.verify(
                statement("portal"), welcome.signature, LINK_NAMESPACE, [self._portal_key]
            )
        except InvalidSignature as error:
            raise LinkRefused(
                f"{self._client.portal.url} is not the portal that was pinned: {error}",
                hint="if the portal's key was changed on purpose, enrol this scheduler again",
            ) from None

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Send the store's messages in order, and later ones as they come."""
        sent = 0
        while True:
            self._news.clear()
            room = MAX_IN_FLIGHT - len(self._in_flight)
            pending = await self._store.outgoing(sent, room) if room > 0 else []
            loop = asyncio.get_running_loop()
            for message in pending:
                self._in_flight[message.envelope.id] = loop.time()
                await socket.send_str(encode(message.envelope).decode())
                sent = message.position
            if pending:
                continue
            oldest = min(self._in_flight.values(), default=None)
            left_s = None if oldest is None else max(0.0, oldest + ACK_LIMIT_S - loop.time())
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                raise LinkLost(f"nothing was acknowledged for {ACK_LIMIT_S} s") from None

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            frame = await _portal_link_frame(socket)
            match frame:
                case Ack():
                    await self._store.acknowledged(frame.id)
                    self._in_flight.pop(frame.id, None)
                    self._news.set()
                case ToSchedulerEnvelope():
                    await self._on_order(frame)
                    await socket.send_str(encode(Ack(id=frame.id)).decode())
                case _:
                    raise LinkLost(f"the portal sent {type(frame).__name__} at the wrong time")


async def _portal_link_frame(socket: aiohttp.ClientWebSocketResponse) -> PortalFrame:
    """Return the next frame of a known kind.

    :raises LinkRefused: closed with ``REFUSED_CODE``.
    :raises LinkLost: ended otherwise, or not a frame of this conversation.
    """
    kind: Any = PortalFrame
    while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
        try:
            frame: PortalFrame = decode(message.data, kind)
        except UnknownKind as error:
            _log.warning("the portal's message is passed over: %s", error.one_line())
            continue
        except InvalidMessage as error:
            raise LinkLost(f"the portal sent {error}") from None
        return frame
    if socket.close_code == REFUSED_CODE:
        reason = str(message.extra or "it gives no reason")
        raise LinkRefused(reason, hint="is this scheduler's key published there, and not revoked?")
    broken = socket.exception()
    raise LinkLost(f"the line ended ({broken or socket.close_code or message.type.name})")


async def _expect_portal_frame(socket: aiohttp.ClientWebSocketResponse, kind: type[F]) -> F:
    frame = await _portal_link_frame(socket)
    if not isinstance(frame, kind):
        raise LinkLost(f"the portal sent {type(frame).__name__}, not {kind.__name__}")
    return frame
