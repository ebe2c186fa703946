"""One SFTP session: packets in, requests in their order to the workers, replies out.

    data_received ─▶ Framer ─▶ decode ─▶ Ordering ─▶ ready ─▶ Workers ─▶ reply
                                             ▲                    │
                                             └── lease in the way: wait, run again

What a client can make this end keep is bounded: so many requests and bytes wait here, then its
channel is not read; while it takes no replies, nothing new is begun.
"""

import asyncio
import errno
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from dit4c_p2p.fileserver.claims import claims_of, compound_claims, returns_leases
from dit4c_p2p.fileserver.compounds import CompoundRun
from dit4c_p2p.fileserver.files import Files
from dit4c_p2p.fileserver.handles import HandleBudget, HandleTable
from dit4c_p2p.fileserver.layout import View
from dit4c_p2p.fileserver.lease_service import LeaseConflict
from dit4c_p2p.fileserver.leases import Notice
from dit4c_p2p.fileserver.metrics import FileServerMetrics
from dit4c_p2p.fileserver.ordering import Claim, Ordering, Request
from dit4c_p2p.fileserver.session_files import Overtaken
from dit4c_p2p.fileserver.statuses import EOF, OK, status_of
from dit4c_p2p.fileserver.stock import StockRequests
from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.fileserver.workers import Workers
from dit4c_p2p.sftp import extensions, packets
from dit4c_p2p.sftp.compound import decode_compound
from dit4c_p2p.sftp.constants import (
    MAX_DATA_BYTES,
    MAX_PACKET_BYTES,
    SFTP_VERSION,
    PacketType,
    StatusCode,
)
from dit4c_p2p.sftp.extensions import NOTICE_ID, NoticeKind, RecalledLease
from dit4c_p2p.sftp.framer import Framer
from dit4c_p2p.sftp.openssh import OPENSSH_EXTENSIONS
from dit4c_p2p.sftp.wire import MalformedPacket, encode_record

_log = logging.getLogger(__name__)

# Requests of one session that run at once, so that none takes all workers.
_MAX_RUNNING = 8
# What may wait in one session before its channel is not read on.
_MAX_WAITING = 256
_MAX_WAITING_BYTES = 4 * 1024 * 1024
_MAX_OVERTAKEN = 100
# Larger reads are for the workers: to copy them takes longer than to hand them over, and the loop
# seals what was read before meanwhile.
_MOST_READ_NOW_BYTES = 32 * 1024
_MAX_LEASES = 100_000
_SESSION = "session"
# A mount that comes back waits so long for what its earlier session has under way.
_MOST_FOLLOWING_S = 30.0
_numbers = itertools.count(1)


class Server:
    """What the sessions of one file server share."""

    def __init__(
        self, workers: Workers, metrics: FileServerMetrics, budget: HandleBudget, per_session: int
    ) -> None:
        self.workers = workers
        self.metrics = metrics
        self.budget = budget
        self.handles_per_session = per_session
        # What is read on the loop is copied into its packet at once: one buffer does for all.
        self.read_buffer = memoryview(bytearray(_MOST_READ_NOW_BYTES))
        self.server_id = int.from_bytes(os.urandom(8), "big")
        # The session of each mount that has said its number.
        self.mounts: dict[int, SftpSession] = {}


