"""Typed calls over SSH: one call is one session channel with a subsystem of its own.

The caller writes one record as a line of JSON. The answer is a line of JSON for each record, then
the end of file. The records and their order are defined by the caller's protocol, such as
``messages.node``.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import asyncssh

from dit4c_p2p.messages.codec import (
    MAX_MESSAGE_BYTES,
    InvalidMessage,
    UnknownKind,
    decode,
    encode,
)
from dit4c_p2p.overlay.errors import OverlayError, Refused, Silent, Unreachable

_log = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[[bytes], AsyncIterator[Any]]

_OPEN_TIMEOUT_S = 10
_REQUEST_TIMEOUT_S = 20


async def call(
    connection: asyncssh.SSHClientConnection,
    subsystem: str,
    request: Any,
    replies: type[T],
    *,
    silence_s: float,
) -> AsyncGenerator[T, None]:
    """Make one call and yield each record of the answer, except those of an unknown kind.

    Closing the iterator closes the channel.

    :param replies: the type, or union of tagged types, that the answer consists of.
    :param silence_s: how long to wait for each record.
    :raises Refused: the far end has no such subsystem.
    :raises Silent: nothing came for ``silence_s``.
    :raises Unreachable: the connection broke.
    :raises InvalidMessage: an answer is none of ``replies``, or longer than any.
    """
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            stdin, stdout, _ = await connection.open_session(subsystem=subsystem, encoding=None)
    except asyncssh.ChannelOpenError as error:
        if connection.is_closed():
            raise Unreachable(f"the connection broke: {error.reason}") from None
        raise Refused(f"{subsystem} is not served: {error.reason}") from None
    except (asyncssh.Error, OSError) as error:
        raise Unreachable(f"the connection broke: {error}") from None
    except TimeoutError:
        raise Silent(f"{subsystem} was not opened in {_OPEN_TIMEOUT_S} s") from None
    try:
        stdin.write(encode(request) + b"\n")
        stdin.write_eof()
        kept = bytearray()
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    line = await _next_reply_line(stdout, kept)
            except TimeoutError:
                raise Silent(f"{subsystem} said nothing for {silence_s:.0f} s") from None
            if not line:
                return
            if not line.endswith(b"\n"):
                raise Unreachable("the connection broke in the middle of an answer")
            try:
                reply = decode(line, replies)
            except UnknownKind as error:
                _log.info("a record of %s was passed over: %s", subsystem, error.one_line())
                continue
            yield reply
    except (asyncssh.Error, OSError) as error:
        raise Unreachable(f"the connection broke: {error}") from None
    finally:
        stdin.channel.abort()


async def _next_reply_line(stream: asyncssh.SSHReader[bytes], kept: bytearray) -> bytes:
    """The next line with its end; what there is without one at the end of the stream.

    asyncssh's own puts a line together anew for each piece of it that comes, and the pieces are of
    the far end's making, as is whether the line ever ends.

    :param kept: what has come after the line before; it is kept up to date.
    :raises InvalidMessage: it is too long.
    """
    searched = 0
    while (end := kept.find(b"\n", searched)) < 0:
        searched = len(kept)
        if searched > MAX_MESSAGE_BYTES:
            raise InvalidMessage(f"a message is over {MAX_MESSAGE_BYTES} bytes")
        data = await stream.read(MAX_MESSAGE_BYTES)
        if not data:
            end = searched - 1
            break
        kept += data
    line = bytes(kept[: end + 1])
    del kept[: end + 1]
    return line


class CallSession(asyncssh.SSHServerSession[bytes]):
    """The serving end of one call; a :class:`~overlay.gate.PeerServer` makes it.

        def session_requested(self):
            return self.conn.create_server_channel(encoding=None), CallSession(handlers)

    :param handlers: subsystem → function that takes the request's line and yields the records of
        the answer. It is closed when the caller goes away. What it raises is logged and ends the
        call without a last record; expected failures are records of the conversation.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._handler: Handler | None = None
        self._channel: asyncssh.SSHServerChannel[bytes]
        self._request = bytearray()
        self._complete = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Called by asyncssh when the channel opens."""
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        """Accept the subsystems that have a handler; the base class refuses shells and commands."""
        self._handler = self._handlers.get(subsystem)
        return self._handler is not None

    def session_started(self) -> None:
        """Called by asyncssh when the subsystem was accepted."""
        self._task = asyncio.create_task(self._serve(), name="overlay call")

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Called by asyncssh with pieces of the request."""
        if self._complete.is_set():
            return
        self._request += data
        if b"\n" in data or len(self._request) > MAX_MESSAGE_BYTES:
            self._complete.set()

    def eof_received(self) -> bool:
        """Called by asyncssh when the caller sends nothing more; the answer may still be read."""
        self._complete.set()
        return True

    def pause_writing(self) -> None:
        """Called by asyncssh when the caller reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by asyncssh when the caller has caught up."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh when the channel has ended."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        if self._handler is None:
            return
        status = 1
        try:
            try:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    await self._complete.wait()
            except TimeoutError:
                raise Silent(f"no request in {_REQUEST_TIMEOUT_S} s") from None
            line, _, _ = bytes(self._request).partition(b"\n")
            replies = self._handler(line)
            try:
                async for reply in replies:
                    self._channel.write(encode(reply) + b"\n")
                    await self._writable.wait()
            finally:
                close = getattr(replies, "aclose", None)
                if close is not None:
                    await close()
            status = 0
        except (InvalidMessage, OverlayError) as error:
            _log.warning("a call was given up: %s", error.one_line())
        except (OSError, asyncssh.Error) as error:
            _log.info("a call broke off: %s", error)
        except Exception:  # noqa: BLE001  it would close the whole connection
            _log.exception("a call failed")
        finally:
            self._channel.exit(status)
