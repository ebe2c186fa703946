"""``/grants/events``: tells the file servers at once whose grants have changed.

A listener that can't keep up is cut off: it connects again and fetches everything anew. A heartbeat
goes to all of them every two seconds, so that silence means a broken line.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.grants import GRANTS_HEARTBEAT_S, GrantEvent
from dit4c_p2p.portal.errors import TooMany

# Of all file servers, and of one: a server that restarts has its old stream for a while.
_MAX_LISTENERS = 256
_MAX_PER_SERVER = 8
_MAX_QUEUED = 256
# More names than this in one event are told as "all".
_MAX_PEERS = 500


class GrantEvents:
    """The stream; :meth:`run` has to run beside it."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Queue[str | None], str] = {}
        self._closed = False

    async def run(self) -> None:
        """Send heartbeats for ever."""
        while True:
            self._send(GrantEvent())
            await asyncio.sleep(GRANTS_HEARTBEAT_S)

    def changed(self, peers: Iterable[str]) -> None:
        """The grants of these peers have changed; called after the commit."""
        names = sorted(set(peers))
        if len(names) > _MAX_PEERS:
            self.all_changed()
        elif names:
            self._send(GrantEvent(peers=names))

    def all_changed(self) -> None:
        """Any grant may have changed; called after the commit."""
        self._send(GrantEvent(all=True))

    @contextmanager
    def listen(self, server: str) -> Iterator["asyncio.Queue[str | None]"]:
        """Hear of changes while in the ``with`` block: JSON of events, None at the end.

        :param server: the id of the file server.
        :raises TooMany: a cap on listeners is reached.
        """
        mine = sum(1 for other in self._listeners.values() if other == server)
        if mine >= _MAX_PER_SERVER or len(self._listeners) >= _MAX_LISTENERS:
            raise TooMany("too many streams of grants are open")
        queue: asyncio.Queue[str | None] = asyncio.Queue(_MAX_QUEUED)
        queue.put_nowait(encode(GrantEvent()).decode())
        if self._closed:
            queue.put_nowait(None)
        self._listeners[queue] = server
        try:
            yield queue
        finally:
            self._listeners.pop(queue, None)

    def close(self) -> None:
        """End every stream, now and from now on."""
        self._closed = True
        for queue in list(self._listeners):
            self._cut(queue)

    def _send(self, event: GrantEvent) -> None:
        frame = encode(event).decode()
        for queue in list(self._listeners):
            if queue.full():
                self._cut(queue)
            else:
                queue.put_nowait(frame)

    def _cut(self, queue: "asyncio.Queue[str | None]") -> None:
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
        self._listeners.pop(queue, None)
