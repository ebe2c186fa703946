"""The SSH side: names, keys, caps, the relay; with our client and with stock OpenSSH's."""

import asyncio
import contextlib
import re
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from lib.paths import ROOT
from lib.silent_wire import Wire
from lib.waiting import until
from systems.router import House, a_house, hello

from dit4c_p2p.identity.keys import fingerprint, generate, write_private
from dit4c_p2p.overlay.client import connect_router, dial
from dit4c_p2p.overlay.errors import NotVerified, OverlayError, Refused, Unreachable
from dit4c_p2p.overlay.server import ConnectionAdmission, PeerServer
from dit4c_p2p.overlay.ssh_options import SERVER_OPTIONS, Identity
from dit4c_p2p.router import Limits
from dit4c_p2p.router.ssh_server import RouterServer

# ---- listen


async def test_stock_ssh_listens_by_name(house: House) -> None:
    """issue: `-R` by name with UserKnownHostsFile from /known_hosts."""
    port = await house.app(hello)
    await house.ssh(house.peer("instance-abc"), "-N", "-R", f"instance-abc:80:127.0.0.1:{port}")
    await house.listened("instance-abc")
    answer = await house.get("abc.localhost", "/it/works")
    assert (answer.status, answer.body) == (200, b"/it/works")


async def test_stock_ssh_listens_for_a_unix_socket(house: House) -> None:
    path = house.folder / "app.sock"
    server = await asyncio.start_unix_server(hello, path)
    house.stack.callback(server.close)
    await house.ssh(house.peer("instance-abc"), "-N", "-R", f"instance-abc:80:{path}")
    await house.listened("instance-abc")
    assert (await house.get("abc.localhost", "/unix")).body == b"/unix"


