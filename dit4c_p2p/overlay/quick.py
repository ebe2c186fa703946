"""Channel data of an SSH connection on a shorter way than asyncssh's own: same bytes, less work.

asyncssh puts each piece of channel data through a dozen calls and nine copies, and sends an ignored
packet before every one (a measure for CBC ciphers). For plain data under AES-GCM, which is nearly
everything that peers exchange, two shorter ways stand in for that:

- :func:`quicken` puts a receiver in front of a logged-in connection, which opens packets of channel
  data by itself and hands everything else to asyncssh, still encrypted; and an outbox behind it,
  which sends what is written during one turn of the loop by one system call.
- :func:`writer` gives a function to use in the place of ``channel.write``.

Both keep asyncssh's own state in step (sequence numbers, nonces, windows, bytes until the next key
exchange) and leave to it whatever is not the plain case: key exchanges, other ciphers, compression,
full windows, closing channels, malformed packets. They know its private fields, and so stand back
altogether for a release that they were not tested with.

RFC 4253 section 6 (packets), RFC 4254 section 5.2 (data), RFC 5647 section 7 (AES-GCM).
"""

import asyncio
import os
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncssh
from asyncssh.encryption import GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# Same private fields throughout 2.24.x; another release has to pass tests/unit/overlay first.
_SUPPORTED = asyncssh.__version__.startswith("2.24.")

_CHANNEL_DATA = 94
_TAG_BYTES = 16
_BLOCK_BYTES = 16
# padding length, message number, recipient channel, data length (RFC 4253, 4254)
_DATA_HEAD = struct.Struct(">BBII")
_LENGTH = struct.Struct(">I")
_SEQUENCE_MASK = 0xFFFFFFFF
# Starting a timer anew for each packet costs as much as the packet: once in a while is enough.
_KEEPALIVE_GRAIN_S = 0.5
# Padding is to be random (RFC 4253 section 6), and a system call for each packet is too much.
_PADDING_POOL_BYTES = 4096
# A thousand idle tunnels need little memory; busy ones grow theirs to this, or to their packets.
_FIRST_BUFFER_BYTES = 8 * 1024
_MOST_READ_BYTES = 512 * 1024
# Below this, copying into one piece costs less than a system call with many pieces.
_GATHER_BYTES = 64 * 1024

Connection = asyncssh.SSHClientConnection | asyncssh.SSHServerConnection


class _Sealer:
    """AES-GCM in one direction with one key, in step with asyncssh's cipher of that direction."""

    __slots__ = ("aead", "cipher", "encryption")

    def __init__(self, encryption: Any) -> None:
        self.encryption = encryption
        if isinstance(encryption, GCMEncryption):
            self.cipher: Any = encryption._cipher
            self.aead: AESGCM | None = AESGCM(self.cipher._key)
        else:
            self.cipher = self.aead = None


class _Outbox:
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
        """Hand over what is waiting."""
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


def quicken(connection: Connection) -> None:
    """Have channel data take the shorter way from now on; called once, after the login."""
    conn: Any = connection
    transport = conn._transport
    if _SUPPORTED and transport is not None and hasattr(transport, "set_protocol"):
        transport.set_protocol(_Receiver(connection))
        _Outbox(connection)


class _Receiver(asyncio.BufferedProtocol):
    """Stands between the socket and asyncssh's connection.

    The socket's bytes are read into one buffer and opened where they lie; ``_filled`` of them are
    there. Less than one packet is left over after each reading.
    """

    def __init__(self, connection: Any) -> None:
        self._conn = connection
        self._ready = connection._recv_pkthdr
        self._view = memoryview(bytearray(_FIRST_BUFFER_BYTES))
        self._filled = 0
        self._sealer = _Sealer(None)
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
        return -1 if length > self._conn._max_recv_pktlen else position + 4 + length + _TAG_BYTES

    def _plain(self) -> bool:
        """Whether asyncssh is between two packets, under AES-GCM, without compression."""
        conn = self._conn
        encryption = conn._recv_encryption
        if encryption is not self._sealer.encryption:
            self._sealer = _Sealer(encryption)
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
        if aead is None or len(sealed) < _BLOCK_BYTES + _TAG_BYTES:
            return False
        try:
            packet = aead.decrypt(sealer.cipher._iv, sealed, head)
        except InvalidTag:
            return False
        padding, number, recipient, length = _DATA_HEAD.unpack_from(packet)
        if number != _CHANNEL_DATA or not length or len(packet) != 10 + length + padding:
            return False
        channel = conn._channels.get(recipient)
        if channel is None or channel._recv_state != "open" or length > channel._recv_window:
            return False
        sealer.cipher._update_iv()
        conn._recv_seq = (conn._recv_seq + 1) & _SEQUENCE_MASK
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
        """Called by the loop; asyncssh bounds what is under way by its channels' windows."""
        self._conn.pause_writing()

    def resume_writing(self) -> None:
        """Called by the loop when what was written has gone out."""
        self._conn.resume_writing()


def writer(channel: Any) -> Callable[[bytes], None]:
    """A function that does what ``channel.write`` does, for a channel of bytes.

    It is ``channel.write`` itself for a connection that was not quickened.

    :raises OSError: (from the function) the channel is not open for sending.
    """
    write: Callable[[bytes], None] = channel.write
    conn: Any = channel.get_connection()
    outbox = getattr(conn._send, "__self__", None)
    if not isinstance(outbox, _Outbox):
        return write
    put = outbox.put
    sealer = _Sealer(None)
    padding = _Padding()

    def quick_write(data: bytes) -> None:
        nonlocal sealer
        encryption = conn._send_encryption
        if encryption is not sealer.encryption:
            sealer = _Sealer(encryption)
        aead = sealer.aead
        size = len(data)
        if (
            not 0 < size <= channel._send_window
            or channel._send_buf
            or channel._send_state != "open"
            or aead is None
            or conn._transport is None
            or not conn._kex_complete
            or conn._rekey_bytes_sent >= conn._rekey_bytes
            or (conn._rekey_seconds and time.monotonic() >= conn._rekey_time)
            or conn._compressor is not None
        ):
            write(data)
            return
        most = channel._send_pktsize
        for part in (data,) if size <= most else _parts(data, most):
            size = len(part)
            fill = -(10 + size) % _BLOCK_BYTES
            if fill < 4:
                fill += _BLOCK_BYTES
            head = _LENGTH.pack(10 + size + fill)
            start = _DATA_HEAD.pack(fill, _CHANNEL_DATA, channel._send_chan, size)
            packet = b"".join((start, part, padding.take(fill)))
            sealed = aead.encrypt(sealer.cipher._iv, packet, head)
            sealer.cipher._update_iv()
            channel._send_window -= size
            conn._send_seq = (conn._send_seq + 1) & _SEQUENCE_MASK
            conn._rekey_bytes_sent += len(packet)
            put(head, sealed)

    return quick_write


def _parts(data: bytes, most: int) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), most):
        yield view[start : start + most]


class _Padding:
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
