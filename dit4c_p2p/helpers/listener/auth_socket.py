"""A router's channel, joined to a connection to the auth helper.

:mod:`dit4c_p2p.overlay.splice` forwards. Here the pair ends as soon as both ends have finished, and
a Unix socket's orderly end is told from a cut, see :mod:`dit4c_p2p.net.reset`.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import asyncssh

from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.reset import is_connection_cut_off
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.overlay.splice import ChannelEnd, StreamEnd

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


class _ConnectingAuthSocket(asyncio.Protocol):
    """The socket's side until the channel is open: the auth helper speaks only when asked."""

    transport: asyncio.Transport

    def __init__(self, on_gone: Callable[["_ConnectingAuthSocket"], None]) -> None:
        self._on_gone = on_gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def connection_lost(self, error: Exception | None = None) -> None:
        """Called by the loop, or by the side that took over."""
        self._on_gone(self)


class _AuthChannelEnd(ChannelEnd):
    """The channel's side, at the router."""

    def __init__(self, socket: _ConnectingAuthSocket, room_bytes: int) -> None:
        super().__init__(socket.transport, room_bytes=room_bytes)
        self._socket = socket
        self._stream: _AuthStreamEnd
        self.ended = False  # it sends no more

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """Called by asyncssh when the channel is open."""
        super().connection_made(chan)
        self._stream = _AuthStreamEnd(self, self._socket, chan, self._room_bytes)
        self._transport.set_protocol(self._stream)
        if self._transport.is_closing():
            chan.close()
        else:
            self._transport.resume_reading()

    def session_started(self) -> None:
        """Read at once; by itself asyncssh would begin one turn of the loop later."""
        self._channel.resume_reading()

    def eof_received(self) -> bool:
        """The browser has finished, or gone."""
        self.ended = True
        super().eof_received()
        if self._stream.ended:
            self._transport.close()
        return True

    def _close_socket(self) -> None:
        if not self.ended:
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(END_READ_LIMIT_S, self._transport.close)


class _AuthStreamEnd(StreamEnd):
    """The socket's side, at the auth helper."""

    def __init__(
        self,
        far: _AuthChannelEnd,
        socket: _ConnectingAuthSocket,
        channel: asyncssh.SSHTCPChannel[bytes],
        room_bytes: int,
    ) -> None:
        super().__init__(
            socket.transport,
            channel,
            FINISHED_LIMIT_S,
            lambda moved: socket.connection_lost(),
            room_bytes=room_bytes,
        )
        self._far = far
        self._look: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        """Whether the app has finished."""
        return self._ended

    def eof_received(self) -> bool:
        """The app has finished, or the auth helper has cut the stream."""
        if is_connection_cut_off(self._transport):
            return False
        super().eof_received()
        if self._far.ended:
            self._channel.close()
        if self._look is None:
            self._look_later()
        return True

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_for_end)

    def _look_for_end(self) -> None:
        """After its end of file the auth helper's close is not told by the loop."""
        if is_connection_cut_off(self._transport):
            self._transport.abort()
        else:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the pair, because the auth helper has gone: in order if the app had finished."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(None if self._ended else exc)


def write_buffer_limit(others: int) -> int:
    """How much each end of one more pair holds, when there are so many others."""
    share = ALL_WRITE_HIGH_BYTES // (others + 1)
    return max(LEAST_WRITE_HIGH_BYTES, min(WRITE_HIGH_BYTES, share))


class AuthSocketSplicer:
    """Joins each channel to a new connection to the auth helper's socket."""

    def __init__(self, socket_path: Path) -> None:
        self._path = str(socket_path)
        self._open: set[_ConnectingAuthSocket] = set()
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
        room_bytes = write_buffer_limit(len(self._open))
        end = _ConnectingAuthSocket(self._open.discard)
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
        end.transport.write(proxy_protocol.encode_proxy_header(host, port))
        return _AuthChannelEnd(end, room_bytes)

    def stop(self) -> None:
        """End every pair at once."""
        for end in list(self._open):
            if hasattr(end, "transport"):
                end.transport.abort()
