"""Newcomers at an SSH server's address: who waits, who gives way, and who always gets in."""

import asyncio
import contextlib
import shutil
import time

import asyncssh
import pytest
from fakes.registry import RegistryPortal

from dit4c_p2p.identity.keys import generate, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.overlay import ssh_listener
from dit4c_p2p.overlay.server import ConnectionAdmission, Limits, PeerServer
from dit4c_p2p.overlay.ssh_listener import SshListener
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, SERVER_OPTIONS

NODE = PeerName.parse("node-home")
# security.md, section 4: whatever connections its address holds.
IN_S = 2.5


class Server:
    """An SSH server of the house on an address, with its portal."""

    async def __aenter__(self):
        self.portal = await RegistryPortal().__aenter__()
        self.client = await PortalClient(self.portal.info).__aenter__()
        _, self.key = self.portal.new_peer("router-main")
        _, self.node_key = self.portal.new_peer(str(NODE))
        self.listener = None
        return self

    async def listen(self, limits=None):
        self.admission = ConnectionAdmission(Registry(self.client, None), limits=limits)
        self.listener = SshListener(
            self.admission,
            server_factory=lambda: PeerServer(self.admission),
            server_host_keys=[self.key],
            **SERVER_OPTIONS,
        )
        self.port = await self.listener.listen("127.0.0.1", 0)

    async def __aexit__(self, *error):
        if self.listener is not None:
            self.listener.close()
            await self.admission.close()
        await self.client.__aexit__(None, None, None)
        await self.portal.stop()

    async def log_in(self, source="127.0.0.1", key=None):
        """The node, which tries again when it is turned away as ``Listening`` does."""
        began = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(20):
                    connection = await asyncssh.connect(
                        "127.0.0.1",
                        self.port,
                        local_addr=(source, 0),
                        username=str(NODE),
                        client_keys=[key or self.node_key],
                        known_hosts=([self.key.convert_to_public()], [], []),
                        **CLIENT_OPTIONS,
                    )
                return connection, time.monotonic() - began
            except (asyncssh.ConnectionLost, ConnectionError):
                await asyncio.sleep(0.5)


@pytest.fixture
async def server():
    async with Server() as server:
        yield server


class Crowd:
    """Connections that never log in; ``speaking`` ones begin as SSH does, and stop there."""

    def __init__(self, port, *, speaking):
        self.port, self.speaking, self.open = port, speaking, []

    async def come(self, source, count=1):
        for _ in range(count):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(source, 0)
            )
            if self.speaking:
                writer.write(b"SSH-2.0-crowd\r\n")
            self.open.append(writer)

    async def keep_coming(self, sources, every_s):
        turn = 0
        while True:
            await self.come(sources[turn % len(sources)])
            turn += 1
            await asyncio.sleep(every_s)

    def close(self):
        for writer in self.open:
            writer.transport.abort()


@pytest.fixture
def crowds():
    crowds = []
    yield crowds
    for crowd in crowds:
        crowd.close()


@pytest.mark.parametrize("speaking", [False, True])
async def test_a_published_key_logs_in_however_busy_its_address_is(server, crowds, speaking):
    """Eight idle connections from a node's own address kept it out; behind NAT that is a pod."""
    await server.listen()
    crowds.append(Crowd(server.port, speaking=speaking))
    await crowds[0].come("127.0.0.1", 12)
    connection, took_s = await server.log_in()
    assert took_s < IN_S
    connection.close()


async def test_a_login_succeeds_beside_64_held_connections_and_20_new_ones_a_second(server, crowds):
    """A node, whose address is one of theirs, comes back within 20 s; the caps are as they are."""
    await server.listen()
    assert (Limits().unauthenticated, Limits().unauthenticated_per_address) == (64, 8)
    sources = [f"127.0.0.{n}" for n in range(1, 9)]
    crowds.append(Crowd(server.port, speaking=True))
    for source in sources:
        await crowds[0].come(source, 8)
    coming = asyncio.create_task(crowds[0].keep_coming(sources, 1 / 20))
    try:
        times = []
        for _ in range(3):
            connection, took_s = await server.log_in()
            times.append(took_s)
            connection.abort()  # the node's line is cut
        assert max(times) < 20, times
        print(f"back after {', '.join(f'{one:.1f}' for one in times)} s")
        assert len(server.admission._before_login) <= Limits().unauthenticated
        assert max(server.admission._waiting.values()) <= Limits().unauthenticated_per_address
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def test_failures_of_a_neighbour_do_not_slow_a_published_key(server):
    await server.listen()
    for _ in range(8):
        server.admission.failed("127.0.0.1")
    assert server.admission.delay_s("127.0.0.1") > 1
    connection, took_s = await server.log_in()
    assert took_s < 1
    connection.close()


async def test_waiting_connections_are_bounded(server, crowds, monkeypatch):
    monkeypatch.setattr(ssh_listener, "_MAX_WAITING", 6)
    monkeypatch.setattr(ssh_listener, "_MAX_WAITING_PER_ADDRESS", 4)
    limits = Limits(unauthenticated=2, kept_for_known=0, gives_way_after_s=100)
    await server.listen(limits)
    crowds.append(Crowd(server.port, speaking=True))
    for n in range(1, 6):
        await crowds[0].come(f"127.0.0.{n}", 5)
    waiting = server.listener._waiting
    async with asyncio.timeout(5):
        while len(waiting) != 6 or not all(one.speaks for one in waiting):
            await asyncio.sleep(0.01)
    sites = [one.site for one in waiting]
    assert max(sites.count(site) for site in sites) <= 4


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"SSX"])
async def test_connections_that_are_not_ssh_are_closed_at_once(server, crowds, first):
    await server.listen(Limits(unauthenticated=1, kept_for_known=0, gives_way_after_s=100))
    crowds.append(Crowd(server.port, speaking=True))
    await crowds[0].come("127.0.0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(first)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_dropbear_logs_in(server, tmp_path):
    """It sends its first packet of the key exchange before it knows what the server can do."""
    program = shutil.which("dbclient")
    assert program, "the tests need Debian's dropbear-bin"
    await server.listen()
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    server.portal.publish(NODE, key)
    write_private(tmp_path / "key", key)
    made = await asyncio.create_subprocess_exec(
        *("dropbearconvert", "openssh", "dropbear", tmp_path / "key", tmp_path / "dropbear"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert await made.wait() == 0, await made.stderr.read()
    process = await asyncio.create_subprocess_exec(
        *(program, "-y", "-N", "-i", tmp_path / "dropbear", "-p", str(server.port)),
        f"{NODE}@127.0.0.1",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(tmp_path)},
    )
    try:
        async with asyncio.timeout(10):
            while not server.admission._watching:
                assert process.returncode is None, await process.stderr.read()
                await asyncio.sleep(0.05)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_stranger_with_another_key_is_refused(server):
    await server.listen()
    with pytest.raises(asyncssh.PermissionDenied):
        await server.log_in(key=generate())
