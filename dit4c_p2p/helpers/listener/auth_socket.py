"""A router's channel, joined to a connection to the auth helper.

Bytes go straight from one end's callback into the other; whichever can't take more stops the one
that sends. A half-close is passed on, and the pair ends when both ends have finished, or when
either is gone. An end that was cut is passed on as a cut, see :mod:`dit4c_p2p.net.reset`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import asyncssh

from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.reset import is_cut_off
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.overlay.asyncssh_ext.backpressure import had_eof
from dit4c_p2p.overlay.asyncssh_ext.fastpath import writer

logger = summed(logging.getLogger(__name__), logging.INFO)

# What the router lets through: 4 tunnels of a key with 256 channels each.
MAX_CHANNELS = 1024
# The auth helper is on this machine; slower than this is broken.
CONNECT_LIMIT_S = 5.0
# After the app has finished, a browser has nothing more to say to it.
FINISHED_LIMIT_S = 10.0
_LOOK_S = 0.25
# The auth helper reads the browser's orderly end within this, before its socket closes.
END_READ_LIMIT_S = 1.0
# Each end holds so much for the other before it makes it wait: as much as a long way takes where
# there are few, and a share where there are many, who may not take what they have asked for.
WRITE_HIGH_BYTES = 1024 * 1024
LEAST_WRITE_HIGH_BYTES = 64 * 1024
ALL_WRITE_HIGH_BYTES = 32 * 1024 * 1024


class _SocketEnd(asyncio.Protocol):
    """The end at the auth helper."""

    def __init__(self, on_gone: Callable[["_SocketEnd"], None], room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.transport: asyncio.Transport
        self.channel: _ChannelEnd | None = None
        self.ended = False  # it sends no more
        self._on_gone = on_gone
        self._limit: asyncio.TimerHandle | None = None
        self._end_by = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The auth helper says nothing before it is asked, so no channel is needed yet."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self.room_bytes)

    def data_received(self, data: bytes) -> None:
        """Forward bytes from the app to the browser."""
        if self.channel is not None:
            self.channel.send(data)

    def eof_received(self) -> bool:
        """The app has finished, or the auth helper has cut the stream."""
        if is_cut_off(self.transport):
            return False
        self.ended = True
        if self.channel is not None:
            self.channel.finish()
        self._end_by = asyncio.get_running_loop().time() + FINISHED_LIMIT_S
        self._look_later()
        return True

    def _look_later(self) -> None:
        self._limit = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        """After its end of file the auth helper's close is not told by the loop."""
        if is_cut_off(self.transport) or asyncio.get_running_loop().time() >= self._end_by:
            self.transport.abort()
        else:
            self._look_later()

    def connection_lost(self, error: Exception | None) -> None:
        """End the pair, because the auth helper has gone."""
        if self._limit is not None:
            self._limit.cancel()
        if self.channel is not None:
            if self.ended:
                self.channel.close()
            else:
                self.channel.cut()
        self._on_gone(self)

    def pause_writing(self) -> None:
        """Pause the browser, because the auth helper is slower."""
        if self.channel is not None:
            self.channel.pause()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self.channel is not None:
            self.channel.resume()


class _ChannelEnd(asyncssh.SSHTCPSession[bytes]):
    """The end at the router."""

    def __init__(self, socket: _SocketEnd) -> None:
        self._socket = socket
        self._chan: asyncssh.SSHTCPChannel[bytes]
        self._write: Callable[[bytes], None]
        self._ended = False  # it sends no more
        self._lost = False

    # ---- called by asyncssh, which closes the whole connection on any exception

    def connection_made(self, chan: "asyncssh.SSHTCPChannel[bytes]") -> None:
        """The channel is open."""
        self._chan = chan
        self._write = writer(chan)
        chan.set_write_buffer_limits(high=self._socket.room_bytes)
        self._socket.channel = self
        if self._socket.transport.is_closing():
            chan.close()

    def session_started(self) -> None:
        """Read at once; by itself asyncssh would begin one turn of the loop later."""
        self._chan.resume_reading()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Forward bytes from the browser to the app."""
        if not self._socket.transport.is_closing():
            self._socket.transport.write(data)

    def eof_received(self) -> bool:
        """The browser has finished, or gone."""
        self._ended = True
        if not self._socket.transport.is_closing():
            self._socket.transport.write_eof()
            if self._socket.ended:
                self._socket.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel, or all of the router's connection, has gone."""
        self._lost = True
        transport = self._socket.transport
        if transport.is_closing():
            return
        if exc is not None or not had_eof(self._chan):
            transport.abort()
            return
        if not self._ended:
            transport.write_eof()
        asyncio.get_running_loop().call_later(END_READ_LIMIT_S, transport.close)

    def pause_writing(self) -> None:
        """Pause the app, because the browser is slower."""
        if not self._socket.transport.is_closing():
            self._socket.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        if not self._socket.ended and not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    # ---- called by the other end

    def send(self, data: bytes) -> None:
        """Pass on to the browser; nothing if it has gone."""
        with contextlib.suppress(OSError):  # the channel is closing, which is told elsewhere
            self._write(data)

    def finish(self) -> None:
        """The app sends no more."""
        if not self._lost:
            with contextlib.suppress(OSError):
                self._chan.write_eof()
            if self._ended:
                self._chan.close()

    def close(self) -> None:
        """End the channel after what was sent has gone out."""
        if not self._lost:
            self._chan.close()

    def cut(self) -> None:
        """End the channel without an end of file."""
        if not self._lost:
            self._chan.abort()

    def pause(self) -> None:
        """Make the browser wait."""
        if not self._lost:
            self._chan.pause_reading()

    def resume(self) -> None:
        """Let it go on."""
        if not self._lost:
            self._chan.resume_reading()


def write_buffer_limit(others: int) -> int:
    """How much each end of one more pair holds, when there are so many others."""
    share = ALL_WRITE_HIGH_BYTES // (others + 1)
    return max(LEAST_WRITE_HIGH_BYTES, min(WRITE_HIGH_BYTES, share))


class Splicer:
    """Joins each channel to a new connection to the auth helper's socket."""

    def __init__(self, socket_path: Path) -> None:
        self._path = str(socket_path)
        self._open: set[_SocketEnd] = set()
        self._auth_answers = True

    @property
    def open(self) -> int:
        """The number of open pairs."""
        return len(self._open)

    async def accept(self, host: str, port: int) -> "asyncssh.SSHTCPSession[bytes]":
        """The session of a new channel from a client at ``host`` and ``port``, as the router says.

        :raises asyncssh.ChannelOpenError: the auth helper is not there, or there are too many.
        """
        if len(self._open) >= MAX_CHANNELS:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, "too many connections to this instance"
            )
        end = _SocketEnd(self._open.discard, write_buffer_limit(len(self._open)))
        self._open.add(end)
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                await asyncio.get_running_loop().create_unix_connection(lambda: end, self._path)
        except (OSError, TimeoutError) as error:
            self._open.discard(end)
            if self._auth_answers:
                self._auth_answers = False
                logger.warning("the auth helper does not answer: %s", error)
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, "the auth helper does not answer"
            ) from None
        except BaseException:
            self._open.discard(end)
            raise
        if not self._auth_answers:
            self._auth_answers = True
            logger.info("the auth helper answers")
        end.transport.write(proxy_protocol.encode(host, port))
        return _ChannelEnd(end)

    def stop(self) -> None:
        """End every pair at once."""
        for end in list(self._open):
            if hasattr(end, "transport"):
                end.transport.abort()
