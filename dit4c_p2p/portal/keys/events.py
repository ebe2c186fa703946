"""``/keys/events``: every change of a key as a signed event, and heartbeats.

One task signs one heartbeat every 3 s for all listeners. A listener that can't keep up is cut off:
it comes back, hears the newest change in the first heartbeat, and drops what it had cached.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import asyncssh

from dit4c_p2p.identity import sshsig
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.registry import (
    HEARTBEAT_S,
    AccessEnded,
    EndedAccess,
    Heartbeat,
    KeyEvent,
    SignedEvent,
)
from dit4c_p2p.net.connection_limits import PerAddressLimiter
from dit4c_p2p.portal.errors import TooMany
from dit4c_p2p.portal.keys.known_addresses import KnownAddresses
from dit4c_p2p.portal.keys.registry import KeyRegistry

# Below the portal's cap on connections, so that others are served whoever listens. Strangers can't
# take what is for the addresses where peers have proved their keys; there, each pod of a node that
# is behind one router at home has a stream.
_MAX_LISTENERS = 1024
_MAX_LISTENERS_PER_ADDRESS = 256
_MAX_STRANGERS = 1024
_MAX_STRANGERS_PER_ADDRESS = 64
# As many as fit well into one event.
_ENDED_IN_ONE_EVENT = 64
# A burst of 256 changes while a listener's socket is full is far beyond any real one.
_MAX_QUEUED = 256


class KeyEventListener:
    """``async for frame in listener``: the JSON of each :class:`SignedEvent`, a heartbeat first."""

    def __init__(self, first: str) -> None:
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(_MAX_QUEUED)
        self._queue.put_nowait(first)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        frame = await self._queue.get()
        if frame is None:
            raise StopAsyncIteration
        return frame

    def put(self, frame: str) -> bool:
        """Add a frame; False if the listener is too far behind, and has been cut off."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.cut()
            return False
        return True

    def cut(self) -> None:
        """End it; what was not read yet is dropped."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)


class KeyEvents:
    """The stream; :meth:`run` has to run beside it."""

    def __init__(
        self,
        key: asyncssh.SSHKey,
        registry: KeyRegistry,
        known: KnownAddresses,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._registry = registry
        self._clock = clock
        self._known = known
        self._shares = PerAddressLimiter(_MAX_LISTENERS, _MAX_LISTENERS_PER_ADDRESS)
        self._strangers = PerAddressLimiter(_MAX_STRANGERS, _MAX_STRANGERS_PER_ADDRESS)
        self._listeners: set[KeyEventListener] = set()
        self._routers: set[KeyEventListener] = set()  # some of them
        self._closed = False
        registry.watch(self._tell)

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            if self._listeners:
                self._send(self._heartbeat())
            await asyncio.sleep(HEARTBEAT_S)

    @contextmanager
    def listen(self, address: str | None, *, router: bool = False) -> Iterator[KeyEventListener]:
        """Hear of changes while in the ``with`` block.

        :param address: where the listener is.
        :param router: it has proved to be a router, and hears of people's access as well.
        :raises TooMany: a cap on listeners is reached.
        """
        with self._place(address).hold(address) as held:
            if not held:
                raise TooMany("too many peers follow the key events")
            listener = KeyEventListener(self._heartbeat())
            self._listeners.add(listener)
            if router:
                self._routers.add(listener)
            if self._closed:
                listener.cut()
            try:
                yield listener
            finally:
                self._listeners.discard(listener)
                self._routers.discard(listener)

    def access_ended(
        self, ended: list[EndedAccess], listener: KeyEventListener | None = None
    ) -> None:
        """Tell the routers whose access has ended; or one of them, such as one that has come."""
        for first in range(0, len(ended), _ENDED_IN_ONE_EVENT):
            some = ended[first : first + _ENDED_IN_ONE_EVENT]
            frame = self._signed(AccessEnded(ended=some))
            for one in [listener] if listener is not None else list(self._routers):
                if not one.put(frame):
                    self._routers.discard(one)

    def _place(self, address: str | None) -> PerAddressLimiter:
        """Which places the next listener at ``address`` is to have one of."""
        return self._shares if self._known.knows(address) else self._strangers

    def close(self) -> None:
        """End every stream, now and from now on."""
        self._closed = True
        for listener in self._listeners:
            listener.cut()

    def _heartbeat(self) -> str:
        return self._signed(Heartbeat(change=self._registry.change, at=int(self._clock())))

    def _tell(self, event: KeyEvent) -> None:
        if self._listeners:
            self._send(self._signed(event))

    def _signed(self, event: KeyEvent | Heartbeat | AccessEnded) -> str:
        body = encode(event)
        signature = sshsig.sign(self._key, body, sshsig.EVENTS_NAMESPACE)
        return encode(SignedEvent(body=body.decode(), signature=signature)).decode()

    def _send(self, frame: str) -> None:
        self._listeners = {listener for listener in self._listeners if listener.put(frame)}
