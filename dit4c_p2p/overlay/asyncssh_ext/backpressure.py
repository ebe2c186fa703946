"""Back-pressure for SSH connections, against peers that misuse the terms of their channels.

- A peer may announce packets so small that a megabyte takes a million of them. Such a channel is
  refused when it opens, with a disconnect that says why.
- A peer may grant an endless window and read nothing, or begin a key exchange and never end it, so
  that data for it piles up here. While the socket takes no more, or keys are being exchanged, data
  waits in the channels and their writers are paused. A connection that stays so for too long, or
  whose own answers pile up, is cut.

Windows bound nothing by themselves, because the far end grants them (up to 4 GiB, which RFC 4254
section 5.2 makes valid). asyncssh itself ignores its transport's back-pressure.

    socket full │ keys exchanged ──▶ held: sessions stopped, writes kept in their channels
                                      │ socket empty enough and keys there: in turn, oldest first
                                      ▼
                                    going ──▶ sent, sessions resumed
"""

import asyncio
import functools
import inspect
import logging
from typing import Any

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.constants import MSG_CHANNEL_EOF

from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.overlay.asyncssh_ext import private_api
from dit4c_p2p.overlay.ssh_options import WINDOW_BYTES

_log = summed(logging.getLogger(__name__))

if _lacking := private_api.missing_private_names(private_api.GUARD):
    raise ImportError(f"asyncssh {asyncssh.__version__} has no {', '.join(_lacking)}")

Connection = asyncssh.SSHClientConnection | asyncssh.SSHServerConnection

# Every implementation takes 32 KiB (RFC 4253 section 6.1), and OpenSSH announces 16 KiB at least.
LEAST_PACKET_BYTES = 4096
# How long a peer may take nothing of what waits for it.
STALLED_S = 300.0
# What waits for the socket before writers are stopped, and down to what before they go on. One
# stream whose window is of our size is not stopped by the first: that would cost a third of its
# speed.
_HIGH_WATER_BYTES = WINDOW_BYTES
_LOW_WATER_BYTES = WINDOW_BYTES // 4
# Answers to requests are sent while writers are stopped. No peer that reads has so many to come.
_MOST_UNSENT_BYTES = 16 * 1024 * 1024
_MOST_DEFERRED_PACKETS = 16 * 1024
_LOOK_S = 1.0


def install_backpressure(connection: Connection, stalled_s: float = STALLED_S) -> None:
    """Guard a connection; called once, when it is made, before any channel.

    :param stalled_s: seconds for which the peer may take nothing.
    """
    BackpressureGuard(connection, stalled_s)


class BackpressureGuard:
    """Holds data back on one connection while its peer does not take it."""

    def __init__(self, connection: Any, stalled_s: float) -> None:
        self._conn = connection
        self._stalled_s = stalled_s
        self._loop = asyncio.get_running_loop()
        self._full = False
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        # By number, those that have something to send or somebody to resume, in turn.
        self._waiting: dict[int, Any] = {}
        # asyncssh's own ways, and ours in their place.
        self._add_channel = connection.add_channel
        self._remove_channel = connection.remove_channel
        self._send_kexinit = connection._send_kexinit
        self._send_deferred_packets = connection._send_deferred_packets
        connection.add_channel = self.add_channel
        connection.remove_channel = self.remove_channel
        connection._send_kexinit = self.send_kexinit
        connection._send_deferred_packets = self.send_deferred_packets
        connection.pause_writing = self.pause_writing
        connection.resume_writing = self.resume_writing
        connection._transport.set_write_buffer_limits(_HIGH_WATER_BYTES, _LOW_WATER_BYTES)

    @property
    def held(self) -> bool:
        """Whether channel data is held back now."""
        return self._full or not self._conn._kex_complete

    def wait(self, channel: Any) -> None:
        """Resume ``channel`` when the connection resumes, after the channels that already wait."""
        self._waiting.setdefault(channel._recv_chan, channel)

    # ---- called by asyncssh and its transport

    def add_channel(self, channel: Any) -> int:
        """Register a channel that either end opens."""
        number: int = self._add_channel(channel)
        channel.__class__ = _guarded_channel_class(channel.__class__)
        channel.guard = self
        return number

    def remove_channel(self, number: int) -> None:
        """Forget a channel that has ended."""
        self._waiting.pop(number, None)
        self._remove_channel(number)

    def pause_writing(self) -> None:
        """Hold data back; called by the transport when its buffer is full."""
        self._full = True
        self._hold()

    def resume_writing(self) -> None:
        """Send again; called by the transport when its buffer has drained."""
        self._full = False
        self._release()

    def send_kexinit(self) -> None:
        """Hold channel data back during the key exchange that begins here."""
        self._send_kexinit()
        self._hold()

    def send_deferred_packets(self) -> None:
        """Send the packets that were held back, if the new keys are in force."""
        self._send_deferred_packets()
        self._release()

    # ---- holding

    def _hold(self) -> None:
        for channel in list(self._conn._channels.values()):
            channel._pause_resume_writing()
        if self._timer is None:
            self._since = self._loop.time()
            self._look_later()

    def _release(self) -> None:
        if self.held:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            while self._waiting and not self.held:
                channel = self._waiting.pop(next(iter(self._waiting)))
                channel._flush_send_buf()
        except Exception:  # noqa: BLE001  asyncssh's own answer to a session that raises
            self._conn.internal_error()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(min(_LOOK_S, self._stalled_s), self._look)

    def _look(self) -> None:
        """Cut the peer if it has taken nothing for too long."""
        self._timer = None
        conn = self._conn
        if conn._transport is None or not self.held:
            return
        if self._loop.time() - self._since >= self._stalled_s:
            reason = f"it has taken nothing for {self._stalled_s:.0f} s"
        elif (
            conn._transport.get_write_buffer_size() > _MOST_UNSENT_BYTES
            or len(conn._deferred_packets) > _MOST_DEFERRED_PACKETS
        ):
            reason = "it asks and asks, and takes no answer"
        else:
            self._look_later()
            return
        name, address = conn.get_extra_info("username"), conn.get_extra_info("peername")
        _log.warning("cut the connection of %s with %s: %s", name, address, reason)
        conn.abort()


