"""A TCP proxy that counts bytes and may be slow: a line to a registry.

``python -m scripts.benchmarks.parts.line HOST PORT`` prints its own port. Each line on its standard
input is a rate in bytes a second (0: as fast as can be); it answers with the bytes that went each
way since the last one.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE_BYTES = 256 * 1024
_SLOW_PIECE_BYTES = 16 * 1024


@dataclass
class Traffic:
    """Bytes to the registry, and from it."""

    up: int
    down: int


class Line:
    """The other end of a proxy's standard input."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.port = port

    def begin(self, mbit: float = 0) -> None:
        """Count from here on, at most so fast each way."""
        self._ask(mbit)

    def end(self) -> Traffic:
        """What went over it since :meth:`begin`."""
        return self._ask(0)

    def _ask(self, mbit: float) -> Traffic:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{mbit * 1e6 / 8:.0f}\n")
        self._process.stdin.flush()
        up, down = self._process.stdout.readline().split()
        return Traffic(int(up), int(down))


@contextlib.contextmanager
def line(host: str, port: int) -> Iterator[Line]:
    """A line that listens at ``host`` and leads to ``port`` on loopback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.parts.line", host, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Line(process, int(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(10)


class _Proxy:
    def __init__(self, port: int) -> None:
        self._port = port
        self.rate = 0.0
        self.sent = [0, 0]
        self._free_at = [0.0, 0.0]

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join a connection with one to the registry."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pump(reader, far_writer, 0), self._pump(far_reader, writer, 1))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(_SLOW_PIECE_BYTES if self.rate else _PIECE_BYTES):
                self.sent[way] += len(data)
                if self.rate:
                    # All connections share the line.
                    start = max(loop.time(), self._free_at[way])
                    self._free_at[way] = start + len(data) / self.rate
                    await asyncio.sleep(self._free_at[way] - loop.time())
                writer.write(data)
                await writer.drain()
        except OSError as error:
            print(f"a connection broke: {error}", file=sys.stderr)
        finally:
            writer.close()


async def _serve(host: str, port: int) -> None:
    proxy = _Proxy(port)
    server = await asyncio.start_server(proxy.accept, host, 0, limit=_PIECE_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    while text := await asyncio.to_thread(sys.stdin.readline):
        print(*proxy.sent, flush=True)
        proxy.rate, proxy.sent = float(text), [0, 0]


if __name__ == "__main__":
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(sys.argv[1], int(sys.argv[2])))
