"""An SFTP version 3 client (draft-ietf-secsh-filexfer-02) for many requests at once.

It is fed straight from the SSH channel. The server may carry out requests in any order, so whoever
needs one order awaits the reply to the first request before sending the second.

Errors of the server are :class:`OSError` with an ``errno``; the end of the connection is
:class:`ConnectionGone`, after which it is not known whether the request was carried out.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import asyncssh

from dit4c_p2p.errors import DitError
from dit4c_p2p.overlay.asyncssh_ext.fastpath import fast_writer
from dit4c_p2p.sftp import packets
from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.constants import MAX_DATA_BYTES, SFTP_VERSION, StatusCode
from dit4c_p2p.sftp.extensions import NOTICE_ID
from dit4c_p2p.sftp.framer import Framer
from dit4c_p2p.sftp.openssh import (
    FSYNC,
    HARDLINK,
    LIMITS,
    LSETSTAT,
    POSIX_RENAME,
    STATVFS,
    Limits,
    StatVfs,
)
from dit4c_p2p.sftp.wire import MalformedPacket, Reader, decode_record, encode_wire_string

_log = logging.getLogger(__name__)

WINDOW_BYTES = 16 * 1024 * 1024
PACKET_BYTES = 260 * 1024
# No server has a reason for less; each piece of a write costs memory while it is on its way.
_LEAST_DATA_BYTES = 4096
# A server's longest packet: a listing or a block of data.
_MAX_PACKET_BYTES = 1024 * 1024
_OPEN_LIMIT_S = 20.0
# What a read or write carries where the server does not say its limits (draft-02, section 3).
_SAFE_DATA_BYTES = 32 * 1024

# What OpenSSH's sftp-server makes these statuses of; the rest is EIO.
_ERRNO: dict[int, int] = {
    StatusCode.NO_SUCH_FILE: errno.ENOENT,
    StatusCode.PERMISSION_DENIED: errno.EACCES,
    StatusCode.BAD_MESSAGE: errno.EINVAL,
    StatusCode.OP_UNSUPPORTED: errno.EOPNOTSUPP,
}


def now_s() -> float:
    """Seconds of a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ConnectionGone(DitError):
    """The connection to the file server ended before the answer came."""

    code = "connection_gone"


class _Pending(NamedTuple):
    """A request that waits for its answer, which has at most ``most`` bytes if it is data."""

    future: "asyncio.Future[Any]"
    expected: type
    sent_at: float
    most: int = 0


