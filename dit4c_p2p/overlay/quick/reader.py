"""Packets of channel data, opened where the socket's bytes lie."""

import asyncio
import time
from typing import Any

import asyncssh
from cryptography.exceptions import InvalidTag

from dit4c_p2p.overlay.quick.sealer import (
    BLOCK_BYTES,
    CHANNEL_DATA,
    DATA_HEAD,
    SEQUENCE_MASK,
    TAG_BYTES,
    Sealer,
)

# Starting a timer anew for each packet costs as much as the packet: once in a while is enough.
_KEEPALIVE_GRAIN_S = 0.5
# A thousand idle tunnels need little memory; busy ones grow theirs to this, or to their packets.
_FIRST_BUFFER_BYTES = 8 * 1024
_MOST_READ_BYTES = 512 * 1024


class Receiver(asyncio.BufferedProtocol):
    """Stands between the socket and asyncssh's connection.

    The socket's bytes are read into one buffer and opened where they lie; ``_filled`` of them are
    there. Less than one packet is left over after each reading.
    """

    def __init__(self, connection: Any) -> None:
        self._conn = connection
        self._ready = connection._recv_pkthdr
        self._view = memoryview(bytearray(_FIRST_BUFFER_BYTES))
        self._filled = 0
        self._sealer = Sealer(None)
        self._fed = 0.0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop for room to read into."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop when ``nbytes`` more have been read."""
        self._filled += nbytes
        conn, view, size = self._conn, self._view, self._filled
        now = time.monotonic()
        if now - self._fed > _KEEPALIVE_GRAIN_S:
            self._fed = now
            conn._reset_keepalive_timer()
        position = wanted = 0
        while position < size:
            if conn._transport is None:
                position = size  # cut meanwhile
                break
            end = self._end_of_packet(position)
            if end < 0:
                conn.data_received(bytes(view[position:size]))
                position = size
                break
            if end > size:
                wanted = end - position
                break
            if not self._take(view[position : position + 4], view[position + 4 : end]):
                conn.data_received(bytes(view[position:end]))
            position = end
        rest = size - position
        if rest and position:
            view[:rest] = view[position:size]
        self._filled = rest
        if wanted > len(view) or (size == len(view) < _MOST_READ_BYTES):
            self._enlarge(max(2 * wanted, 4 * len(view)))

    def _enlarge(self, size: int) -> None:
        """Have a larger buffer: a packet doesn't fit, or more comes at once than fits."""
        larger = memoryview(bytearray(size))
        larger[: self._filled] = self._view[: self._filled]
        self._view = larger

    def _end_of_packet(self, position: int) -> int:
        """Where the packet at ``position`` ends, -1 if all from there on is for asyncssh.

        Beyond what is there if it can't be told yet.
        """
        if not self._plain():
            return -1
        if self._filled - position < 4:
            return self._filled + 1
        length = int.from_bytes(self._view[position : position + 4], "big")
        return -1 if length > self._conn._max_recv_pktlen else position + 4 + length + TAG_BYTES

    def _plain(self) -> bool:
        """Whether asyncssh is between two packets, under AES-GCM, without compression."""
        conn = self._conn
        encryption = conn._recv_encryption
        if encryption is not self._sealer.encryption:
            self._sealer = Sealer(encryption)
        return (
            self._sealer.aead is not None
            and not conn._inpbuf
            and conn._recv_handler == self._ready
            and conn._decompressor is None
        )

    def _take(self, head: memoryview, sealed: memoryview) -> bool:
        """Open one packet and deliver it; False if it is for asyncssh to deal with."""
        conn, sealer = self._conn, self._sealer
        aead = sealer.aead
        if aead is None or len(sealed) < BLOCK_BYTES + TAG_BYTES:
            return False
        try:
            packet = aead.decrypt(sealer.cipher._iv, sealed, head)
        except InvalidTag:
            return False
        padding, number, recipient, length = DATA_HEAD.unpack_from(packet)
        if number != CHANNEL_DATA or len(packet) != 10 + length + padding:
            return False
        channel = conn._channels.get(recipient)
        if channel is None or channel._recv_state != "open" or length > channel._recv_window:
            return False
        sealer.cipher._update_iv()
        conn._recv_seq = (conn._recv_seq + 1) & SEQUENCE_MASK
        try:
            channel._accept_data(packet[10 : 10 + length])
        except asyncssh.Error as error:
            conn._force_close(error)
        except Exception:  # noqa: BLE001  asyncssh's own answer to a session that raises
            conn.internal_error()
        return True

    def eof_received(self) -> None:
        """Called by the loop at the end of the connection."""
        self._conn.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop when the socket has gone."""
        self._conn.connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the loop when the socket has enough to send; ``overlay.guard`` hears of it."""
        self._conn.pause_writing()

    def resume_writing(self) -> None:
        """Called by the loop when what was written has gone out."""
        self._conn.resume_writing()
