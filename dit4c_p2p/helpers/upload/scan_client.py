"""What the scanner serves, as a stream of bytes that is as long as it is said to be."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.upload import SCAN_SOCKET, ScanAnswer, ScanFailed, ScanReply, ScanRequest

BLOCK_BYTES = 4 * 1024**2
_CONNECT_S = 10.0
# The scanner looks at every file before it answers.
_ANSWER_S = 1800.0
_MAX_LINE_BYTES = 4096


class ScanBroken(DitError):
    """The scanner can't be reached, or broke off."""

    code = "scan_broken"


class LayerUnfit(DitError):
    """The app's files can't be made an image; the message is for its user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Scan:
    """A layer that is being read. ``size`` in bytes; ``entries`` in the tar."""

    size: int
    entries: int
    _socket: socket.socket
    _rest: bytes
    _read: int = 0

    async def blocks(self) -> AsyncIterator[bytes]:
        """All of it in blocks of 4 MiB; the next one is read while one is being used.

        :raises ScanBroken: it ended early.
        """
        coming = asyncio.create_task(asyncio.to_thread(self._block), name="read the layer")
        try:
            while block := await coming:
                coming = asyncio.create_task(asyncio.to_thread(self._block), name="read the layer")
                yield block
        finally:
            # The thread ends with the socket.
            self._socket.close()
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    def _block(self) -> bytes:
        wanted = min(BLOCK_BYTES, self.size - self._read)
        block = bytearray(self._rest[:wanted])
        self._rest = self._rest[wanted:]
        try:
            while len(block) < wanted:
                received = self._socket.recv(wanted - len(block))
                if not received:
                    raise ScanBroken("the scanner broke off")
                block += received
        except OSError as error:
            raise ScanBroken(f"the scanner can't be read: {error}") from None
        self._read += wanted
        return bytes(block)


@asynccontextmanager
async def scan_layer(path: str = SCAN_SOCKET, *, measure: bool = False) -> AsyncIterator[Scan]:
    """The layer, from its beginning.

    :param measure: its size only, nothing is read.
    :raises LayerUnfit: it can't be had, and asking again is of no use.
    :raises ScanBroken: the scanner is not there.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        answer, rest = await asyncio.to_thread(_ask_for_scan_client, connection, path, measure)
        yield Scan(answer.bytes, answer.entries, connection, rest)
    finally:
        connection.close()


def _ask_for_scan_client(
    connection: socket.socket, path: str, measure: bool
) -> tuple[ScanAnswer, bytes]:
    try:
        connection.settimeout(_CONNECT_S)
        connection.connect(path)
        connection.sendall(encode(ScanRequest(measure=measure)) + b"\n")
        connection.settimeout(_ANSWER_S)
        line = b""
        while b"\n" not in line and len(line) < _MAX_LINE_BYTES:
            received = connection.recv(_MAX_LINE_BYTES)
            if not received:
                raise ScanBroken("the scanner broke off")
            line += received
    except OSError as error:
        raise ScanBroken(f"the scanner can't be reached: {error}") from None
    head, _, rest = line.partition(b"\n")
    kind: Any = ScanReply
    reply = decode(head, kind)
    if isinstance(reply, ScanFailed):
        raise LayerUnfit(reply.code, reply.text)
    return reply, rest
