"""WebSocket echoes as cheap as Python can: a server, and a client that counts round trips.

    echo.py --serve SOCKET
    echo.py --count PORT SECONDS CONNECTIONS [NAME:VALUE ...]

Messages are of one size and masked with zeros, so nobody spends time on unmasking, and what is
between the two is what is measured.
"""

import asyncio
import base64
import hashlib
import os
import signal
import sys
import time

import uvloop

PAYLOAD_BYTES = 64
# A binary message in one frame (RFC 6455 section 5.2), from the client and from the server.
QUESTION = bytes([0x82, 0x80 | PAYLOAD_BYTES, 0, 0, 0, 0]) + b"x" * PAYLOAD_BYTES
ANSWER = bytes([0x82, PAYLOAD_BYTES]) + b"x" * PAYLOAD_BYTES
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
OPEN_LIMIT_S = 10


class Server(asyncio.Protocol):
    """One connection that echoes."""

    def __init__(self) -> None:
        self._held = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole message; anything else is the end."""
        data = self._held + data
        if not self._open:
            if b"\r\n\r\n" not in data:
                self._held = data
                return
            head, _, data = data.partition(b"\r\n\r\n")
            self._accept(head)
        count, rest = divmod(len(data), len(QUESTION))
        if data[: count * len(QUESTION)] != QUESTION * count:
            self._transport.abort()
            return
        self._held = data[len(data) - rest :]
        if count:
            self._transport.write(ANSWER * count)

    def _accept(self, head: bytes) -> None:
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        key = next(
            line.split(b": ", 1)[1]
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key: ")
        )
        assert fields[b"upgrade"] == b"websocket"
        self._open = True
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n"
            % base64.b64encode(hashlib.sha1(key + GUID).digest())
        )


class Client(asyncio.Protocol):
    """One connection that asks again whenever it is answered."""

    def __init__(self, request: bytes) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.rounds = 0
        self.ended = False
        self._request = request
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count and ask again."""
        self._held += data
        if not self.opened.done():
            head, end, rest = self._held.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.opened.set_exception(ValueError(head.split(b"\r\n")[0].decode()))
                return
            self._held = rest
            self.opened.set_result(None)
            return
        if len(self._held) >= len(ANSWER):
            assert self._held == ANSWER, "not the echo"
            self._held = b""
            self.rounds += 1
            self._transport.write(QUESTION)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self.ended = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError("the connection was closed"))

    def ask(self) -> None:
        """The first question."""
        self._transport.write(QUESTION)

    def close(self) -> None:
        """Enough."""
        self._transport.abort()


async def serve(path: str) -> None:
    """Serve until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = await asyncio.get_running_loop().create_unix_server(Server, path)
    await told.wait()
    server.close()


async def count(port: int, seconds: float, connections: int, fields: list[str]) -> None:
    """Print the round trips a second of so many connections together."""
    lines = ["GET /ws HTTP/1.1", *(field.replace(":", ": ", 1) for field in fields)]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "", ""]
    request = "\r\n".join(lines).encode()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Client(request), "127.0.0.1", port)
        for _ in range(connections)
    ]
    clients = [client for _, client in made]
    async with asyncio.timeout(OPEN_LIMIT_S):
        await asyncio.gather(*(client.opened for client in clients))
    for client in clients:
        client.ask()
    await asyncio.sleep(min(1.0, seconds / 3))
    before, since = sum(client.rounds for client in clients), time.monotonic()
    await asyncio.sleep(seconds)
    rounds = sum(client.rounds for client in clients) - before
    taken_s = time.monotonic() - since
    ended = sum(client.ended for client in clients)
    for client in clients:
        client.close()
    if ended:
        raise SystemExit(f"{ended} of {connections} connections were closed")
    print(rounds / taken_s)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        uvloop.run(serve(sys.argv[2]))
    else:
        port, seconds, connections = sys.argv[2:5]
        uvloop.run(count(int(port), float(seconds), int(connections), sys.argv[5:]))