class SftpClient(asyncssh.SSHClientSession[bytes]):
    """One SFTP session; made by :func:`open_client`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel: Any = None
        self._write: Any = None
        self._framer = Framer(_MAX_PACKET_BYTES)
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0
        self._version: asyncio.Future[packets.Version] = self._loop.create_future()
        self.extensions: dict[bytes, bytes] = {}
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.max_read_bytes = _SAFE_DATA_BYTES
        self.max_write_bytes = _SAFE_DATA_BYTES
        # What the server says of its own accord.
        self.on_notice: Callable[[bytes], None] = lambda data: None
        # Told when a request that was answered had been sent; of :func:`now_s`.
        self.on_acknowledged: Callable[[float], None] = lambda sent_at: None
        self.sent_at = 0.0

    # ---- called by asyncssh

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self._channel = chan

    def session_started(self) -> None:
        """The server runs its SFTP subsystem."""
        self._write = fast_writer(self._channel)
        self._write(packets.encode_init(packets.Init(SFTP_VERSION)))

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """A piece of the server's packets, cut anywhere."""
        if datatype is not None:
            return
        try:
            for packet in self._framer.feed(data):
                self._take(packet)
        except MalformedPacket as error:
            _log.warning("the file server breaks the protocol: %s", error.one_line())
            self.abort()

    def eof_received(self) -> bool:
        """The server says nothing any more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed: nobody waits any longer."""
        gone = ConnectionGone("the connection to the file server ended")
        waiting = [pending.future for pending in self._pending.values()]
        self._pending.clear()
        for future in (*waiting, self._version):
            _fail_for_sftp_client(future, gone)
        if not self.closed.done():
            self.closed.set_result(None)

    # ---- the session

    async def begin(self) -> None:
        """Exchange versions and learn what the server can do.

        :raises ConnectionGone: it is no SFTP server of version 3.
        """
        version = await self._version
        if version.version != SFTP_VERSION:
            raise ConnectionGone(f"the file server speaks version {version.version} of SFTP")
        self.extensions = dict(version.extensions)
        if LIMITS in self.extensions:
            try:
                limits = decode_record(await self.extended(LIMITS), Limits)
                self.max_read_bytes = _within_for_sftp_client(limits.max_read_bytes)
                self.max_write_bytes = _within_for_sftp_client(limits.max_write_bytes)
            except (OSError, MalformedPacket) as error:
                _log.info("the file server does not say its limits: %s", error)

    def abort(self) -> None:
        """End the session at once, with its connection."""
        if self.alive and self._channel is not None:
            self._channel.get_connection().abort()
        self.connection_lost(None)

    @property
    def alive(self) -> bool:
        """Whether requests can be sent."""
        return not self.closed.done()

    def oldest_s(self) -> float:
        """For how long the oldest request has waited."""
        for pending in self._pending.values():
            return now_s() - pending.sent_at
        return 0.0

    # ---- requests

    def open(self, path: bytes, flags: int, attrs: Attrs | None = None) -> "asyncio.Future[bytes]":
        """A handle of a file; ``flags`` are of ``OpenFlag``."""
        return self._send(packets.Open(path, flags, attrs or Attrs()), packets.Handle)

    def close(self, handle: bytes) -> "asyncio.Future[None]":
        """Give a handle back."""
        return self._send(packets.Close(handle), packets.Status)

    def read(self, handle: bytes, offset: int, size: int) -> "asyncio.Future[bytes | memoryview]":
        """Up to ``size`` bytes; none at the end of the file."""
        return self._send(packets.Read(handle, offset, size), packets.Data, size)

    def write(self, handle: bytes, offset: int, data: bytes | memoryview) -> "asyncio.Future[None]":
        """Write all of ``data``."""
        return self._send(packets.Write(handle, offset, data), packets.Status)

    def lstat(self, path: bytes) -> "asyncio.Future[Attrs]":
        """Attributes, of a link itself."""
        return self._send(packets.Lstat(path), packets.AttrsReply)

    def fstat(self, handle: bytes) -> "asyncio.Future[Attrs]":
        """Attributes of an open file."""
        return self._send(packets.Fstat(handle), packets.AttrsReply)

    def setstat(self, path: bytes, attrs: Attrs) -> "asyncio.Future[None]":
        """Set attributes; a link is followed."""
        return self._send(packets.Setstat(path, attrs), packets.Status)

    def lsetstat(self, path: bytes, attrs: Attrs) -> "asyncio.Future[None]":
        """Set attributes, of a link itself."""
        return self.order(LSETSTAT, encode_wire_string(path) + attrs.encode())

    def fsetstat(self, handle: bytes, attrs: Attrs) -> "asyncio.Future[None]":
        """Set attributes of an open file."""
        return self._send(packets.Fsetstat(handle, attrs), packets.Status)

    def opendir(self, path: bytes) -> "asyncio.Future[bytes]":
        """A handle of a folder."""
        return self._send(packets.Opendir(path), packets.Handle)

    def readdir(self, handle: bytes) -> "asyncio.Future[Sequence[packets.NameEntry]]":
        """The next entries; none when all were given."""
        return self._send(packets.Readdir(handle), packets.Name)

    def remove(self, path: bytes) -> "asyncio.Future[None]":
        """Remove a name that is not a folder's."""
        return self._send(packets.Remove(path), packets.Status)

    def mkdir(self, path: bytes, attrs: Attrs) -> "asyncio.Future[None]":
        """Make a folder."""
        return self._send(packets.Mkdir(path, attrs), packets.Status)

    def rmdir(self, path: bytes) -> "asyncio.Future[None]":
        """Remove an empty folder."""
        return self._send(packets.Rmdir(path), packets.Status)

    def rename(self, old: bytes, new: bytes) -> "asyncio.Future[None]":
        """Rename; fails if ``new`` is there."""
        return self._send(packets.Rename(old, new), packets.Status)

    def posix_rename(self, old: bytes, new: bytes) -> "asyncio.Future[None]":
        """Rename as ``rename(2)`` does: ``new`` is replaced."""
        return self.order(POSIX_RENAME, encode_wire_string(old) + encode_wire_string(new))

    def hard_link(self, old: bytes, new: bytes) -> "asyncio.Future[None]":
        """One more name for a file."""
        return self.order(HARDLINK, encode_wire_string(old) + encode_wire_string(new))

    def readlink(self, path: bytes) -> "asyncio.Future[Sequence[packets.NameEntry]]":
        """One entry, whose name is where the link points."""
        return self._send(packets.Readlink(path), packets.Name)

    def symlink(self, target: bytes, path: bytes) -> "asyncio.Future[None]":
        """Make a symbolic link."""
        return self._send(packets.Symlink(target, path), packets.Status)

    def fsync(self, handle: bytes) -> "asyncio.Future[None]":
        """What was written is on the server's disk."""
        return self.order(FSYNC, encode_wire_string(handle))

    async def statvfs(self, path: bytes) -> StatVfs:
        """Room of the file system that ``path`` is on."""
        return decode_record(await self.extended(STATVFS, encode_wire_string(path)), StatVfs)

    async def extended(self, name: bytes, body: bytes = b"") -> Reader:
        """The answer to an extended request that has one of its own form."""
        return Reader(await self._extended(name, body, packets.ExtendedReply))

    def order(self, name: bytes, body: bytes) -> "asyncio.Future[None]":
        """Send an extended request that is answered by a status."""
        return self._extended(name, body, packets.Status)

    # ---- beneath

    def _extended(self, name: bytes, body: bytes, expected: type) -> "asyncio.Future[Any]":
        if name not in self.extensions:
            future = self._loop.create_future()
            _fail_for_sftp_client(
                future, OSError(errno.EOPNOTSUPP, f"the file server lacks {name.decode()}")
            )
            return future
        return self._send(packets.Extended(name, body), expected)

    def _send(
        self, request: packets.Request, expected: type, most: int = 0
    ) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.closed.done():
            _fail_for_sftp_client(
                future, ConnectionGone("there is no connection to the file server")
            )
            return future
        number = self._next_id = (self._next_id + 1) % NOTICE_ID
        self.sent_at = now_s()
        self._pending[number] = _Pending(future, expected, self.sent_at, most)
        try:
            self._write(packets.encode_request(number, request))
        except OSError:
            self.connection_lost(None)
        return future

    def _take(self, packet: bytes) -> None:
        if not self._version.done():
            self._version.set_result(packets.decode_version(packet))
            return
        number, response = packets.decode_response(packet)
        if number == NOTICE_ID and isinstance(response, packets.ExtendedReply):
            self.on_notice(response.data)
            return
        pending = self._pending.pop(number, None)
        if pending is None:
            raise MalformedPacket("an answer to what was not asked")
        self.on_acknowledged(pending.sent_at)
        future = pending.future
        if future.done():  # whoever asked has gone
            return
        match response:
            case packets.Data(data) if pending.expected is packets.Data:
                if len(data) > pending.most:
                    self._disbelieve(pending, "more data than was asked for")
                future.set_result(data)
            case packets.Status():
                self._take_status(response, pending)
            case packets.AttrsReply(attrs) if pending.expected is packets.AttrsReply:
                future.set_result(attrs)
            case packets.Handle(handle) if pending.expected is packets.Handle:
                future.set_result(handle)
            case packets.Name(entries) if pending.expected is packets.Name:
                future.set_result(entries)
            case packets.ExtendedReply(data) if pending.expected is packets.ExtendedReply:
                future.set_result(data)
            case _:
                self._disbelieve(pending, f"an answer of type {packet[0]}")

    def _take_status(self, status: packets.Status, pending: _Pending) -> None:
        future, expected = pending.future, pending.expected
        if status.code == StatusCode.OK:
            if expected is packets.Status:
                future.set_result(None)
            else:
                self._disbelieve(pending, "OK in the place of an answer")
        elif status.code == StatusCode.EOF and expected is packets.Data:
            future.set_result(b"")
        elif status.code == StatusCode.EOF and expected is packets.Name:
            future.set_result(())
        else:
            number = status.errno or _ERRNO.get(status.code, errno.EIO)
            future.set_exception(OSError(usable_errno(number), status.message[:200]))

    def _disbelieve(self, pending: _Pending, what: str) -> None:
        """Fail one request, and the session with it: nothing of it can be relied upon."""
        _fail_for_sftp_client(pending.future, OSError(errno.EIO, f"the file server gave {what}"))
        raise MalformedPacket(what)


