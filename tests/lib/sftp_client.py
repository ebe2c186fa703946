"""A small SFTP client that speaks the private extensions, for tests of the file server."""

import asyncio
from typing import Any, Self

import asyncssh

from dit4c_p2p.sftp import extensions, packets
from dit4c_p2p.sftp.compound import decode_results, encode_compound
from dit4c_p2p.sftp.framer import Framer
from dit4c_p2p.sftp.wire import encode_record


class Channel(asyncssh.SSHClientSession[bytes]):
    """Collects packets."""

    def __init__(self) -> None:
        self.framer = Framer()
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.notices: asyncio.Queue[extensions.Notice] = asyncio.Queue()
        self.version: asyncio.Future[packets.Version] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self.errors = b""

    def data_received(self, data: bytes, datatype: Any) -> None:
        if datatype is not None:
            self.errors += data
            return
        for packet in self.framer.feed(data):
            if not self.version.done():
                self.version.set_result(packets.decode_version(packet))
                continue
            request_id, response = packets.decode_response(packet)
            if request_id == extensions.NOTICE_ID:
                assert isinstance(response, packets.ExtendedReply)
                self.notices.put_nowait(extensions.decode_notice(response.data))
            else:
                self.waiting.pop(request_id).set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        for future in (self.version, *self.waiting.values()):
            if not future.done():
                future.set_exception(ConnectionError("the session has ended"))
                future.exception()  # nobody has to wait for it


class PrivateClient:
    """``async with PrivateClient(connection) as client: await client.run(GetAttr(b"/"))``."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, *, hello: bool = True, mount: int = 0
    ) -> None:
        self._connection = connection
        self._hello = extensions.Hello(mount=mount)
        self._with_hello = hello
        self._last = 0

    async def __aenter__(self) -> Self:
        self.channel, session = await self._connection.create_session(
            Channel, subsystem="sftp", encoding=None, window=16 * 1024 * 1024
        )
        self.session: Channel = session  # type: ignore[assignment]
        self.channel.write(packets.encode_init(packets.Init(3)))
        async with asyncio.timeout(10):
            self.version = await self.session.version
        if self._with_hello:
            hello = packets.Extended(extensions.HELLO, encode_record(self._hello))
            reply = await self.request(hello)
            assert isinstance(reply, packets.ExtendedReply)
            self.terms = extensions.decode_hello_reply(reply.data)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.channel.abort()

    def send(self, request: packets.Request) -> "asyncio.Future[Any]":
        """Send a request; the future is its response."""
        self._last += 1
        future = self.session.waiting[self._last] = asyncio.get_running_loop().create_future()
        self.channel.write(packets.encode_request(self._last, request))
        return future

    async def request(self, request: packets.Request) -> Any:
        """Send a request and wait for its response."""
        async with asyncio.timeout(20):
            return await self.send(request)

    async def run(self, *operations: Any, flags: int = 0) -> Any:
        """Run a compound; its results, or the only one."""
        data = encode_compound(operations, flags)
        reply = await self.request(packets.Extended(extensions.COMPOUND, data))
        assert isinstance(reply, packets.ExtendedReply), reply
        results = decode_results(operations, reply.data)
        return results[0] if len(results) == 1 else results

    def start(self, *operations: Any, flags: int = 0) -> "asyncio.Task[Any]":
        """The same as a task, sent at once."""
        data = encode_compound(operations, flags)
        future = self.send(packets.Extended(extensions.COMPOUND, data))

        async def finish() -> Any:
            async with asyncio.timeout(20):
                reply = await future
            results = decode_results(operations, reply.data)
            return results[0] if len(results) == 1 else results

        return asyncio.create_task(finish())

    async def renew(self) -> None:
        """Keep leases."""
        await self.request(packets.Extended(extensions.RENEW, b""))

    async def notice(self) -> extensions.Notice:
        """The next notice."""
        async with asyncio.timeout(20):
            return await self.session.notices.get()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.channel.write(data)
