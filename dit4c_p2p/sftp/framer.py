"""A channel's bytes to whole packets."""

from dit4c_p2p.sftp.constants import MAX_PACKET_BYTES
from dit4c_p2p.sftp.wire import MalformedPacket


class Framer:
    """Splits a stream into packets; :meth:`feed` it from ``data_received``.

    A packet's length is checked before any of it is kept, so that at most one packet of
    ``max_packet_bytes`` waits here.

    :param max_packet_bytes: the longest packet to accept, without its length field.
    """

    __slots__ = ("_kept", "_max", "_parts", "_wanted")

    def __init__(self, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._max = max_packet_bytes
        self._parts: list[bytes] = []
        self._kept = 0
        self._wanted = (
            0  # bytes of the packet that is on its way, length field included; 0: unknown
        )

    @property
    def kept_bytes(self) -> int:
        """How many bytes of a packet that is not complete are kept."""
        return self._kept

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are complete now, each without its length field.

        :raises MalformedPacket: a length is 0 or over the limit; the stream can't be read on.
        """
        if self._kept:
            self._parts.append(data)
            self._kept += len(data)
            if self._kept < (self._wanted or 4):
                return []
            data = b"".join(self._parts)
            self._parts, self._kept, self._wanted = [], 0, 0
        packets = []
        position, size = 0, len(data)
        while size - position >= 4:
            length = int.from_bytes(data[position : position + 4], "big")
            if not 0 < length <= self._max:
                raise MalformedPacket(f"a packet of {length} bytes is over {self._max}")
            end = position + 4 + length
            if end > size:
                self._wanted = 4 + length
                break
            packets.append(data[position + 4 : end])
            position = end
        if position < size:
            self._parts = [data[position:]]
            self._kept = size - position
        return packets