class SftpSession:
    """One session; its channel calls it, and is called through ``send`` and ``pause``.

    :param view: what it sees.
    :param send: sends one packet.
    :param pause: stops (True) or resumes reading of the channel.
    :param end: ends the session, with the reason for the log.
    :ivar mount: the number of the mount that it is of; 0: it has said none.
    """

    def __init__(
        self,
        server: Server,
        view: View,
        *,
        send: Callable[[bytes], None],
        pause: Callable[[bool], None],
        end: Callable[[str], None],
    ) -> None:
        self._server = server
        self._view = view
        self._send = send
        self._pause = pause
        self._end = end
        self._framer = Framer()
        self._handles = HandleTable(server.handles_per_session, server.budget)
        self._files = Files(self, lambda: self._view, self._handles)
        self._stock = StockRequests(self._files, server.handles_per_session)
        self._ordering = Ordering()
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Request] = deque()
        self._running = 0
        self._waiting = 0
        self._waiting_bytes = 0
        self._paused = False
        self._writable = True
        self._started = False
        self._closed = False
        self._private = False
        self.mount = 0
        self._number = next(_numbers)
        self._blocked: set[asyncio.Task[None]] = set()
        # By request id, in the order in which they came, with the reply once it is there.
        self._unanswered: dict[int, bytes | None] = {}
        self._finished: Callable[[], None] | None = None
        self.closed = asyncio.Event()

    # ---- called by the channel

    def data_received(self, data: bytes) -> None:
        """Bytes of the client have arrived."""
        if self._closed:
            return
        try:
            if self._private:
                for tree in self._view.trees:
                    tree.leases.renew(self)
            for packet in self._framer.feed(data):
                self._take(packet)
        except MalformedPacket as error:
            self._server.metrics.refused.labels("malformed").inc()
            self._end(f"it sent what is not SFTP: {error}")
            return
        self._run_ready()

    def pause_writing(self) -> None:
        """The client takes no replies now."""
        self._writable = False

    def resume_writing(self) -> None:
        """The client takes replies again."""
        self._writable = True
        self._run_ready()

    def finish(self, finished: Callable[[], None]) -> None:
        """The client asks nothing more; ``finished`` is called when all is answered."""
        self._finished = finished
        if not self._waiting and not self._closed:
            finished()

    def close(self) -> None:
        """The channel has ended; ``closed`` is set when nothing of the session is left."""
        if self._closed:
            return
        self._closed = True
        self._ready.clear()
        if self._server.mounts.get(self.mount) is self:
            del self._server.mounts[self.mount]
        for task in self._blocked:
            task.cancel()
        for folder in self._view.folders.values():
            folder.tree.leases.leave(self)
        self._close_when_idle()

    def end(self, reason: str) -> None:
        """End it, for a reason that the log is told; nothing more is begun."""
        self._end(reason)
        self.close()

    def change_view(self, view: View) -> None:
        """Its grants have changed. Folders that are not in the new view were taken away."""
        before, self._view = self._view, view
        if self._private and not self._closed:
            for tree in before.trees - view.trees:
                tree.leases.forget(self)
            for tree in view.trees - before.trees:
                tree.leases.join(self, self.mount)
            self._files.virtual_leases.recall(self._recall)

    def notify(self, notices: Iterable[Notice]) -> None:
        """Tell the client of its leases."""
        if self._closed:
            return
        for kind, broken in ((NoticeKind.RECALL, False), (NoticeKind.BROKEN, True)):
            leases = [
                RecalledLease(one.file_id, one.seq, one.keep)
                for one in notices
                if one.broken == broken
            ]
            if leases:
                self._notice(kind, leases)

    @property
    def who(self) -> int:
        """By what its changes are known: the number of its mount, or one of its own."""
        return self.mount or -self._number

    @property
    def view(self) -> View:
        """What it sees."""
        return self._view

    @property
    def handles(self) -> int:
        """How many handles it has."""
        return len(self._handles)

    # ---- requests

    def _take(self, packet: bytes) -> None:
        if not self._started:
            packets.decode_init(packet)
            self._started = True
            pairs = (*OPENSSH_EXTENSIONS, *extensions.PRIVATE_EXTENSIONS)
            self._reply(packets.encode_version(packets.Version(SFTP_VERSION, pairs)))
            return
        try:
            request_id, request = packets.decode_request(packet)
        except packets.UnknownRequest as error:
            status = status_of(os_error(errno.EOPNOTSUPP), with_errno=self._private)
            self._reply(packets.encode_response(error.request_id, status))
            return
        if isinstance(request, packets.Extended):
            if request.name == extensions.RENEW:
                self._reply(packets.encode_response(request_id, OK))
                return
            if request.name == extensions.HELLO:
                self._hello(request_id, request.data)
                return
            if request.name == extensions.COMPOUND:
                self._compound(request_id, request.data, len(packet))
                return
        elif isinstance(request, packets.Read) and self._read_now(request_id, request):
            return
        elif isinstance(request, packets.Read | packets.Write) and not self._private:
            self._unanswered[request_id] = None
        self._add(request_id, request, claims_of(request), len(packet))

    def _hello(self, request_id: int, data: bytes) -> None:
        hello = extensions.decode_hello(data)
        earlier = self._server.mounts.get(hello.mount) if hello.mount else None
        if earlier is None or earlier is self:
            self._begin_private(request_id, hello)
            return
        earlier.end("its mount has come back")
        task = asyncio.create_task(self._follow(earlier, request_id, hello), name="mount's return")
        self._blocked.add(task)
        task.add_done_callback(self._blocked.discard)

    async def _follow(
        self, earlier: "SftpSession", request_id: int, hello: extensions.Hello
    ) -> None:
        """Begin when nothing of the mount's earlier session can change anything any more."""
        try:
            async with asyncio.timeout(_MOST_FOLLOWING_S):
                await earlier.closed.wait()
        except TimeoutError:
            self._end("the earlier session of its mount does not end")
            return
        self._begin_private(request_id, hello)

    def _begin_private(self, request_id: int, hello: extensions.Hello) -> None:
        if not self._private:
            self._private = True
            self._files.links = False
            self.mount = hello.mount
            if self.mount:
                self._server.mounts[self.mount] = self
            for tree in self._view.trees:
                tree.leases.join(self, self.mount)
        reply = extensions.HelloReply(
            extensions.PRIVATE_VERSION,
            int(extensions.HOLDER_LEASE_S * 1000),
            int(extensions.SERVER_LEASE_S * 1000),
            MAX_PACKET_BYTES,
            MAX_DATA_BYTES,
            extensions.MAX_OPERATIONS,
            self._server.handles_per_session,
            _MAX_LEASES,
            self._server.server_id,
            time.time_ns(),
        )
        self._reply(
            packets.encode_packet(PacketType.EXTENDED_REPLY, request_id, encode_record(reply))
        )

    def _compound(self, request_id: int, data: bytes, size: int) -> None:
        compound = decode_compound(data)
        claims = compound_claims(compound)
        if returns_leases(compound):
            claims += (Claim(_SESSION, shared=False),)
        self._add(request_id, CompoundRun(self._files, compound), claims, size)

    def _add(self, request_id: int, content: Any, claims: tuple[Claim, ...], size: int) -> None:
        if self._private and not any(claim.key == _SESSION for claim in claims):
            claims += (Claim(_SESSION, shared=True),)
        request = Request(request_id, content, claims, size)
        self._waiting += 1
        self._waiting_bytes += size
        if self._ordering.add(request):
            self._ready.append(request)
        if not self._paused and (
            self._waiting > _MAX_WAITING or self._waiting_bytes > _MAX_WAITING_BYTES
        ):
            self._paused = True
            self._pause(True)

    def _read_now(self, request_id: int, request: packets.Read) -> bool:
        """Answer a small read of what is in the page cache at once; False if it may block."""
        length = min(request.length, MAX_DATA_BYTES)
        if length > _MOST_READ_NOW_BYTES or self._unanswered:
            return False
        claim = Claim(request.handle, True, request.offset, request.offset + length)
        if not self._writable or not length or not self._ordering.free(claim):
            return False
        try:
            handle = self._files.begin_read(request.handle)
            data = self._server.read_buffer[:length]
            count = os.preadv(handle.fd, [data], request.offset, os.RWF_NOWAIT)
        except (OSError, OverflowError, LeaseConflict):
            return False  # the worker finds out, and says so
        if count < length and request.offset + count < handle.file.size:
            return False
        if not count:
            self._reply(packets.encode_response(request_id, EOF))
            return True
        head = count.to_bytes(4, "big")
        self._reply(packets.encode_packet(PacketType.DATA, request_id, head, data[:count]))
        self._server.metrics.read_bytes(count)
        return True

    # ---- running

    def _run_ready(self) -> None:
        ready = self._ready
        while ready and self._running < _MAX_RUNNING and self._writable and not self._closed:
            self._submit(ready.popleft())

    def _submit(self, request: Request) -> None:
        self._running += 1
        self._server.workers.submit(
            lambda: self._work(request), lambda result: self._worked(request, result)
        )

    def _work(self, request: Request) -> bytes | LeaseConflict | None:
        """Carry out a request, in a worker thread; returns the reply."""
        content = request.content
        try:
            if isinstance(content, CompoundRun):
                parts = content.run()
                self._server.metrics.written_bytes(content.written)
                return packets.encode_packet(PacketType.EXTENDED_REPLY, request.request_id, *parts)
            response = self._run_stock(content)
        except LeaseConflict as conflict:
            return conflict
        except OSError as error:
            response = status_of(error, with_errno=self._private)
        except MalformedPacket as error:
            response = packets.Status(StatusCode.BAD_MESSAGE, str(error))
        except Exception:  # noqa: BLE001  one request must not end the session without a word
            _log.exception("a request failed")
            response = status_of(os_error(errno.EIO), with_errno=self._private)
        return packets.encode_response(request.request_id, response)

    def _run_stock(self, request: packets.Request) -> packets.Response:
        for _ in range(_MAX_OVERTAKEN):
            try:
                response = self._stock.run(request)
            except Overtaken:
                continue
            if isinstance(request, packets.Write):
                self._server.metrics.written_bytes(len(request.data))
            elif isinstance(response, packets.Data):
                self._server.metrics.read_bytes(len(response.data))
            return response
        raise os_error(errno.EBUSY)

    def _worked(self, request: Request, result: "bytes | LeaseConflict | None") -> None:
        self._running -= 1
        if self._closed:
            self._close_when_idle()
            return
        if isinstance(result, LeaseConflict):
            task = asyncio.create_task(self._wait_for_lease(request, result), name="lease wait")
            self._blocked.add(task)
            task.add_done_callback(self._blocked.discard)
        else:
            self._done(request, result)
        self._run_ready()

    def _done(self, request: Request, reply: bytes | None) -> None:
        self._waiting -= 1
        self._waiting_bytes -= request.size
        if request.request_id in self._unanswered:
            self._answer_in_order(request, reply)
        elif reply is not None:
            self._reply(reply)
        self._ready.extend(self._ordering.done(request))
        if (
            self._paused
            and self._waiting <= _MAX_WAITING // 2
            and self._waiting_bytes <= _MAX_WAITING_BYTES // 2
        ):
            self._paused = False
            self._pause(False)
        if self._finished is not None and not self._waiting:
            self._finished()

    def _answer_in_order(self, request: Request, reply: bytes | None) -> None:
        """Answer the reads and writes of stock clients in their order.

        OpenSSH's scp (9.2, with -s) cuts a file off, or puts its pieces in another order, where an
        answer overtakes another.
        """
        unanswered = self._unanswered
        unanswered[request.request_id] = reply or b""
        while unanswered and (first := next(iter(unanswered.values()))) is not None:
            del unanswered[next(iter(unanswered))]
            self._reply(first)

    async def _wait_for_lease(self, request: Request, result: "LeaseConflict | Any") -> None:
        """Run a request again whenever the leases in its way have come back."""
        # Leases of this session don't wait for what waits for somebody else's.
        self._ready.extend(self._ordering.give_up(request, _SESSION))
        self._run_ready()
        while isinstance(result, LeaseConflict):
            service, file_ids = result.service, result.conflict.file_ids
            service.await_access(self, file_ids)
            try:
                await service.wait(result)
                if self._closed:
                    return
                self._running += 1
                result = await asyncio.shield(
                    self._server.workers.run(partial(self._run_again, request))
                )
            finally:
                service.end_await(self, file_ids)
            if self._closed:
                return
        self._done(request, result)
        self._run_ready()

    def _run_again(self, request: Request) -> bytes | LeaseConflict | None:
        try:
            return self._work(request)
        finally:
            self._loop.call_soon_threadsafe(self._ran_again)

    def _ran_again(self) -> None:
        self._running -= 1
        if self._closed:
            self._close_when_idle()

    def _reply(self, data: bytes) -> None:
        if self._closed:
            return
        try:
            self._send(data)
        except OSError:  # the channel is closing, and says so next
            self._writable = False

    def _notice(self, kind: NoticeKind, leases: list[RecalledLease]) -> None:
        self._server.metrics.notices.labels(kind.name.lower()).inc(len(leases))
        data = extensions.encode_notice(extensions.Notice(kind, leases))
        self._reply(packets.encode_packet(PacketType.EXTENDED_REPLY, NOTICE_ID, data))

    def _recall(self, leases: list[RecalledLease]) -> None:
        self._notice(NoticeKind.RECALL, leases)

    def _close_when_idle(self) -> None:
        if self._running or self.closed.is_set():
            return
        self._server.workers.submit(self._release, lambda _: self.closed.set())

    def _release(self) -> None:
        """Close handles and folders; in a worker, as there may be many."""
        self._handles.close()
        for folder in self._view.folders.values():
            if not folder.taken_away:
                folder.take_away()
