"""A TCP proxy that holds every byte back for half a round trip each way: a long line.

``python -m scripts.benchmarks.parts.delay_proxy PORT ROUND_TRIP_S`` prints its own port.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

_PIECE_BYTES = 256 * 1024
# What one direction holds: more than any contestant's window in flight.
_MOST_PIECES = 1024


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_PIECES)

    async def take() -> None:
        while data := await reader.read(_PIECE_BYTES):
            await held.put((loop.time() + delay_s, data))
        await held.put((loop.time() + delay_s, b""))

    taking = asyncio.create_task(take())
    try:
        while True:
            at, data = await held.get()
            await asyncio.sleep(max(0.0, at - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # one end hung up; the other is told below
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        writer.close()


async def _serve(port: int, round_trip_s: float) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        delay_s = round_trip_s / 2
        await asyncio.gather(_pump(reader, far_writer, delay_s), _pump(far_reader, writer, delay_s))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_PIECE_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def delayed(port: int, round_trip_s: float) -> Iterator[int]:
    """The port of a proxy before ``port``; without a delay, that port itself."""
    if not round_trip_s:
        yield port
        return
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "scripts.benchmarks.parts.delay_proxy",
            str(port),
            str(round_trip_s),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)


if __name__ == "__main__":
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
