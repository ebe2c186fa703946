"""A buffered byte stream with back-pressure in both directions and a limit on each wait."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from dit4c_p2p.net.http1 import find_head_end
from dit4c_p2p.net.reset import is_connection_cut_off, reset, unread_bytes

# One read of the event loop is up to 256 KiB; more than two of them are never held.
READ_HIGH_BYTES = 256 * 1024
WRITE_HIGH_BYTES = 256 * 1024

_SILENT = "the other end was silent for too long"

Data = bytes | bytearray


class BufferedStream(asyncio.Protocol):
    """One connection, read and written by one task each at a time.

    ``on_gone`` is called once, when the other end has closed or half-closed; a half-close counts
    as gone, as with nginx: a browser that closes a connection looks just so.
    """

    def __init__(self, on_made: Callable[["BufferedStream"], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_made = on_made
        self.on_gone: Callable[[], None] | None = None
        self.transport: asyncio.Transport
        self.at_end = False  # no more will come than what is buffered
        self.lost = False
        self.was_reset = False  # the end was no orderly one
        self.moved_at = self._loop.time()  # when a byte came last, or one was taken
        self._buffer: Data = b""
        self._sink: BufferedStream | None = None  # where all that comes goes at once
        self._reader: asyncio.Future[None] | None = None
        self._drainer: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        # One timer serves many waits: it is moved when it fires, not with each of them.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline = float("inf")  # of the wait that is on

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport; called by asyncio."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        """Keep ``data`` until it is read, and stop the sender when it is too much."""
        self.moved_at = self._loop.time()
        if self._sink is not None:
            self._pour(self._sink, data)
            return
        if self._buffer:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        else:
            self._buffer = data
        if len(self._buffer) >= READ_HIGH_BYTES:
            self._pause()
        _wake_stream_waiter(self._reader)

    def eof_received(self) -> bool:
        """The other end writes no more; ours stays open until closed."""
        self.was_reset = is_connection_cut_off(self.transport)
        self._end()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """End the stream; buffered bytes can still be read."""
        self.lost = True
        self.was_reset = self.was_reset or error is not None or not self.at_end
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _wake_stream_waiter(self._drainer)
        self._end()

    def pause_writing(self) -> None:
        """Pause writers; called by asyncio when the other end is slower."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Resume writers; called by asyncio when the other end has caught up."""
        self.moved_at = self._loop.time()
        self._writing_paused = False
        _wake_stream_waiter(self._drainer)

    def _end(self) -> None:
        self.at_end = True
        _wake_stream_waiter(self._reader)
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()

    # ---- called by the task that has the wire

    @property
    def buffered(self) -> bool:
        """Whether unread bytes have arrived."""
        return bool(self._buffer)

    async def read(self, limit_s: float | None) -> Data:
        """What has come, at least one byte; empty at the end of the stream.

        :param limit_s: how long to wait; None for ever.
        :raises TimeoutError: nothing came for so long.
        """
        while not self._buffer and not self.at_end:
            await self._wait_readable(limit_s)
        return self.read_now()

    def read_now(self) -> Data:
        """Return the bytes that have arrived, without waiting."""
        data, self._buffer = self._buffer, b""
        self._resume()
        return data

    def unread(self, data: Data) -> None:
        """Give back the rest of the last :meth:`read`."""
        if data:
            self._buffer = data + self._buffer if self._buffer else data

    async def pour_into(self, sink: "BufferedStream", limit_s: float) -> None:
        """Pass on all that has come and comes, until the end of the stream, as it comes.

        :param limit_s: how long ``sink`` may take nothing.
        :raises ConnectionResetError: it is gone.
        :raises TimeoutError: it has taken nothing for so long.
        """
        if self._buffer:
            sink.write(self.read_now())
        self._sink = sink
        try:
            while not self.at_end:
                if sink.is_behind:
                    await sink.drain(limit_s)
                    self._resume()
                else:
                    await self._wait_readable(None)
            await sink.drain(limit_s)
        finally:
            self._sink = None

    def _pour(self, sink: "BufferedStream", data: bytes) -> None:
        if not sink.lost and not sink.transport.is_closing():
            sink.transport.write(data)
        if sink.is_behind:
            self._pause()
            _wake_stream_waiter(self._reader)

    async def read_exactly(self, size: int, limit_s: float) -> bytes | None:
        """The next ``size`` bytes within ``limit_s`` seconds, or None if the stream ends before.

        :raises TimeoutError: they did not come in time.
        """
        deadline = self._loop.time() + limit_s
        while len(self._buffer) < size:
            if self.at_end:
                return None
            await self._wait_readable(deadline - self._loop.time())
        return self._take(size)

    async def read_head(self, idle_s: float, head_s: float) -> bytes | None:
        """The next HTTP head, or None if the stream ends before one begins.

        :param idle_s: how long to wait for its first byte.
        :param head_s: how long it may take from then on.
        :raises TimeoutError: it took longer.
        :raises ConnectionResetError: the stream ended inside it.
        :raises BadRequest: see :func:`find_head_end`.
        """
        while not self._buffer:
            if self.at_end:
                return None
            await self._wait_readable(idle_s)
        seen = 0
        deadline = 0.0
        while (end := find_head_end(self._buffer, seen)) < 0:
            if self.at_end:
                raise ConnectionResetError("the stream ended inside a head")
            deadline = deadline or self._loop.time() + head_s
            seen = len(self._buffer)
            await self._wait_readable(deadline - self._loop.time())
        return self._take(end)

    def write(self, data: Data) -> None:
        """Send ``data``; call :meth:`drain` before there is more of it.

        :raises ConnectionResetError: the other end is gone.
        """
        if self.lost or self.transport.is_closing():
            raise ConnectionResetError("the other end is gone")
        self.transport.write(data)

    @property
    def is_behind(self) -> bool:
        """Whether :meth:`drain` has something to wait for, or to raise."""
        return self._writing_paused or self.lost

    async def drain(self, limit_s: float) -> None:
        """Wait until the other end has taken most of what was written.

        :raises ConnectionResetError: it is gone.
        :raises TimeoutError: it has taken nothing for ``limit_s`` seconds.
        """
        while self._writing_paused and not self.lost:
            waiting = self.transport.get_write_buffer_size()
            self._drainer = self._loop.create_future()
            try:
                await _wait_for_stream(self._loop, self._drainer, limit_s)
            except TimeoutError:
                if self.transport.get_write_buffer_size() >= waiting:
                    raise
                self.moved_at = self._loop.time()
            finally:
                self._drainer = None
        if self.lost:
            raise ConnectionResetError("the other end is gone")

    def write_eof(self) -> None:
        """Announce the end of writing."""
        if not self.lost and not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        """Close after what was written has been sent."""
        if not self.lost:
            self.transport.close()

    def abort(self) -> None:
        """Close at once. The other end of a Unix socket sees that the stream was cut."""
        if not self.lost:
            self.transport.abort()

    def reset(self) -> None:
        """Close at once; the other end sees that the stream was cut, over TCP as well."""
        if not self.lost:
            reset(self.transport)

    async def break_off(self, flush_s: float) -> None:
        """Send what was written, then close as :meth:`reset` does.

        :param flush_s: how long the other end may take nothing; the rest is dropped then.
        """
        self.on_gone = None
        if self.lost or self.transport.is_closing():
            return
        self.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            await self.drain(flush_s)
        self.reset()

    async def linger(self, flush_s: float, limit_s: float) -> None:
        """Close so that what was written last arrives, although unread bytes may still come.

        Closing at once would answer them with a reset, which may overtake our answer
        (RFC 9112 section 9.6). It would also look like a cut, see :mod:`dit4c_p2p.net.reset`.

        :param flush_s: how long the other end may take nothing of what was written.
        :param limit_s: how long it may take to close after it has taken all.
        :raises ConnectionResetError, TimeoutError: see :meth:`drain`.
        """
        self.on_gone = None
        if self.lost or self.transport.is_closing():
            return
        self.transport.set_write_buffer_limits(high=0)
        await self.drain(flush_s)
        self.write_eof()
        loop = self._loop
        deadline, give_up = loop.time() + limit_s, loop.time() + flush_s
        unread = unread_bytes(self.transport)
        while not self.at_end and (left := deadline - loop.time()) > 0:
            try:
                await self.read(left)
            except TimeoutError:
                before, unread = unread, unread_bytes(self.transport)
                if unread < before:
                    give_up = loop.time() + flush_s
                if unread and loop.time() < give_up:
                    deadline = loop.time() + limit_s
        self.close()

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        self._buffer = self._buffer[size:]
        self._resume()
        return taken

    def _pause(self) -> None:
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._reading_paused and len(self._buffer) < READ_HIGH_BYTES:
            self._reading_paused = False
            if not self.at_end and not self.transport.is_closing():
                self.transport.resume_reading()

    async def _wait_readable(self, limit_s: float | None) -> None:
        self._reader = self._loop.create_future()
        if limit_s is not None:
            self._deadline = self._loop.time() + max(0.0, limit_s)
            if self._timer is None or self._deadline < self._timer_at:
                self._set_timer()
        try:
            await self._reader
        finally:
            self._reader = None
            self._deadline = float("inf")

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        """The timer fired, maybe for a wait that has long been over."""
        self._timer = None
        if self._reader is None or self._reader.done():
            return
        if self._timer_at >= self._deadline:
            self._reader.set_exception(TimeoutError(_SILENT))
        elif self._deadline < float("inf"):
            self._set_timer()


def _wake_stream_waiter(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def _wait_for_stream(
    loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[None]", limit_s: float
) -> None:
    """Wait for a future of our own; cheaper than ``asyncio.timeout``, for the hot path."""
    timer = loop.call_later(max(0.0, limit_s), _expire_stream_waiter, waiter)
    try:
        await waiter
    finally:
        timer.cancel()


def _expire_stream_waiter(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError(_SILENT))