class _GuardedChannel(SSHChannel[Any]):
    """What is different in a channel of a guarded connection.

    :ivar got_eof: whether the peer has sent an end of file. A session may not be told of it:
        asyncssh forgets one that waits behind unread data when the peer closes the channel too.
    """

    guard: BackpressureGuard
    got_eof = False
    _closes_after_eof = False

    def process_open(
        self, send_chan: int, send_window: int, send_pktsize: int, session: Any
    ) -> None:
        """Called by asyncssh when the peer opens a channel."""
        if send_pktsize < LEAST_PACKET_BYTES and inspect.iscoroutine(session):
            session.close()
        _check_packet_size(send_pktsize)
        super().process_open(send_chan, send_window, send_pktsize, session)

    def process_open_confirmation(
        self, send_chan: int, send_window: int, send_pktsize: int, packet: Any
    ) -> None:
        """Called by asyncssh when the peer has accepted a channel."""
        _check_packet_size(send_pktsize)
        super().process_open_confirmation(send_chan, send_window, send_pktsize, packet)

    def _process_eof(self, pkttype: int, pktid: int, packet: Any) -> None:
        """Called by asyncssh for ``CHANNEL_EOF``."""
        self.got_eof = True
        super()._process_eof(pkttype, pktid, packet)

    def close(self) -> None:
        """Close when all that was written has been sent, an end of file included.

        asyncssh would leave out one that waits behind data, and the end would look like a cut.
        """
        if self._send_state == "eof_pending":
            self._closes_after_eof = True
        else:
            super().close()

    def _flush_send_buf(self) -> None:
        if self._send_buf and self.guard.held:
            self._pause_resume_writing()
            return
        super()._flush_send_buf()
        if self._closes_after_eof and self._send_state == "eof":
            self._closes_after_eof = False
            super().close()

    def _pause_resume_writing(self) -> None:
        if not self.guard.held:
            super()._pause_resume_writing()
            return
        if not self._send_paused and self._session is not None and self._send_state == "open":
            self._send_paused = True
            self._session.pause_writing()
        if self._send_paused or self._send_buf:
            self.guard.wait(self)


_GuardedChannel._packet_handlers = {
    **SSHChannel._packet_handlers,
    MSG_CHANNEL_EOF: _GuardedChannel._process_eof,
}


def channel_had_eof(channel: Any) -> bool:
    """Return whether the peer ended its direction of ``channel`` before it closed the channel.

    Without that the stream was cut (:mod:`dit4c_p2p.net.reset`). The channel is one of a guarded
    connection.
    """
    return bool(channel.got_eof)


def _check_packet_size(send_pktsize: int) -> None:
    """:raises ProtocolError: (which disconnects) the peer takes only tiny packets."""
    if send_pktsize < LEAST_PACKET_BYTES:
        raise asyncssh.ProtocolError(
            f"maximum packet size {send_pktsize} is below {LEAST_PACKET_BYTES}"
        )


@functools.cache
def _guarded_channel_class(kind: type) -> type:
    """Return the guarded subclass of a channel class."""
    return type(kind.__name__, (_GuardedChannel, kind), {})
