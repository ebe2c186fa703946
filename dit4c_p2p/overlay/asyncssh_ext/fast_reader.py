"""Decryption of channel data packets in the buffer that the socket fills."""

import asyncio
import threading
import time
from typing import Any

import asyncssh
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dit4c_p2p.overlay.asyncssh_ext.fast_sealer import (
    BLOCK_BYTES,
    CHANNEL_DATA,
    DATA_HEAD,
    SEQUENCE_MASK,
    TAG_BYTES,
    Sealer,
)

# Starting a timer anew for each packet costs as much as the packet: once in a while is enough.
_KEEPALIVE_GRAIN_S = 0.5
# So much is read at once; of a buffer, only the pages that were written to take memory.
_BUFFER_BYTES = 512 * 1024


class _SharedReadBuffer(threading.local):
    """What everybody in a thread reads into: from a read to the end of its callback nobody else
    does, as a thread has one loop.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BUFFER_BYTES))


_shared = _SharedReadBuffer()


class Receiver(asyncio.BufferedProtocol):
    """Protocol between the socket and asyncssh's connection.

    Bytes are read into one buffer and decrypted there; ``_filled`` counts them. Less than one
    packet remains after each read, and only a connection with a remainder has a buffer of its own:
    a thousand idle tunnels share one.
    """

    def __init__(self, connection: Any) -> None:
        self._conn = connection
        self._ready = connection._recv_pkthdr
        self._view = _shared.view
        self._filled = 0
        self._sealer = Sealer(None)
        self._fed = 0.0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop for room to read into."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop when ``nbytes`` more have been read."""
        self._filled += nbytes
        conn, size = self._conn, self._filled
        now = time.monotonic()
        once_in_a_while = now - self._fed > _KEEPALIVE_GRAIN_S
        if once_in_a_while:
            self._fed = now
            conn._reset_keepalive_timer()
        position = wanted = 0
        while position < size and not wanted:
            if conn._transport is None:
                position = size  # cut meanwhile
            elif self._plain():
                position, wanted = self._open(position, size)
            else:
                conn.data_received(bytes(self._view[position:size]))
                position = size
        self._keep(position, size, wanted, let_go=once_in_a_while)

    def _keep(self, position: int, size: int, wanted: int, *, let_go: bool) -> None:
        """Keep what is left over, the beginning of a packet of ``wanted`` bytes, in a buffer of its
        own with room for the rest.

        :param let_go: of that buffer, if nothing is left over.
        """
        view, rest = self._view, size - position
        self._filled = rest
        if not rest:
            if let_go:
                self._view = _shared.view
            return
        if view is _shared.view or wanted > len(view):
            self._view = memoryview(bytearray(max(_BUFFER_BYTES, 2 * wanted)))
        elif not position:
            return
        self._view[:rest] = view[position:size]

    def _plain(self) -> bool:
        """Whether asyncssh is between two packets, under AES-GCM, without compression."""
        conn = self._conn
        encryption = conn._recv_encryption
        if encryption is not self._sealer.encryption:
            self._sealer = Sealer(encryption)
        return (
            self._sealer.cipher is not None
            and not conn._inpbuf
            and conn._recv_handler == self._ready
            and conn._decompressor is None
        )

    def _open(self, position: int, size: int) -> tuple[int, int]:
        """Deliver the packets of channel data that come next, and the first that is none.

        Returns where the one after that begins, and how long it will be at least if it is not all
        there.
        """
        conn, view, sealer = self._conn, self._view, self._sealer
        aead = (sealer.aead or sealer.begin()) if conn._channels else None
        while (body := position + 4) <= size:
            head = view[position:body]
            length = int.from_bytes(head, "big")
            if length > conn._max_recv_pktlen:
                conn.data_received(bytes(view[position:size]))
                return size, 0
            end = body + length + TAG_BYTES
            if end > size:
                return position, end - position
            if aead is None or not self._take(aead, sealer.cipher, head, view[body:end]):
                conn.data_received(bytes(view[position:end]))
                return end, 0
            position = end
            if conn._transport is None:
                return size, 0
        return position, body - position if position < size else 0

    def _take(self, aead: AESGCM, cipher: Any, head: memoryview, sealed: memoryview) -> bool:
        """Decrypt one packet and deliver it; return False if asyncssh has to handle it."""
        conn = self._conn
        if len(sealed) < BLOCK_BYTES + TAG_BYTES:
            return False
        try:
            packet = aead.decrypt(cipher._iv, sealed, head)
        except InvalidTag:
            return False
        padding, number, recipient, length = DATA_HEAD.unpack_from(packet)
        if number != CHANNEL_DATA or len(packet) != 10 + length + padding:
            return False
        channel = conn._channels.get(recipient)
        if channel is None or channel._recv_state != "open" or length > channel._recv_window:
            return False
        cipher._update_iv()
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
