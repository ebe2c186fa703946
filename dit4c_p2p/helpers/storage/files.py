"""Open files: writes are gathered and sent behind, reads see them, errors find their file."""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable

from dit4c_p2p.helpers.storage.conflicts import ChangedElsewhere, Unsent
from dit4c_p2p.helpers.storage.nodes import Node
from dit4c_p2p.helpers.storage.read_ahead import Fetch, ReadAhead
from dit4c_p2p.helpers.storage.remote import Remote
from dit4c_p2p.helpers.storage.server_link import RemoteFile, ServerLink
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS

_log = logging.getLogger(__name__)

# Bytes of one file's writes on their way, after which its writer waits.
MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024
# What was written is sent when its writer has been quiet for so long.
QUIET_S = 0.2


class OpenFile:
    """One opening of a file by a program; ``remote`` is the server's handle for it."""

    __slots__ = ("error_seen", "errors_at_close", "file", "number", "remote", "writable")

    def __init__(self, number: int, file: "NodeFile", remote: RemoteFile, writable: bool) -> None:
        self.number = number
        self.file = file
        self.remote = remote
        self.writable = writable
        self.error_seen = 0 if file.error_untold else file.error_count
        # How many errors there were when a program closed a descriptor of it for the last time.
        self.errors_at_close = -1


