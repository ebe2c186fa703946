"""News of whose access has ended, passed on from the router to the auth helper's own socket."""

import asyncio
import logging
from pathlib import Path

import asyncssh

from dit4c_p2p.messages.pod import MAX_NEWS_BYTES, NEWS_TAKEN

logger = logging.getLogger(__name__)

_TAKE_LIMIT_S = 2.0


class NewsRelay:
    """Takes the streams that a router opens to the news port.

    :param socket_path: where the auth helper takes news.
    """

    def __init__(self, socket_path: Path) -> None:
        self._path = str(socket_path)
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, host: str, port: int) -> "asyncssh.SSHTCPSession[bytes]":
        """The session of a stream; called by asyncssh."""
        return _NewsSession(self)

    def pass_on(self, channel: "asyncssh.SSHTCPChannel[bytes]", news: bytes) -> None:
        """Pass ``news`` on, and answer on ``channel`` when it was taken."""
        task = asyncio.create_task(self._pass_on(channel, news), name="news of ended access")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, channel: "asyncssh.SSHTCPChannel[bytes]", news: bytes) -> None:
        try:
            async with asyncio.timeout(_TAKE_LIMIT_S):
                reader, writer = await asyncio.open_unix_connection(self._path)
                try:
                    writer.write(news)
                    answer = await reader.readexactly(len(NEWS_TAKEN))
                finally:
                    writer.transport.abort()
            channel.write(answer)
            channel.write_eof()
        except (OSError, TimeoutError, EOFError) as error:
            logger.warning("the auth helper did not take the news of ended access: %s", error)
            channel.abort()


class _NewsSession(asyncssh.SSHTCPSession[bytes]):
    """One stream: a line of JSON, which the auth helper checks."""

    def __init__(self, relay: NewsRelay) -> None:
        self._relay = relay
        self._news = bytearray()
        self._channel: asyncssh.SSHTCPChannel[bytes]

    def connection_made(self, chan: "asyncssh.SSHTCPChannel[bytes]") -> None:
        """Called by asyncssh when the channel is open."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Called by asyncssh with the next bytes."""
        self._news += data
        if len(self._news) > MAX_NEWS_BYTES:
            self._channel.abort()

    def eof_received(self) -> bool:
        """Called by asyncssh when the router has said all; the answer is still to come."""
        if len(self._news) <= MAX_NEWS_BYTES:
            self._relay.pass_on(self._channel, bytes(self._news))
        return True
