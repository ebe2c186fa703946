"""Whose access to an instance has ended, told to that instance over its own tunnel.

The portal tells it to the routers; a router tells it to the instance's listener by a stream to
:data:`INSTANCE_NEWS_PORT`, which goes over the SSH connection that carries the instance's traffic:
whoever holds up the one holds up the other. A listener that does not take the news loses its
tunnel, and hears of it when it comes back. What is known is kept for as long as a session lasts.

    portal ──events──▶ AccessNewsDesk ──stream──▶ listener ──socket──▶ auth helper
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

import asyncssh

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.pod import NEWS_TAKEN, AccessNews
from dit4c_p2p.messages.ports import INSTANCE_NEWS_PORT
from dit4c_p2p.messages.registry import EndedAccess

_log = logging.getLogger(__name__)

# Refused at once, cut within 5 s (security.md): a listener has this long to take the news.
_TAKE_LIMIT_S = 2.0
_TRIES = 2
# Longer than any session at an instance (helpers.auth.sessions: 12 h).
_KEPT_S = 13 * 3600
_MAX_INSTANCES = 20_000
_MAX_PEOPLE = 1000  # of one instance


class TunnelOfInstance(Protocol):
    """An instance's tunnel."""

    def cut(self, reason: str) -> None:
        """End it at once."""


Open = Callable[
    [PeerName, int, Callable[[], asyncssh.SSHTCPSession[bytes]], tuple[str, int]],
    Awaitable["asyncssh.SSHTCPChannel[bytes]"],
]


class AccessNewsDesk:
    """Knows whose access has ended, and sees that each instance is told.

    :param open_stream: opens a stream to a name and a port.
    :param holder: who listens for an instance's news now, or None.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        open_stream: Open,
        holder: Callable[[PeerName, int], TunnelOfInstance | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._open = open_stream
        self._holder = holder
        self._clock = clock
        self._known: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._telling: dict[str, asyncio.Task[None]] = {}

    def take(self, ended: list[EndedAccess]) -> None:
        """The portal has told of some; each instance among them is told what is new to it."""
        oldest = self._clock() - _KEPT_S
        for one in ended:
            people = self._known.setdefault(one.instance, {})
            self._known.move_to_end(one.instance)
            if one.at < oldest or people.get(one.person, 0.0) >= one.at:
                continue
            people.pop(one.person, None)
            people[one.person] = one.at
            while len(people) > _MAX_PEOPLE:
                del people[next(iter(people))]
            self.tell(one.instance)
        while len(self._known) > _MAX_INSTANCES:
            self._known.popitem(last=False)

    def tell(self, instance: str) -> None:
        """Tell an instance that is connected all that is known: something is new, or it is."""
        name = PeerName(Kind.INSTANCE, instance)
        owner = self._holder(name, INSTANCE_NEWS_PORT)
        people = self._current(instance)
        if owner is None or not people:
            return
        before = self._telling.get(instance)
        news = AccessNews(
            ended=[EndedAccess(instance, person, at) for person, at in people.items()]
        )
        task = asyncio.create_task(self._tell(name, owner, news, before), name=f"news for {name}")
        self._telling[instance] = task
        task.add_done_callback(lambda done: self._told(instance, done))

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._telling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _current(self, instance: str) -> dict[str, float]:
        """What counts still; older news is forgotten."""
        people, oldest = self._known.get(instance, {}), self._clock() - _KEPT_S
        for person in [person for person, at in people.items() if at < oldest]:
            del people[person]
        if not people:
            self._known.pop(instance, None)
        return dict(people)

    def _told(self, instance: str, done: "asyncio.Task[None]") -> None:
        if self._telling.get(instance) is done:
            del self._telling[instance]
        if not done.cancelled() and done.exception() is not None:
            _log.error("news for %s failed", instance, exc_info=done.exception())

    async def _tell(
        self,
        name: PeerName,
        owner: TunnelOfInstance,
        news: AccessNews,
        before: "asyncio.Task[None] | None",
    ) -> None:
        """Tell it, or cut its tunnel."""
        if before is not None:
            before.cancel()  # what it says is said again here
        reason = ""
        for _ in range(_TRIES):
            try:
                async with asyncio.timeout(_TAKE_LIMIT_S / _TRIES):
                    taken = await self._ask(name, encode(news))
                if taken == NEWS_TAKEN:
                    _log.info(
                        "%s knows whose access has ended: %s",
                        name,
                        ", ".join(one.person for one in news.ended),
                    )
                    return
                reason = "it answered something else"
            except (DitError, asyncssh.Error, OSError, TimeoutError) as error:
                reason = str(error) or "it did not answer in time"
        if self._holder(name, INSTANCE_NEWS_PORT) is owner:
            owner.cut(f"it did not take the news of whose access has ended ({reason})")

    async def _ask(self, name: PeerName, request: bytes) -> bytes:
        answer = _NewsAnswer(request)
        channel = await self._open(name, INSTANCE_NEWS_PORT, lambda: answer, ("", 0))
        try:
            return await answer.received
        finally:
            channel.abort()


class _NewsAnswer(asyncssh.SSHTCPSession[bytes]):
    """Sends one request on a channel, and collects the answer.

    :ivar received: the answer, when it is whole.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._data = bytearray()
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, chan: "asyncssh.SSHTCPChannel[bytes]") -> None:
        """Called by asyncssh when the channel is open."""
        self._channel = chan

    def session_started(self) -> None:
        """Called by asyncssh when both ends may send."""
        self._channel.write(self._request + b"\n")
        self._channel.write_eof()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Called by asyncssh with the next bytes."""
        self._data += data
        if len(self._data) >= len(NEWS_TAKEN) and not self.received.done():
            self.received.set_result(bytes(self._data[: len(NEWS_TAKEN)]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh when the channel is gone."""
        if not self.received.done():
            self.received.set_result(bytes(self._data))
