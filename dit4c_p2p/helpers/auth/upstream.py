"""The app: the state of its port, and connections to it, reused where it is safe."""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.auth.stream import BufferedStream

logger = logging.getLogger(__name__)

CONNECT_LIMIT_S = 5.0
# Below what servers commonly keep idle connections for (Node and uvicorn 5 s).
IDLE_LIMIT_S = 3.0
# As many as a browser opens to one host over HTTP/1.1, for five tabs.
MAX_IDLE = 32
# How long one look at the port counts for those who ask whether it is open; less while it is not,
# as somebody waits for the answer to change.
PROBE_LASTS_S = 1.0
CLOSED_LASTS_S = 0.1
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
# An app is seen about a tenth later than it is ready.
_PAUSE_FACTOR = 1.1


class AppUnreachable(DitError):
    """The app's port does not answer; ``was_ready`` tells whether it ever did."""

    code = "app_unreachable"

    def __init__(self, port: int, *, was_ready: bool) -> None:
        super().__init__(f"nothing answers on the app's port {port}")
        self.was_ready = was_ready


class AppUpstream:
    """The app of this pod, wherever in the pod's network namespace it listens on ``port``.

    :param clock: seconds, never going back.
    """

    def __init__(self, port: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.port = port
        self.ready = asyncio.Event()
        self._clock = clock
        self._address: str | None = None  # the one that answered last
        self._idle: deque[tuple[BufferedStream, float]] = deque()
        self._probe: asyncio.Task[bool] | None = None
        self._probed_at = float("-inf")

    async def wait_ready(self) -> None:
        """Poll the port until it answers for the first time."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, factor=_PAUSE_FACTOR)
        while not await self._look():
            await asyncio.sleep(backoff.pause_s())
        logger.info("the app answers on port %d", self.port)

    async def answers(self) -> bool:
        """Whether the port is open now; one look serves all who ask within a moment."""
        if self._probe is None or (
            self._probe.done() and self._clock() - self._probed_at >= self._probe_lasts_s()
        ):
            self._probed_at = self._clock()
            self._probe = asyncio.create_task(self._look(), name="probe the app")
        return await asyncio.shield(self._probe)

    async def connect(self) -> BufferedStream:
        """Open a new connection.
        :raises AppUnreachable: nothing listens, or it does not accept within 5 s.
        """
        loop = asyncio.get_running_loop()
        for address in self._addresses():
            try:
                async with asyncio.timeout(CONNECT_LIMIT_S):
                    _, wire = await loop.create_connection(BufferedStream, address, self.port)
            except (OSError, TimeoutError):
                continue
            self._address = address
            self.ready.set()
            return wire
        raise AppUnreachable(self.port, was_ready=self.ready.is_set())

    def take(self) -> BufferedStream | None:
        """Return an idle connection that is still usable, or None."""
        now = self._clock()
        while self._idle:
            wire, since = self._idle.pop()
            if not (wire.at_end or wire.lost or wire.buffered) and now - since < IDLE_LIMIT_S:
                wire.on_gone = None
                return wire
            wire.abort()
        return None

    def give_back(self, wire: BufferedStream) -> None:
        """Keep an idle connection for the next request."""
        if wire.at_end or wire.lost or wire.buffered or len(self._idle) >= MAX_IDLE:
            wire.abort()
            return
        wire.on_gone = wire.abort
        self._idle.append((wire, self._clock()))

    async def run(self) -> None:
        """Close connections that have been idle for too long, until cancelled; then close all."""
        try:
            while True:
                await asyncio.sleep(IDLE_LIMIT_S / 2)
                now = self._clock()
                while self._idle and now - self._idle[0][1] >= IDLE_LIMIT_S:
                    self._idle.popleft()[0].abort()
        finally:
            while self._idle:
                self._idle.popleft()[0].abort()
            if self._probe is not None:
                self._probe.cancel()
                await asyncio.gather(self._probe, return_exceptions=True)

    def _probe_lasts_s(self) -> float:
        assert self._probe is not None
        good = not self._probe.cancelled() and self._probe.exception() is None
        return PROBE_LASTS_S if good and self._probe.result() else CLOSED_LASTS_S

    async def _look(self) -> bool:
        try:
            wire = await self.connect()
        except AppUnreachable:
            return False
        wire.close()
        return True

    def _addresses(self) -> Iterator[str]:
        """The last good one, loopback, and the pod's own, where some apps listen."""
        if self._address is not None:
            yield self._address
        yield from ("127.0.0.1", "::1")
        yield from _own_upstream_addresses()


def _own_upstream_addresses() -> list[str]:
    """The address that this network namespace would send from; nothing is sent."""
    found = []
    for family, documentation in (
        (socket.AF_INET, "192.0.2.1"),
        (socket.AF_INET6, "2001:db8::1"),
    ):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((documentation, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return found