async def test_stock_ssh_exchanges_keys_in_the_middle_of_a_download(house: House) -> None:
    body = bytes(range(256)) * 40_000

    async def app(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    port = await house.app(app)
    forward = ("-N", "-o", "RekeyLimit=1M", "-R", f"instance-abc:80:127.0.0.1:{port}")
    await house.ssh(house.peer("instance-abc"), *forward)
    await house.listened("instance-abc")
    for _ in range(3):
        assert (await house.get("abc.localhost")).body == body


@pytest.mark.parametrize(
    "bind", ["instance-other:80", "80", "*:80", "127.0.0.1:80", "instance-abc:8080", "node-abc:22"]
)
async def test_row_2_5_a_foreign_name_is_refused(house: House, bind: str) -> None:
    """security.md 2.5: the server picks the endpoint from the identity."""
    process = await house.ssh(house.peer("instance-abc"), "-v", "-N", "-R", f"{bind}:127.0.0.1:9")
    assert process.stderr is not None
    async with asyncio.timeout(10):
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 255
    assert "remote port forwarding failed" in said.lower()
    assert "may not listen for" in said and "instance-abc:80" in said
    assert len(house.router.board.table) == 0


async def test_row_2_5_nothing_else_of_ssh_is_served(house: House) -> None:
    """No sessions, no commands, no Unix forwards, no ports of the machine, no agent."""
    connection = await house.connect(house.peer("instance-abc"))
    for attempt in (
        connection.run("id"),
        connection.start_sftp_client(),
        connection.create_process(),
        connection.open_unix_connection("/etc/passwd"),
        connection.start_unix_server(lambda: lambda r, w: None, "/tmp/x.sock"),
        connection.start_server(lambda h, p: lambda r, w: None, "127.0.0.1", 0),
    ):
        with pytest.raises((asyncssh.Error, asyncssh.ChannelListenError, OSError)):
            await attempt
    assert not connection.is_closed()


async def test_the_newest_takes_over_and_the_older_is_closed(house: House) -> None:
    async def one(reader: Any, writer: Any) -> None:
        await answer_with(reader, writer, b"one")

    async def two(reader: Any, writer: Any) -> None:
        await answer_with(reader, writer, b"two")

    identity = house.peer("instance-abc")
    older = await house.tunnel("instance-abc", one, identity)
    assert (await house.get("abc.localhost")).body == b"one"
    newer = await house.tunnel("instance-abc", two, identity)
    async with asyncio.timeout(5):
        await older.wait_closed()
    assert (await house.get("abc.localhost")).body == b"two"
    assert not newer.is_closed()


async def test_a_name_is_free_again_when_its_connection_ends(house: House) -> None:
    connection = await house.tunnel("instance-abc", hello)
    connection.abort()
    await until(lambda: house.holder("instance-abc") is None)


# ---- keys


async def test_row_4_no_login_without_a_published_key(house: House) -> None:
    """security.md 4: logins to a peer whose key is not published: 0."""
    published = house.peer("instance-abc")
    for identity in (
        Identity(published.name, generate()),
        Identity(house.peer("instance-xyz").name, published.key),
        Identity(house.peer("user-ann").name, published.key),
    ):
        with pytest.raises(Refused):
            await connect_router(identity, house.info, house.registry)
    process = await house.ssh(Identity(published.name, generate()), "-N")
    assert await process.wait() == 255


async def test_row_4_a_kind_that_has_nothing_to_do_here_is_refused(house: House) -> None:
    with pytest.raises(Refused):
        await connect_router(house.peer("imageserver-main"), house.info, house.registry)


async def test_row_4_a_peer_is_who_it_proves_to_be_whatever_else_it_has_claimed(
    house: House,
) -> None:
    """security.md 1: identity comes from the key, never from what is said."""
    mine, other = house.peer("instance-abc"), house.peer("instance-xyz")
    server = RouterServer(house.router.board)

    async def asks(identity: Identity, key: asyncssh.SSHKey) -> bool:
        assert await server.begin_auth(str(identity.name))
        return await server.validate_public_key(str(identity.name), key.convert_to_public())

    assert await asks(mine, mine.key)
    assert await asks(other, other.key)  # anybody may ask about a key: it is published
    assert not await asks(other, mine.key)
    assert await asks(mine, mine.key)  # and signs now, with its own
    assert (server.peer, server.fingerprint) == (mine.name, fingerprint(mine.key))
    assert server.document.name == mine.name


async def test_row_4_a_revoked_key_is_refused(house: House) -> None:
    """security.md 4: revocation refused everywhere ≤ 5 s."""
    identity = house.peer("instance-abc")
    (await connect_router(identity, house.info, house.registry)).abort()
    house.portal.revoke(identity.name)
    since = time.monotonic()
    while True:
        try:
            (await connect_router(identity, house.info, house.registry)).abort()
        except Refused:
            break
        assert time.monotonic() - since < 5
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("client", ["ours", "stock"])
async def test_row_4_a_revoked_keys_live_tunnel_is_cut(house: House, client: str) -> None:
    """security.md 4: live tunnels cut ≤ 10 s."""
    identity = house.peer("instance-abc")
    if client == "ours":
        connection = await house.tunnel("instance-abc", hello, identity)
        ended: Any = connection.wait_closed()
    else:
        port = await house.app(hello)
        process = await house.ssh(identity, "-N", "-R", f"instance-abc:80:127.0.0.1:{port}")
        ended = process.wait()
    await house.listened("instance-abc")
    house.portal.page_states["abc"] = {"state": "gone", "title": "Lab"}
    house.portal.revoke(identity.name)
    async with asyncio.timeout(10):
        await ended
    assert (await house.get("abc.localhost")).status == 410


async def test_row_4_cut_as_well_when_the_events_are_silenced(house: House) -> None:
    """security.md 2.17: events silenced to hide a revocation."""
    identity = house.peer("instance-abc")
    connection = await house.tunnel("instance-abc", hello, identity)
    house.portal.heartbeats = False
    house.portal.revoke(identity.name)
    async with asyncio.timeout(15):
        await connection.wait_closed()


async def test_row_2_1_a_wrong_host_key_is_refused_by_each_client(house: House) -> None:
    """security.md 2.1: host keys are published and checked."""
    identity = house.peer("instance-abc")
    house.portal.revoke(house.router.config.name)
    house.portal.publish(house.router.config.name, generate())
    await until(lambda: house.registry.live)
    with pytest.raises(NotVerified):
        await connect_router(identity, house.info, house.registry)
    process = await house.ssh(identity, "-N")
    assert process.stderr is not None
    assert b"verification failed" in await process.stderr.read()
    assert await process.wait() == 255


# ---- caps


async def bare(house: House, source: str) -> asyncio.StreamReader:
    """A TCP connection that doesn't log in."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.router.ssh_port, local_addr=(source, 0)
    )
    house.stack.callback(writer.close)
    return reader


async def greeted(reader: asyncio.StreamReader) -> bool:
    """Whether the connection is kept: a version line comes, and no end of file right after."""
    async with asyncio.timeout(5):
        try:
            if not await reader.readline():
                return False
            async with asyncio.timeout(0.05):
                return bool(await reader.read(1))  # the key exchange begins
        except TimeoutError:
            return True
        except ConnectionError:
            return False


async def test_row_4_eight_connections_an_address_before_login(house: House) -> None:
    """The ninth waits until the oldest has had 2 s, and then takes its place."""
    gate = house.router.board.gate
    readers = [await bare(house, "127.0.0.2") for _ in range(9)]
    assert await greeted(await bare(house, "127.0.0.3"))
    assert gate._waiting["127.0.0.2"] == 8
    assert all([await greeted(reader) for reader in readers[1:8]])
    assert await greeted(readers[8])
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            await readers[0].read()  # to its end
    assert gate._waiting["127.0.0.2"] == 8


async def test_row_2_17_hostile_addresses_do_not_lock_known_ones_out(house: House) -> None:
    """security.md 2.17 and 4: 64 before login in all, slots kept for known addresses."""
    identity, gate = house.peer("instance-abc"), house.router.board.gate
    (await connect_router(identity, house.info, house.registry)).abort()
    for host in range(2, 12):
        for _ in range(8):
            await bare(house, f"127.0.0.{host}")
    await until(lambda: len(gate._before_login) == 48)
    async with asyncio.timeout(2):
        connection = await connect_router(identity, house.info, house.registry)
    assert len(gate._before_login) <= 48
    connection.abort()


async def test_row_4_connections_and_streams_have_their_limits(strict_house: House) -> None:
    """security.md 4: ≤ 4 tunnels a key, ≤ 256 channels a tunnel; here 2 and 5."""
    house = strict_house
    identity = house.peer("instance-abc")
    connections = [await house.connect(identity) for _ in range(3)]
    async with asyncio.timeout(5):
        await connections[2].wait_closed()
    assert not connections[0].is_closed() and not connections[1].is_closed()

    async def silent(reader: Any, writer: Any) -> None:
        await reader.read()
        writer.close()

    await connections[0].start_server(lambda h, p: silent, "instance-abc", 80, encoding=None)
    visits = [await house.visit() for _ in range(5)]
    for _, writer in visits:
        writer.write(b"GET / HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
    server = house.holder("instance-abc")
    await until(lambda: server.channels == 5)
    answer = await house.get("abc.localhost", Accept="application/json")
    assert (answer.status, answer.json()["code"]) == (503, "busy")
    for _, writer in visits:
        writer.close()
    await until(lambda: server.channels == 0)


async def test_row_4_four_tunnels_a_key_and_256_channels_a_tunnel(house: House) -> None:
    """The numbers as they are; a scheduler has a connection for each node, and many nodes."""
    target = house.peer("node-home", "main")
    tunnels = [await house.connect(target) for _ in range(5)]
    async with asyncio.timeout(5):
        await tunnels[4].wait_closed()
    assert not any(tunnel.is_closed() for tunnel in tunnels[:4])

    async def silent(reader: Any, writer: Any) -> None:
        await reader.read()
        writer.close()

    await tunnels[0].start_server(lambda h, p: silent, "node-home", 22, encoding=None)
    identity = house.peer("scheduler-main")
    callers = [await house.connect(identity) for _ in range(5)]
    streams = [await callers[0].open_connection("node-home", 22) for _ in range(256)]
    with pytest.raises(asyncssh.ChannelOpenError, match="256 channels") as caught:
        await callers[0].open_connection("node-home", 22)
    assert caught.value.code == asyncssh.OPEN_RESOURCE_SHORTAGE
    with pytest.raises(asyncssh.ChannelOpenError, match="as many streams open as it may"):
        await callers[4].open_connection("node-home", 22)
    for _, writer in streams:
        writer.close()
    holder = house.holder("node-home", 22)
    await until(lambda: holder.channels == 0)
    await callers[4].open_connection("node-home", 22)


async def test_row_4_the_login_grace_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """security.md 4: before login, 20 s; here half of one."""
    assert SERVER_OPTIONS["login_timeout"] == 20
    monkeypatch.setitem(SERVER_OPTIONS, "login_timeout", 0.5)
    async with a_house(tmp_path, Limits()) as house:
        reader = await bare(house, "127.0.0.2")
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"SSH-2.0-")
            await reader.read()


async def test_row_4_a_half_open_peer_is_noticed(house: House) -> None:
    """security.md 4: a dead peer is noticed ≤ 15 s, half-open TCP included."""
    async with Wire(house.router.ssh_port) as wire:
        app = await house.app(hello)
        forward = ("-N", "-R", f"instance-abc:80:127.0.0.1:{app}")
        await house.ssh(house.peer("instance-abc"), *forward, port=wire.port)
        await house.listened("instance-abc")
        wire.flows.clear()
        since = time.monotonic()
        await until(lambda: house.holder("instance-abc") is None, 15)
        assert time.monotonic() - since > 5


# ---- the relay


class NodeServer(PeerServer):
    """A node's server in the overlay, which says hello to a command."""

    def session_requested(self) -> Any:
        async def session(stdin: Any, stdout: Any, stderr: Any) -> None:
            stdout.write(f"hello {self.peer}\n")
            stdout.channel.exit(0)

        return session


async def node(house: House, name: str, scheduler: str) -> Identity:
    """A node that listens only in the overlay."""
    identity = house.peer(name, scheduler)
    beneath = await house.connect(identity)
    gate = ConnectionAdmission(house.registry)
    house.stack.push_async_callback(gate.close)
    await asyncssh.listen(
        name,
        22,
        tunnel=beneath,
        server_factory=lambda: NodeServer(gate),
        server_host_keys=[identity.key],
        **SERVER_OPTIONS,
    )
    return identity


async def test_a_scheduler_reaches_its_node_end_to_end(house: House) -> None:
    target = await node(house, "node-home", "main")
    scheduler = house.peer("scheduler-main")
    async with await dial(scheduler, target.name, 22, [house.info], house.registry) as connection:
        result = await connection.run("hello")
    assert result.stdout == "hello scheduler-main\n"


async def test_stock_ssh_jumps_through_the_router(house: House) -> None:
    """`ssh -J`, with the node's own host key checked."""
    await node(house, "node-home", "main")
    scheduler = house.peer("scheduler-main")
    key = house.folder / "scheduler.key"
    write_private(key, scheduler.key)
    config = house.folder / "ssh_config"
    config.write_text(
        f"Host *\n  UserKnownHostsFile {await house.known_hosts()}\n"
        f"  StrictHostKeyChecking yes\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
        f"  BatchMode yes\n  User scheduler-main\n"
        f"Host router-main\n  HostName 127.0.0.1\n  Port {house.router.ssh_port}\n"
        f"  HostKeyAlias router-main\n"
    )
    process = await asyncio.create_subprocess_exec(
        *("ssh", "-F", str(config), "-J", "router-main", "node-home", "hello"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(15):
        said, trouble = await process.communicate()
    assert said == b"hello scheduler-main\n", trouble


@pytest.mark.parametrize(
    ("caller", "target", "port", "error", "text"),
    [
        ("scheduler-other", "node-home", 22, Refused, "may not reach node-home"),
        ("instance-abc", "node-home", 22, Refused, "an? instance may not reach a node"),
        ("node-else", "node-home", 22, Refused, "a node may not reach a node"),
        ("scheduler-main", "instance-abc", 22, Refused, "may not reach a"),
        ("scheduler-main", "node-home", 80, Refused, "at port 22 only"),
        ("scheduler-main", "node-away", 22, Unreachable, "not connected to this router"),
    ],
)
async def test_row_2_17_the_relay_keeps_to_its_table(
    house: House, caller: str, target: str, port: int, error: type[OverlayError], text: str
) -> None:
    """security.md 2.17: a relay that lets any key reach any peer."""
    await node(house, "node-home", "main")
    for name, scheduler in (("node-away", "main"), ("instance-abc", None), ("node-else", "main")):
        if name != caller:
            house.peer(name, scheduler)
    identity = house.peer(caller, "main" if caller.startswith("node") else None)
    peer = identity.name.parse(target)
    with pytest.raises(error, match=text):
        await dial(identity, peer, port, [house.info], house.registry)


async def test_no_keys_are_fetched_for_a_peer_that_may_reach_nobody(house: House) -> None:
    """Names cost nothing to make up; what is published for each is asked of the portal."""
    connection = await house.connect(house.peer("instance-abc"))
    for host in ("node-home", "node-made-up", "instance-xyz"):
        with pytest.raises(asyncssh.ChannelOpenError, match="may not reach"):
            await connection.open_connection(host, 22)
    assert {str(name) for name in house.portal.lookups} == {"instance-abc", "router-main"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "example.org"])
async def test_row_2_17_names_only_never_addresses(house: House, host: str) -> None:
    connection = await house.connect(house.peer("scheduler-main"))
    with pytest.raises(asyncssh.ChannelOpenError) as caught:
        await connection.open_connection(host, house.router.http_port)
    assert re.search("not the name of a peer.*never connects to addresses", caught.value.reason)
    assert not connection.is_closed()


async def test_the_relay_carries_much_both_ways(house: House) -> None:
    """Back-pressure and both directions, through the two ends that are joined."""
    target = await node(house, "node-home", "main")
    scheduler = house.peer("scheduler-main")
    identity = house.holder("node-home", 22)
    async with await dial(scheduler, target.name, 22, [house.info], house.registry) as connection:
        results = await asyncio.gather(*(connection.run("hello") for _ in range(20)))
        assert {result.stdout for result in results} == {"hello scheduler-main\n"}
    await until(lambda: identity.channels == 0)


async def answer_with(reader: Any, writer: Any, body: bytes) -> None:
    """One answer, then closed."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    writer.close()


def test_known_hosts_are_always_checked() -> None:
    """security.md 2.1: `known_hosts=None` appears nowhere."""
    package = ROOT / "dit4c_p2p"
    for source in package.rglob("*.py"):
        assert not re.search(r"known_hosts\s*=\s*None", source.read_text()), source
