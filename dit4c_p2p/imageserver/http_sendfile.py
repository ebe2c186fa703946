"""A blob's bytes from files to a plain socket by the kernel (``sendfile(2)``), past aiohttp.

A stock client's pull is limited by what it costs to move bytes; copying them through Python costs
four times as much as the client's own reading. Only what lies compressed passes through here. With
TLS, and where the socket can't be had, the caller sends as usual.
"""

import asyncio
import os
import select
import socket
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing

from aiohttp import web

from dit4c_p2p.imageserver.store.parts import ChunkPart, FilePart, Part
from dit4c_p2p.oci.exchange import Packed, content_of_packed_chunk

# A thread hands the kernel so much before another client's turn, and waits so long for a client
# that reads fast: going back to the event loop each time costs more than the bytes do.
_TURN_BYTES = 8 * 1024 * 1024
_WAIT_MS = 20
_THREADS = 16
# What the kernel takes of a blob at once; other connections have less (see net.listener).
_UNSENT_BYTES = 512 * 1024


class Sender:
    """Sends parts of files through a copy of a connection's socket; used as a context manager.

    :param threads: where the kernel is called.
    :param stalled_s: a client that takes nothing for so long is given up.
    """

    def __init__(self, sock: socket.socket, threads: Executor, stalled_s: float) -> None:
        self._socket = os.dup(sock.fileno())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._threads = threads
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLOUT)
        self._stalled_s = stalled_s
        self._left: list[Part] = []
        self._bytes = memoryview(b"")

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._socket)

    async def send(self, parts: Sequence[Part]) -> None:
        """Send all of them.

        :raises OSError: the client is gone, or takes nothing.
        """
        loop = asyncio.get_running_loop()
        self._left = list(parts)
        while True:
            sent_all, blocked = await loop.run_in_executor(self._threads, self._push)
            if sent_all:
                return
            if blocked:
                await self._writable()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._socket, ready.set)
        try:
            async with asyncio.timeout(self._stalled_s):
                await ready.wait()
        except TimeoutError:
            raise ConnectionResetError("the client takes nothing") from None
        finally:
            loop.remove_writer(self._socket)

    def _push(self) -> tuple[bool, bool]:
        """Hand the kernel what it takes: whether all is sent, and whether it takes no more now."""
        turn = _TURN_BYTES
        while turn > 0:
            try:
                if self._bytes:
                    sent = os.write(self._socket, self._bytes)
                    self._bytes = self._bytes[sent:]
                    turn -= sent
                elif not self._left:
                    return True, False
                elif isinstance(self._left[0], ChunkPart):
                    self._bytes = self._unpacked(self._left[0])
                    del self._left[0]
                else:
                    turn -= self._send_file(self._left[0])
            except BlockingIOError:
                if not self._poll.poll(_WAIT_MS):
                    return False, True
        return False, False

    def _send_file(self, part: FilePart) -> int:
        sent = os.sendfile(self._socket, part.file, part.start, part.size)
        if not sent:
            raise OSError("a file is shorter than the index says")
        if sent == part.size:
            del self._left[0]
        else:
            self._left[0] = FilePart(part.file, part.start + sent, part.size - sent)
        return sent

    def _unpacked(self, part: ChunkPart) -> memoryview:
        body = os.pread(part.file, part.head.stored, part.start)
        return memoryview(content_of_packed_chunk(Packed(part.head, body)))[
            part.skip : part.skip + part.size
        ]


def sending_threads() -> ThreadPoolExecutor:
    """The threads that all connections of a server share."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="image server sending")


def plain_socket(request: web.Request) -> socket.socket | None:
    """The connection's socket, if bytes may be sent past TLS and aiohttp."""
    transport = request.transport
    if transport is None or transport.get_extra_info("ssl_object") is not None:
        return None
    found: socket.socket | None = transport.get_extra_info("socket")
    return found


async def send_parts(
    request: web.Request,
    response: web.StreamResponse,
    sock: socket.socket,
    parts: AsyncGenerator[Sequence[Part], None],
    threads: Executor,
    stalled_s: float,
) -> web.StreamResponse:
    """Send a head and what ``parts`` gives, which has to be as long as the head says."""
    await response.prepare(request)
    transport = request.transport
    while transport is not None and transport.get_write_buffer_size():
        await asyncio.sleep(0)  # the head is on its way, at the end of the loop's turn
    with Sender(sock, threads, stalled_s) as sender:
        async with aclosing(parts) as batches:
            async for batch in batches:
                await sender.send(batch)
    await response.write_eof()
    return response
