"""Visitors that vanish without a word: in a network namespace that drops all that comes."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from dit4c_p2p.net import dead_peers
from dit4c_p2p.net.listener import ConnectionLimiter, Listener, ListenerOptions

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")

STALLED_S = 6.0
CLIENT = """
import socket, sys, time
one = socket.create_connection((sys.argv[1], int(sys.argv[2])))
one.send(b"x")
time.sleep(60)
"""
DROP = "table ip gone { chain incoming { type filter hook input priority 0; policy drop; }; }"


def run(*command: str, data: str = "") -> None:
    subprocess.run(command, input=data, check=True, text=True, capture_output=True, timeout=20)


class Visit(asyncio.Protocol):
    """The server's end of the one connection."""

    def __init__(self, place, loop) -> None:
        self.place = place
        self.came, self.ended = loop.create_future(), loop.create_future()

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data) -> None:
        self.came.set_result(None)

    def connection_lost(self, exc) -> None:
        self.place.leave()
        self.ended.set_result(exc)


class Home:
    """A namespace with a client in it, and a listener outside."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def takes_nothing(self) -> None:
        """Until the kernel asks it whether it takes more."""
        sock = self.visit.transport.get_extra_info("socket")
        async with asyncio.timeout(10):
            while not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[4]:  # the backoff
                await asyncio.sleep(0.02)

    def vanish(self) -> None:
        run("ip", "netns", "exec", self.name, "nft", "-f", "-", data=DROP)


@pytest.fixture
async def home(monkeypatch) -> AsyncIterator[Home]:
    for name, value in (("_IDLE_S", 1), ("_INTERVAL_S", 1), ("_COUNT", 2)):
        monkeypatch.setattr(dead_peers, name, value)
    monkeypatch.setattr(dead_peers, "_UNANSWERED_S", 1.5)
    monkeypatch.setattr(dead_peers, "_LOOK_S", 0.2)
    number = os.getpid() % 200
    home = Home(f"dead-{number}")
    near, far = f"10.222.{number}.1", f"10.222.{number}.2"
    link, loop = f"dead{number}", asyncio.get_running_loop()
    run("ip", "netns", "add", home.name)
    process = None
    options = ListenerOptions(ConnectionLimiter(10, 10), stalled_s=STALLED_S)
    visits: asyncio.Queue[Visit] = asyncio.Queue()

    def visit(place):
        one = Visit(place, loop)
        visits.put_nowait(one)
        return one

    listener = Listener(visit, options)
    try:
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", home.name)
        run("ip", "address", "add", f"{near}/30", "dev", link)
        run("ip", "link", "set", link, "up")
        run("ip", "-n", home.name, "address", "add", f"{far}/30", "dev", "eth0")
        run("ip", "-n", home.name, "link", "set", "eth0", "up")
        port = listener.listen(near, 0)
        command = ("ip", "netns", "exec", home.name, sys.executable, "-c", CLIENT, near, str(port))
        process = subprocess.Popen(command)
        async with asyncio.timeout(20):
            home.visit = await visits.get()
            await home.visit.came
        yield home
    finally:
        listener.close()
        await listener.wait_closed()
        if process is not None:
            process.kill()
            process.wait(10)
        subprocess.run(["ip", "link", "del", link], check=False, capture_output=True, timeout=20)
        run("ip", "netns", "del", home.name)


@pytest.mark.parametrize("state", ["idle", "sending", "resting"])
async def test_a_dead_peer_is_noticed(home, state):
    if state == "resting":
        home.visit.transport.write(b"x" * 20_000_000)
        await home.takes_nothing()
    home.vanish()
    since = time.monotonic()
    if state == "sending":
        home.visit.transport.write(b"x" * 5000)
    async with asyncio.timeout(20):
        await home.visit.ended
    assert time.monotonic() - since < STALLED_S - 2


async def test_a_peer_that_takes_no_byte_is_kept_until_the_limit(home):
    """It is there and takes nothing; what it does not take is kept for it."""
    since = time.monotonic()
    home.visit.transport.write(b"x" * 20_000_000)
    async with asyncio.timeout(20):
        await home.visit.ended
    assert STALLED_S - 0.5 < time.monotonic() - since < STALLED_S + 3
    assert not home.visit.place.within or home.visit.place._gone
