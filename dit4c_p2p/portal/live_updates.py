"""Publish and subscribe for changes within the portal.

A subscription holds the *names* of the objects that have changed since it was last read, each once:
a slow subscriber misses intermediate states, never the newest one, and its memory is bounded.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dit4c_p2p.portal.errors import TooMany

# What changes, other than an instance.
SESSION = "session"
# Before an instance's id: how much memory it uses has changed, and nothing else of it.
MEMORY = "memory "


class LiveUpdateSubscription:
    """The names that a subscriber has not read yet."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()
        self.closed = False

    def _add(self, item: str) -> None:
        self._changed[item] = None
        self._wake.set()

    def _close(self) -> None:
        self.closed = True
        self._wake.set()

    async def changed(self, timeout_s: float) -> list[str]:
        """What changed since the last call, waiting up to ``timeout_s`` for something.

        An empty list means: nothing in that time, or the portal is stopping (:attr:`closed`).
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return []
        self._wake.clear()
        items, self._changed = list(self._changed), {}
        return items


class LiveUpdates:
    """Topics are ``person:<id>``; what changes is an instance's id, or ``session``."""

    def __init__(self, max_all: int, max_per_topic: int) -> None:
        self._topics: dict[str, set[LiveUpdateSubscription]] = {}
        self._max_all = max_all
        self._max_per_topic = max_per_topic
        self._closed = False
        self._on_session: list[Callable[[], None]] = []

    def watch_sessions(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called whenever a person's sessions may have ended."""
        self._on_session.append(callback)

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[LiveUpdateSubscription]:
        """Hear of a topic while in the ``with`` block.

        :raises TooMany: of all streams, or of those on this topic.
        """
        here = self._topics.setdefault(topic, set())
        if (
            len(here) >= self._max_per_topic
            or sum(map(len, self._topics.values())) >= self._max_all
        ):
            if not here:
                del self._topics[topic]
            raise TooMany("too many live views are open", hint="close some browser tabs")
        subscription = LiveUpdateSubscription()
        subscription.closed = self._closed
        here.add(subscription)
        try:
            yield subscription
        finally:
            here.discard(subscription)
            if not here and self._topics.get(topic) is here:
                del self._topics[topic]

    def tell(self, topic: str, item: str) -> None:
        """Something named ``item`` changed."""
        for subscription in self._topics.get(topic, ()):
            subscription._add(item)
        if item == SESSION:
            for callback in self._on_session:
                callback()

    def close(self) -> None:
        """End every stream, now and from now on."""
        self._closed = True
        for subscriptions in self._topics.values():
            for subscription in subscriptions:
                subscription._close()