def usable_errno(number: int) -> int:
    """A server's errno as the kernel may be given it; EIO for what no file system call returns.

    The kernel refuses an answer with an unknown number, and its caller would wait for ever; after
    ENOSYS it never asks for that operation again.
    """
    return number if number in errno.errorcode and number != errno.ENOSYS else errno.EIO


def _fail_for_sftp_client(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be there to hear it


def _within_for_sftp_client(limit: int) -> int:
    """What one request carries at most, by the server's limit and our own."""
    return min(max(limit, _LEAST_DATA_BYTES), MAX_DATA_BYTES) if limit > 0 else _SAFE_DATA_BYTES


async def open_client(connection: asyncssh.SSHClientConnection) -> SftpClient:
    """An SFTP session on a connection that has logged in.

    :raises ConnectionGone: the server has no SFTP, breaks its protocol, or time is up.
    """
    try:
        async with asyncio.timeout(_OPEN_LIMIT_S):
            client = SftpClient()
            await connection.create_session(
                lambda: client,
                subsystem="sftp",
                encoding=None,
                window=WINDOW_BYTES,
                max_pktsize=PACKET_BYTES,
            )
            await client.begin()
            return client
    except (asyncssh.Error, OSError, TimeoutError) as error:
        text = str(error) or "time is up"
        raise ConnectionGone(f"the file server has no SFTP for us: {text}") from None
