"""Encryption of channel data packets, gathered into few writes to the socket."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from dit4c_p2p.overlay.asyncssh_ext.fast_sealer import (
    BLOCK_BYTES,
    CHANNEL_DATA,
    DATA_HEAD,
    LENGTH,
    SEQUENCE_MASK,
    Sealer,
)

# Padding is to be random (RFC 4253 section 6), and a system call for each packet is too much.
_PADDING_POOL_BYTES = 4096
# Below this, copying into one piece costs less than a system call with many pieces.
_GATHER_BYTES = 64 * 1024


class Outbox:
    """Sealed packets on their way to the socket, in order with those that asyncssh sends itself.

    Takes the place of ``_send`` of its connection, and lives as long as that.
    """

    __slots__ = ("_conn", "_loop", "_parts", "_send", "_size")

    def __init__(self, connection: Any) -> None:
        self._conn = connection
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._size = 0
        self._send = connection._send  # asyncssh's own, for its own packets
        connection._send = self.send

    def put(self, head: bytes, sealed: bytes) -> None:
        """Send a packet before this turn of the loop ends, at once when enough has gathered."""
        parts = self._parts
        if not parts:
            self._loop.call_soon(self.flush)
        parts.append(head)
        parts.append(sealed)
        self._size += len(sealed)
        if self._size > _GATHER_BYTES:
            self.flush()

    def send(self, data: bytes) -> None:
        """Called by asyncssh for each packet that it has made: after those that are waiting."""
        if self._parts:
            self.flush()
        self._send(data)

    def flush(self) -> None:
        """Write the waiting packets to the socket."""
        parts, size = self._parts, self._size
        if not parts:
            return
        self._parts, self._size = [], 0
        transport = self._conn._transport
        if transport is None:
            return
        if size <= _GATHER_BYTES:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)


def fast_writer(channel: Any) -> Callable[[bytes], None]:
    """A function that does what ``channel.write`` does, for a channel of bytes.

    It is ``channel.write`` itself for a connection that was not quickened.

    :raises OSError: (from the function) the channel is not open for sending.
    """
    write: Callable[[bytes], None] = channel.write
    conn: Any = channel.get_connection()
    outbox = getattr(conn._send, "__self__", None)
    if not isinstance(outbox, Outbox):
        return write
    guard = channel.guard
    put = outbox.put
    sealer = Sealer(None)
    padding = _RandomPadding()

    def quick_write(data: bytes) -> None:
        nonlocal sealer
        encryption = conn._send_encryption
        if encryption is not sealer.encryption:
            sealer = Sealer(encryption)
        aead = sealer.aead or sealer.begin()
        size = len(data)
        if (
            not 0 < size <= channel._send_window
            or channel._send_buf
            or channel._send_state != "open"
            or aead is None
            or conn._transport is None
            or guard.held
            or conn._rekey_bytes_sent >= conn._rekey_bytes
            or (conn._rekey_seconds and time.monotonic() >= conn._rekey_time)
            or conn._compressor is not None
        ):
            write(data)
            return
        most = channel._send_pktsize
        for part in (data,) if size <= most else _packet_parts(data, most):
            size = len(part)
            fill = -(10 + size) % BLOCK_BYTES
            if fill < 4:
                fill += BLOCK_BYTES
            head = LENGTH.pack(10 + size + fill)
            start = DATA_HEAD.pack(fill, CHANNEL_DATA, channel._send_chan, size)
            packet = b"".join((start, part, padding.take(fill)))
            sealed = aead.encrypt(sealer.cipher._iv, packet, head)
            sealer.cipher._update_iv()
            channel._send_window -= size
            conn._send_seq = (conn._send_seq + 1) & SEQUENCE_MASK
            conn._rekey_bytes_sent += len(packet)
            put(head, sealed)

    return quick_write


def _packet_parts(data: bytes, most: int) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), most):
        yield view[start : start + most]


class _RandomPadding:
    """Random bytes, drawn from the system a few thousand at a time and used once."""

    __slots__ = ("_pool", "_used")

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, at most 32."""
        start = self._used
        end = start + count
        if end > len(self._pool):
            self._pool = os.urandom(_PADDING_POOL_BYTES)
            start, end = 0, count
        self._used = end
        return self._pool[start:end]
