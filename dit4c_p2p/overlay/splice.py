"""Forwarding between a socket and an SSH channel, or two channels, with back-pressure and
half-close.

    socket ──StreamEnd──▶ channel        socket ◀──ChannelEnd── channel
    channel ──RelayEnd──▶ channel        channel ◀──RelayEnd── channel

The router and the listener helper forward with it. Each chunk costs one call here and no task, and
packets are made and opened by ``overlay.asyncssh_ext``. A side that has more than its buffer's
limit pauses the reading of the other; an end of file is passed on by itself; the end of either side
ends the other. An end without an end of file before it is a cut, and passed on as one
(:mod:`dit4c_p2p.net.reset`).
"""

import asyncio
import logging
from collections.abc import Callable

import asyncssh

from dit4c_p2p.net.reset import is_tls_transport, reset
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.overlay.asyncssh_ext.backpressure import channel_had_eof
from dit4c_p2p.overlay.asyncssh_ext.fastpath import fast_writer

_log = summed(logging.getLogger(__name__))

# A packet is up to 256 KiB: with less room each one would stop and start the other side.
HIGH_WATER_BYTES = 512 * 1024


class ChannelEnd(asyncssh.SSHTCPSession[bytes]):
    """The channel's side, from when the channel opens.

    :param transport: the socket's side, where what arrives here goes.
    :param on_close: called once, when the channel has gone, with how many bytes came out of it.
    :param room_bytes: so much may wait for the channel before the socket is told to wait.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        on_close: Callable[[int], None] = lambda moved: None,
        *,
        room_bytes: int = HIGH_WATER_BYTES,
    ) -> None:
        self._transport = transport
        self._on_close = on_close
        self._room_bytes = room_bytes
        self._write = transport.write
        self._moved = 0
        self._channel: asyncssh.SSHTCPChannel[bytes]

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """Called by asyncssh when the channel is open."""
        self._channel = chan
        chan.set_write_buffer_limits(self._room_bytes)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Called by asyncssh with the next bytes."""
        self._moved += len(data)
        self._write(data)

    def eof_received(self) -> bool:
        """The far end has nothing more to send, and may still receive."""
        if self._transport.is_closing():
            return True
        if is_tls_transport(self._transport):
            # TLS can't end one direction alone here: what is left is delivered, then both end.
            self._transport.close()
            return True
        try:
            self._transport.write_eof()
        except OSError as error:
            _log.debug("end of file not passed on: %s", error)
            reset(self._transport)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone; what has arrived is still delivered, unless the stream was cut."""
        # asyncio's TLS transport breaks when it is closed twice (Python 3.11).
        if not self._transport.is_closing():
            if exc is None and channel_had_eof(self._channel):
                self._close_socket()
            else:
                reset(self._transport)
        self._on_close(self._moved)

    def _close_socket(self) -> None:
        """End the socket after what was written, in order."""
        self._transport.close()

    def pause_writing(self) -> None:
        """The channel's window is used up."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The far end has caught up."""
        if not self._transport.is_closing():
            self._transport.resume_reading()


class StreamEnd(asyncio.Protocol):
    """The socket's side, from when the channel is open.

    :param half_closed_s: how long the far end may go on after this side's end of file.
    :param on_close: called once, when the socket has gone, with how many bytes came out of it.
    :param room_bytes: so much may wait for the socket before the channel is told to wait.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        channel: asyncssh.SSHTCPChannel[bytes],
        half_closed_s: float,
        on_close: Callable[[int], None],
        *,
        room_bytes: int = HIGH_WATER_BYTES,
    ) -> None:
        self._transport = transport
        self._channel = channel
        self._half_closed_s = half_closed_s
        self._on_close = on_close
        self._write = fast_writer(channel)
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False  # the socket sends no more
        self._moved = 0
        transport.set_write_buffer_limits(room_bytes)

    def data_received(self, data: bytes) -> None:
        """Called by the loop with the next bytes."""
        self._moved += len(data)
        try:
            self._write(data)
        except OSError as error:
            # The channel has been closed by its far end. When all that came out of it is delivered,
            # ChannelEnd ends this socket, in order or as a cut.
            _log.debug("bytes not passed on: %s", error)

    def eof_received(self) -> bool:
        """The peer has nothing more to send, and may still receive."""
        if self._ended:
            return True  # read again, as reading was paused and resumed
        self._ended = True
        if not self._channel.is_closing():
            self._channel.write_eof()
        if is_tls_transport(self._transport):
            return False
        self._timer = asyncio.get_running_loop().call_later(
            self._half_closed_s, reset, self._transport
        )
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: what is still under way to it has nowhere to go."""
        if self._timer is not None:
            self._timer.cancel()
        if exc is None and self._ended:
            self._channel.close()
        else:
            self._channel.abort()
        self._on_close(self._moved)

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self._channel.pause_reading()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._channel.resume_reading()


class RelayEnd(asyncssh.SSHTCPSession[bytes]):
    """One of two channels whose bytes go to each other; :func:`relay_pair` makes both.

    The one that opens first waits for the other before it reads.
    """

    _other: "RelayEnd"
    _write: Callable[[bytes], None]  # to this channel

    def __init__(self) -> None:
        self._channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self._gone = False

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """Called by asyncssh when the channel is open."""
        self._channel = chan
        self._write = fast_writer(chan)
        chan.set_write_buffer_limits(HIGH_WATER_BYTES)
        if self._other._gone:
            chan.abort()
        elif self._other._channel is None:
            chan.pause_reading()
        else:
            self._other._channel.resume_reading()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Called by asyncssh with the next bytes."""
        to = self._other._channel
        if to is not None and not to.is_closing():
            self._other._write(data)

    def eof_received(self) -> bool:
        """This side has nothing more to send, and may still receive."""
        to = self._other._channel
        if to is not None and not to.is_closing():
            to.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone; the other is closed when what has arrived is delivered."""
        self._gone = True
        self._channel = None
        to = self._other._channel
        if to is not None:
            if exc is None:
                to.close()
            else:
                to.abort()

    def pause_writing(self) -> None:
        """This channel's window is used up."""
        if self._other._channel is not None:
            self._other._channel.pause_reading()

    def resume_writing(self) -> None:
        """This side has caught up."""
        if self._other._channel is not None:
            self._other._channel.resume_reading()


def relay_pair() -> tuple[RelayEnd, RelayEnd]:
    """Two ends joined to each other, for two channels still to be opened."""
    one, other = RelayEnd(), RelayEnd()
    one._other, other._other = other, one
    return one, other
