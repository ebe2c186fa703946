"""security.md section 5: slow readers and senders at the portal's own ports, plain and by TLS."""

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from itertools import repeat

import pytest
from lib.certificates import Authority
from lib.waiting import until
from systems.portal import Limits, PortalAtWork

from dit4c_p2p.portal.keys import events

HOST = "portal.example.test"
# Four times a limit below, and more: what is not cut by then is not cut by it.
CUT_S = 20
# The least that the kernel gives, so that a visitor is behind at once.
LEAST_WINDOW_BYTES = 2048
# One that is larger than a segment is here on loopback, as it is on any other network.
WINDOW_BYTES = 256 * 1024


@dataclass
class Door:
    """One of the portal's ports."""

    work: PortalAtWork
    port: int
    tls: ssl.SSLContext | None

    @property
    def visitors(self) -> int:
        return self.work.portal._server.connections

    async def visit(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A visitor that reads as fast as it can."""
        more = {} if self.tls is None else {"ssl": self.tls, "server_hostname": HOST}
        return await asyncio.open_connection("127.0.0.1", self.port, **more)

    def visit_and_read_nothing(
        self, data: bytes, window_bytes: int = LEAST_WINDOW_BYTES
    ) -> socket.socket:
        """A visitor that says ``data`` and takes none of the answers; to be run in a thread."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        sock.settimeout(CUT_S)
        sock.connect(("127.0.0.1", self.port))
        if self.tls is not None:
            sock = self.tls.wrap_socket(sock, server_hostname=HOST)
        with contextlib.suppress(OSError):  # cut before it has said everything
            sock.sendall(data)
        return sock

    async def is_well(self) -> None:
        """Others are served."""
        reader, writer = await self.visit()
        writer.write(get("/config.json", "Connection: close"))
        async with asyncio.timeout(CUT_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


def get(path: str, *fields: str) -> bytes:
    """A request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {HOST}", *fields, "", ""]).encode()


@pytest.fixture(params=["plain", "tls"])
async def door(request, tmp_path, monkeypatch):
    """A portal that waits for nothing long."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)
    authority = Authority(tmp_path / "authority")
    limits = Limits(
        head_s=0.5, body_s=2, body_silence_s=0.5, handshake_s=0.5, stalled_s=2,
        connections=64, connections_per_address=32,
    )  # fmt: skip
    work = PortalAtWork(tmp_path, limits)
    work.url = f"https://{HOST}"
    work.with_config(
        url=work.url,
        secure_addresses=(("127.0.0.1", 0),),
        tls=authority.files("portal", HOST),
    )
    async with work:
        server = work.portal._server
        if request.param == "plain":
            yield Door(work, server.ports[0], None)
        else:
            yield Door(work, server.secure_ports[0], authority.client())


@pytest.mark.parametrize(
    "asked",
    [get("/api/openapi.json") * 100, get("/keys/events")],
    ids=["large pages", "events"],
)
async def test_readers_that_take_nothing_are_cut_and_hold_nobody_up(door, asked):
    slow = await asyncio.gather(
        *(asyncio.to_thread(door.visit_and_read_nothing, asked) for _ in range(8))
    )
    try:
        assert door.visitors == 8
        await door.is_well()
        await until(lambda: door.visitors == 0, CUT_S)
    finally:
        for sock in slow:
            sock.close()
    await door.is_well()


async def test_a_reader_that_takes_a_little_now_and_then_gets_everything(door):
    """Over a time that is longer than the limit for one that takes nothing."""
    pages = 60
    asked = get("/api/openapi.json") * pages + get("/nothing")
    sock = await asyncio.to_thread(door.visit_and_read_nothing, asked, WINDOW_BYTES)
    received, began = b"", asyncio.get_running_loop().time()
    while b"HTTP/1.1 404 " not in received[-128 * 1024 :]:
        data = await asyncio.to_thread(sock.recv, 64 * 1024)
        assert data, "cut short"
        received += data
        await asyncio.sleep(len(data) / 700_000)
    sock.close()
    assert asyncio.get_running_loop().time() - began > door.work.config.limits.stalled_s
    assert received.count(b"HTTP/1.1 200 ") == pages


@pytest.mark.parametrize("begun", [b"", b"GET /config.json HTTP/1.1\r\nX-A"], ids=["", "begun"])
async def test_senders_of_a_head_that_does_not_end_are_cut(door, begun):
    """Also on a connection that has had an answer."""
    reader, writer = await door.visit()
    writer.write(get("/config.json") + begun)
    await reader.readuntil(b"\r\n\r\n")
    silent = [await door.visit() for _ in range(8)]

    async def trickle():
        for byte in repeat(b"a"):
            writer.write(byte)
            for _, one in silent[4:]:
                one.write(byte)
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    try:
        async with asyncio.timeout(CUT_S):
            for one in (reader, *(reader for reader, _ in silent)):
                with contextlib.suppress(ConnectionError):
                    await one.read()
        await until(lambda: door.visitors == 0, CUT_S)
    finally:
        trickling.cancel()
        for _, one in silent:
            one.close()
        writer.close()
    await door.is_well()


@pytest.mark.parametrize("trickles", [False, True])
async def test_senders_of_a_body_that_does_not_end_are_told_and_cut(door, trickles):
    reader, writer = await door.visit()
    head = get("/oauth/token", "Content-Type: application/x-www-form-urlencoded",
               "Content-Length: 1000")  # fmt: skip
    writer.write(head.replace(b"GET", b"POST", 1))
    # The head alone: a reset ends the connection of a sender who goes on after the answer.
    reading = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    async with asyncio.timeout(CUT_S):
        while trickles and not reading.done():
            writer.write(b"x")
            await asyncio.sleep(0.05)
        said = await reading
    assert said.startswith(b"HTTP/1.1 408 ") and b"\r\nConnection: close\r\n" in said
    writer.close()
    await until(lambda: door.visitors == 0, CUT_S)


@pytest.mark.parametrize("door", ["tls"], indirect=True)
@pytest.mark.parametrize(
    "said",
    [b"", b"\x16\x03\x01", get("/config.json")],
    ids=["nothing", "a beginning", "no handshake"],
)
async def test_handshakes_that_do_not_end_are_cut(door, said):
    silent = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(32)]
    for _, writer in silent:
        writer.write(said)
    if not said:
        await until(lambda: door.visitors == 32)
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert await reader.read() == b"", "one more has no place"
        writer.close()
    async with asyncio.timeout(CUT_S):
        for reader, _ in silent:
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
    await until(lambda: door.visitors == 0, CUT_S)
    for _, writer in silent:
        writer.close()
    await door.is_well()