class NodeFile:
    """What all openings of one file share, while there are any or writes are on their way.

    :param written: called whenever something was written to the server.
    :param keep: keeps what can't be written any more, as somebody else has changed the file.
    """

    def __init__(
        self,
        node: Node,
        link: ServerLink,
        written: Callable[[], None],
        keep: Callable[[Unsent], Awaitable[None]],
    ) -> None:
        self.node = node
        self.link = link
        self.openings: set[OpenFile] = set()
        self.read_ahead: dict[OpenFile, ReadAhead] = {}
        # Whether neither a last close nor an fsync has returned the last error.
        self.error_untold = node.failed is not None
        self.error_count = int(self.error_untold)
        self._error, node.failed = node.failed, None
        self._written = written
        self._keep = keep
        # What the server has refused as somebody else has changed the file, and its keeping.
        self._refused: list[tuple[int, bytes]] = []
        self._refused_size = 0
        self._keeping: asyncio.Task[None] | None = None
        self._buffer = bytearray()
        self._start = 0
        self._by: OpenFile | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sending: dict[asyncio.Task[None], tuple[int, int]] = {}
        self._bytes = 0
        # Writes that wait for earlier ones of the same place.
        self._overlapping = 0
        # The first byte behind everything that is on its way.
        self._top = 0

    # ---- openings

    def add(self, opening: OpenFile) -> None:
        """A program has opened the file."""
        self.openings.add(opening)
        opening.remote.since_ns = lambda: self.link.since_ns if self.dirty else None

    def remove(self, opening: OpenFile) -> None:
        """A program has closed the file for the last time; its writes have been sent."""
        self.openings.discard(opening)
        if self.error_count <= max(opening.errors_at_close, 0):
            self.error_untold = False
        if not self.openings and self.error_untold:
            self.node.failed = self._error  # of a write that was answered after the close
        ahead = self.read_ahead.pop(opening, None)
        if ahead is not None:
            ahead.clear()

    async def open_all(self) -> None:
        """Open at the server what programs opened under a lease alone."""
        waiting = [opening.remote for opening in self.openings if not opening.remote.opened]
        for remote_file in waiting:
            await self.link.call(remote_file.on)

    @property
    def dirty(self) -> bool:
        """Whether writes have not arrived at the server yet."""
        return bool(self._buffer or self._sending or self._refused or self._keeping)

    def seed(self, opening: OpenFile, start: bytes) -> None:
        """The whole file came when it was opened; it is good until something is written."""
        if not self.dirty:
            self._add_read_ahead(opening).seed(start)

    def _add_read_ahead(self, opening: OpenFile) -> ReadAhead:
        ahead = self.read_ahead[opening] = ReadAhead(self._reader(opening.remote))
        return ahead

    def forget_reads(self) -> None:
        """What was read ahead counts no more."""
        for ahead in self.read_ahead.values():
            ahead.clear()

    # ---- writing

    async def write(self, opening: OpenFile, offset: int, data: bytes) -> None:
        """Take ``data``; it is sent soon. Waits while too much is on its way.

        :raises ChangedElsewhere: what was written by this opening before was refused.
        """
        if opening.remote.broken:
            raise ChangedElsewhere
        if self.read_ahead:
            self.forget_reads()
        node = self.node
        node.changed()
        node.attributes.size = max(node.attributes.size, offset + len(data))
        buffer = self._buffer
        if buffer and (self._by is not opening or offset != self._start + len(buffer)):
            self._send_buffer()
            buffer = self._buffer
        if not buffer:
            self._start, self._by = offset, opening
        buffer += data
        most = self._most_bytes()
        if len(buffer) >= most:
            self._send_whole(most)
        if self._buffer and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._quiet)
        while self._bytes > MAX_IN_FLIGHT_BYTES:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)

    def send(self) -> None:
        """Send what was written so far, and wait for nothing."""
        self._send_buffer()

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not been answered."""
        return len(self._buffer) + self._bytes

    async def send_before_handle(self) -> bytes | None:
        """Send what was written, and return a handle on which a request comes after it."""
        remote = self.link.remote
        handles = {
            opening.remote.handle_on(remote) for opening in self.openings if opening.writable
        }
        self._send_buffer()
        if len(handles) != 1 or self._overlapping:
            return None
        await asyncio.sleep(0)  # writes are sent by tasks of their own
        return handles.pop() if not self._overlapping else None

    async def drain(self) -> None:
        """Return when everything that was written so far has been answered by the server."""
        self._send_buffer()
        while self._sending or self._keeping:
            await asyncio.wait([*self._sending, *([self._keeping] if self._keeping else [])])

    def raise_error(self, opening: OpenFile, *, told: bool) -> None:
        """:raises OSError: a write behind has failed, and no ``fsync`` of this opening was told.

        :param told: it is told now. A close does not count: every copy of a descriptor that a
            child process closes is one.
        """
        if opening.error_seen != self.error_count and self._error is not None:
            if told:
                opening.error_seen = self.error_count
                self.error_untold = False
            raise OSError(self._error.errno, self._error.strerror)

    def _covers(self, offset: int, size: int) -> bool:
        """Whether bytes there are written and have not arrived."""
        end = offset + size
        if self._buffer and self._start < end and offset < self._start + len(self._buffer):
            return True
        return any(start < end and offset < stop for start, stop in self._sending.values())

    def _most_bytes(self) -> int:
        remote = self.link.remote
        return remote.client.max_write_bytes if remote is not None else 32 * 1024

    def _quiet(self) -> None:
        self._timer = None
        self._send_buffer()

    def _send_whole(self, most: int) -> None:
        """Send the buffer in pieces of ``most`` bytes; what is left over stays."""
        view = memoryview(self._buffer)
        position = 0
        while len(view) - position >= most:
            self._send(self._start + position, bytes(view[position : position + most]))
            position += most
        rest = bytearray(view[position:])
        view.release()
        self._buffer = rest
        self._start += position

    def _send_buffer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            self._send(self._start, data)

    def _send(self, start: int, data: bytes) -> None:
        assert self._by is not None
        end = start + len(data)
        earlier = (
            [task for task, (a, b) in self._sending.items() if a < end and start < b]
            if start < self._top
            else []
        )
        self._top = max(self._top, end) if self._sending else end
        task = asyncio.ensure_future(self._deliver(self._by.remote, start, data, earlier))
        self._sending[task] = (start, end)
        self._bytes += len(data)
        task.add_done_callback(self._delivered)

    async def _deliver(
        self, remote_file: RemoteFile, start: int, data: bytes, earlier: list["asyncio.Task[None]"]
    ) -> None:
        if earlier:
            self._overlapping += 1
            try:
                await asyncio.wait(earlier)
            finally:
                self._overlapping -= 1

        async def write(remote: Remote) -> None:
            await remote.client.write(await remote_file.on(remote), start, data)

        try:
            await self.link.call(write)
        except OSError as error:
            lost_name = error.errno == errno.ESTALE and self.node.last_name is not None
            if isinstance(error, ChangedElsewhere) or error.errno == CHANGED_BY_OTHERS or lost_name:
                self._refuse(start, data)
                raise ChangedElsewhere from None
            raise

    def _refuse(self, start: int, data: bytes) -> None:
        """Somebody else has changed the file: what is open of it is of no use any more."""
        if not self._refused:
            self._refused_size = self.node.attributes.size
        self._refused.append((start, data))
        for opening in self.openings:
            if opening.writable:
                opening.remote.broken = True

    async def _keep_refused(self) -> None:
        try:
            while self._refused:
                refused, self._refused = self._refused, []
                size = max(self._refused_size, *(start + len(data) for start, data in refused))
                await self._keep(Unsent(size, self.node.attributes.mode, refused))
        finally:
            self._keeping = None

    def _delivered(self, task: "asyncio.Task[None]") -> None:
        start, end = self._sending.pop(task)
        self._bytes -= end - start
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            self._written()
            return
        if not isinstance(error, OSError):
            _log.error("a write failed: %r", error)
            error = OSError(errno.EIO, "a write failed")
        self.fail(error)
        if self._refused and not self._sending and self._keeping is None:
            self._send_buffer()  # it is refused as well
            if not self._sending:
                self._keeping = asyncio.ensure_future(self._keep_refused())

    def fail(self, error: OSError) -> None:
        """A change of the file has failed; whoever has it open is told at close or fsync."""
        self._error = error
        self.error_count += 1
        self.error_untold = True
        # The kernel has what the server has refused.
        self.node.pages = self.node.pages_version = None

    # ---- reading

    async def read(self, opening: OpenFile, offset: int, size: int) -> bytes | memoryview:
        """Up to ``size`` bytes as they were written last; fewer at the end of the file."""
        if self.dirty:
            if self._covers(offset, size):
                await self.drain()
            # What is read ahead now might be older than what is on its way.
            return await self._reader(opening.remote)(offset, size)
        ahead = self.read_ahead.get(opening)
        if ahead is None:
            ahead = self._add_read_ahead(opening)
        return await ahead.read(offset, size, self.node.attributes.size)

    def _reader(self, remote_file: RemoteFile) -> Fetch:
        link, node = self.link, self.node

        async def fetch(offset: int, size: int) -> bytes | memoryview:
            async def read(remote: Remote) -> bytes | memoryview:
                handle = await remote_file.on(remote)
                client = remote.client
                most = client.max_read_bytes
                data = await client.read(handle, offset, min(size, most))
                if len(data) == size or not data:
                    return data
                pieces, got = [data], len(data)
                while got < size and offset + got < node.attributes.size:
                    data = await client.read(handle, offset + got, min(size - got, most))
                    if not data:
                        break
                    pieces.append(data)
                    got += len(data)
                return b"".join(pieces)

            return await link.call(read)

        return fetch
