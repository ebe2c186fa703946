"""Logins, calls and cuts between real SSH ends."""

import asyncio

import asyncssh
import pytest
from fakes.registry import RegistryPortal

from dit4c_p2p.identity.keys import generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.codec import MAX_MESSAGE_BYTES, InvalidMessage, decode
from dit4c_p2p.messages.node import DiscardPod, NodeReply, NodeRequest, PodGone, Progress
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.overlay.client import connect_router
from dit4c_p2p.overlay.errors import NotVerified, Refused, Silent, Unreachable
from dit4c_p2p.overlay.rpc import CallSession, call
from dit4c_p2p.overlay.server import ConnectionAdmission, Limits, PeerServer
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, SERVER_OPTIONS, Identity

ROUTER = PeerName.parse("router-main")
ASKS = DiscardPod(instance="abc")


class World:
    """A portal, a registry that hears it, one server, and what it has seen."""

    def __init__(self, portal, registry):
        self.portal, self.registry = portal, registry
        self.handlers = {}
        self.closed = asyncio.Event()

    async def serve(self, *, host_key=None, admit=None, limits=None, server=None, **more):
        world = self

        class Server(PeerServer):
            def session_requested(self):
                return self.conn.create_server_channel(encoding=None), CallSession(world.handlers)

        options = {} if admit is None else {"admit": admit}
        self.gate = ConnectionAdmission(self.registry, limits=limits, **options)
        self.server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: (server or Server)(self.gate),
            server_host_keys=[host_key or self.key],
            **{**SERVER_OPTIONS, **more},
        )
        address = f"127.0.0.1:{self.server.get_port()}"
        self.router = RouterInfo(name=str(ROUTER), ssh=[address], http=[])

    def connect(self, name, key):
        return connect_router(Identity(PeerName.parse(name), key), self.router, self.registry)


@pytest.fixture
async def world():
    async with RegistryPortal() as portal, PortalClient(portal.info) as client:
        registry = Registry(client, None)
        heard = asyncio.Event()
        registry.watch(lambda name: heard.set())
        running = asyncio.create_task(registry.run())
        await asyncio.wait_for(heard.wait(), 5)
        world = World(portal, registry)
        _, world.key = portal.new_peer(str(ROUTER))
        yield world
        world.server.close()
        await world.server.wait_closed()
        await world.gate.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def collect(connection, request=ASKS, silence_s=5.0, subsystem="t"):
    return [r async for r in call(connection, subsystem, request, NodeReply, silence_s=silence_s)]


async def test_a_call_is_answered_record_by_record(world):
    async def discard(line):
        request = decode(line, NodeRequest)
        for part in range(3):
            yield Progress(info=str(part))
        yield PodGone(instance=request.instance)

    world.handlers["t"] = discard
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    assert await collect(connection) == [
        *(Progress(info=str(part)) for part in range(3)),
        PodGone(instance="abc"),
    ]
    many = await asyncio.gather(*(collect(connection) for _ in range(20)))
    assert all(len(replies) == 4 for replies in many)
    connection.close()


async def test_a_handler_that_fails_leaves_the_connection_standing(world):
    async def broken(line):
        yield Progress(info="so far")
        raise ValueError("a bug")

    async def fine(line):
        yield PodGone(instance="abc")

    world.handlers |= {"broken": broken, "t": fine}
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    assert await collect(connection, subsystem="broken") == [Progress(info="so far")]
    assert await collect(connection) == [PodGone(instance="abc")]
    connection.close()


async def test_a_caller_that_goes_away_ends_the_handler(world):
    ended = asyncio.Event()

    async def endless(line):
        try:
            while True:
                yield Progress(info="on and on")
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    world.handlers["t"] = endless
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    async for _ in (replies := call(connection, "t", ASKS, NodeReply, silence_s=5)):
        break
    await replies.aclose()
    await asyncio.wait_for(ended.wait(), 5)
    connection.close()


async def test_silence_junk_and_no_such_subsystem_are_clear_errors(world):
    async def silent(line):
        await asyncio.sleep(60)
        yield PodGone(instance="abc")

    async def junk(line):
        yield {"no": "record"}

    world.handlers |= {"silent": silent, "junk": junk}
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    with pytest.raises(Silent):
        await collect(connection, subsystem="silent", silence_s=0.2)
    with pytest.raises(InvalidMessage):
        await collect(connection, subsystem="junk")
    with pytest.raises(Refused):
        await collect(connection, subsystem="sftp")
    with pytest.raises(asyncssh.ChannelOpenError):
        await connection.run("id")
    connection.close()


async def test_an_endless_line_ends_the_call(world):
    """Whoever answers makes the line, and whoever asks has to keep what has come of it."""

    class Endless(asyncssh.SSHServerSession):
        def connection_made(self, channel):
            self.channel = channel

        def subsystem_requested(self, subsystem):
            return True

        def session_started(self):
            self.channel.write(b"x" * (MAX_MESSAGE_BYTES + 1))

    class Server(PeerServer):
        def session_requested(self):
            return self.conn.create_server_channel(encoding=None), Endless()

    await world.serve(server=Server)
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    with pytest.raises(InvalidMessage, match=f"over {MAX_MESSAGE_BYTES} bytes"):
        await collect(connection)
    connection.close()


async def test_an_answer_of_the_next_release_is_understood_as_far_as_it_can_be(world):
    async def newer(line):
        yield {"type": "progress", "info": "so far", "eta_s": 5}
        yield {"type": "snapshot", "of": ["abc"]}
        yield {"type": "pod-event", "instance": "abc", "status": {"type": "paused-pod"}}
        yield {"type": "pod-gone", "instance": "abc", "bytes": 0}

    world.handlers["t"] = newer
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    assert await collect(connection) == [Progress(info="so far"), PodGone(instance="abc")]
    connection.close()


async def test_logins_to_a_peer_whose_key_is_not_published_none(world):
    await world.serve(host_key=generate())
    _, key = world.portal.new_peer("scheduler-main")
    with pytest.raises(NotVerified):
        await world.connect("scheduler-main", key)
    world.portal.revoke(ROUTER)
    with pytest.raises(NotVerified):
        await world.connect("scheduler-main", key)


@pytest.mark.parametrize("claim", ["scheduler-main", "node-main", "root", "scheduler-"])
async def test_identity_comes_from_the_key_never_from_the_claim(world, claim):
    await world.serve()
    world.portal.new_peer("scheduler-main")
    _, key = world.portal.new_peer("instance-mallory")
    for offered in (key, generate()):
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                "127.0.0.1",
                world.server.get_port(),
                username=claim,
                client_keys=[offered],
                known_hosts=([world.key.convert_to_public()], [], []),
                config=None,
                agent_path=None,
            )


async def test_a_peer_that_is_not_served_here_is_refused(world):
    def only_nodes(name, document):
        raise Refused(f"{name} is not served here")

    await world.serve(admit=only_nodes)
    _, key = world.portal.new_peer("scheduler-main")
    with pytest.raises(Refused):
        await world.connect("scheduler-main", key)


@pytest.mark.parametrize("whose", ["scheduler-main", str(ROUTER)])
async def test_a_revoked_key_is_cut_while_connected(world, whose):
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    world.portal.revoke(PeerName.parse(whose))
    await asyncio.wait_for(connection.wait_closed(), 10)


async def test_a_revoked_key_is_cut_though_events_are_silenced(world):
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    world.portal.heartbeats = False
    world.portal.revoke(PeerName.parse("scheduler-main"))
    # 8 s until silence counts as such, and a look at once after that.
    await asyncio.wait_for(connection.wait_closed(), 15)


async def test_the_event_of_a_revocation_cuts_and_no_document_is_fetched(world):
    await world.serve()
    name, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    world.portal.documents_status = 404
    asked = world.portal.lookups[name]
    world.portal.revoke(name)
    await asyncio.wait_for(connection.wait_closed(), 2)
    assert world.portal.lookups[name] == asked


async def test_the_revocation_of_a_peers_other_key_cuts_nothing(world):
    await world.serve()
    name, key = world.portal.new_peer("scheduler-main")
    other = generate()
    world.portal.publish(name, other)
    connection = await world.connect("scheduler-main", key)
    another = await world.connect("scheduler-main", other)
    world.portal.revoke(name, other)
    await asyncio.wait_for(another.wait_closed(), 2)
    assert not connection.is_closed()
    connection.close()


async def test_caps_before_login_by_address_and_in_all(world):
    await world.serve(limits=Limits(unauthenticated=8, unauthenticated_per_address=3,
                                    kept_for_known=2))  # fmt: skip
    idle = [await asyncio.open_connection("127.0.0.1", world.server.get_port()) for _ in range(5)]
    greeted = 0
    for reader, _ in idle:
        try:
            greeted += bool(await asyncio.wait_for(reader.readline(), 5))
        except ConnectionResetError:
            continue
    assert greeted == 3
    for _, writer in idle:
        writer.close()


class Caller:
    """A connection before login, for the counting alone."""

    def __init__(self, address):
        self.address, self.gone = address, False

    def give_way(self):
        self.gone = True


async def test_slots_are_kept_for_known_addresses():
    gate = ConnectionAdmission(None, limits=Limits(unauthenticated=4, unauthenticated_per_address=2,
                                    kept_for_known=2))  # fmt: skip
    callers = [Caller(f"10.0.0.{n}") for n in (1, 2, 3)]
    assert [gate.enter(one) for one in callers] == [True, True, False]
    gate._known["10.0.0.9"] = None
    assert gate.enter(Caller("10.0.0.9"))
    gate.leave(callers[0])
    assert gate.enter(Caller("10.0.0.9"))
    assert not gate.enter(Caller("10.0.0.9"))


async def test_the_oldest_before_login_gives_way():
    """Of the same address where that has all it may have, else of all; after 2 s, and no sooner."""
    gate, now = ConnectionAdmission(None, limits=Limits(unauthenticated=5, kept_for_known=0,
                                    unauthenticated_per_address=2)), [0.0]  # fmt: skip
    gate._now = lambda: now[0]
    callers = []
    for n in (1, 2, 2, 3, 4):
        callers.append(Caller(f"10.0.0.{n}"))
        assert gate.enter(callers[-1])
        now[0] += 0.1
    now[0] = 1.9
    assert not gate.may_enter("10.0.0.2") and not gate.may_enter("10.0.0.5")
    assert gate.room_after_s() == pytest.approx(0.1)
    now[0] = 2.15
    assert gate.may_enter("10.0.0.5") and gate.may_enter("10.0.0.2")
    gate.leave(callers[0])
    assert gate.enter(Caller("10.0.0.5"))
    assert not any(one.gone for one in callers)
    assert gate.enter(Caller("10.0.0.2"))
    assert [one.gone for one in callers] == [False, True, False, False, False]


def test_repeated_failures_slow_an_address_down():
    gate = ConnectionAdmission(None)
    delays = []
    for _ in range(12):
        gate.failed("10.0.0.1")
        delays.append(gate.delay_s("10.0.0.1"))
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == 5.0
    assert gate.delay_s("10.0.0.2") == 0


async def test_an_ipv6_site_is_one_address():
    """One machine has 2^64 addresses of its own: they share a place, and a reputation."""
    gate = ConnectionAdmission(None)
    neighbours = [f"2001:db8:0:1::{n:x}" for n in range(1, 10)]
    callers = [Caller(one) for one in neighbours]
    assert [gate.enter(one) for one in callers] == [True] * 8 + [False]
    assert gate.enter(Caller("2001:db8:0:2::1"))
    gate.leave(callers[0])
    assert gate.enter(callers[8])
    for one in neighbours:
        gate.failed(one)
    assert gate.delay_s("2001:db8:0:1:ffff::1") > 0
    assert gate.delay_s("2001:db8:0:2::1") == 0


async def log_in(world, name, keys, source="127.0.0.1", **options):
    """A login by a client that tries all of ``keys``."""
    return await asyncssh.connect(
        "127.0.0.1",
        world.server.get_port(),
        local_addr=(source, 0),
        username=name,
        client_keys=keys,
        known_hosts=([world.key.convert_to_public()], [], []),
        **{**CLIENT_OPTIONS, **options},
    )


async def test_failures_slow_an_address_down_and_a_login_ends_that(world):
    """Who fails where others have failed waits for the refusal; a published key does not."""
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    for _ in range(2):
        with pytest.raises(asyncssh.PermissionDenied):
            await log_in(world, "scheduler-main", [generate() for _ in range(6)], "127.0.0.2")
    assert world.gate.delay_s("127.0.0.2") == 5
    slow = asyncio.create_task(log_in(world, "scheduler-main", [generate()], "127.0.0.2"))
    quick = await log_in(world, "scheduler-main", [generate(), key], "127.0.0.3")
    async with asyncio.timeout(2):
        connection = await log_in(world, "scheduler-main", [key], "127.0.0.2")
    assert not slow.done()
    assert world.gate.delay_s("127.0.0.2") == 0
    with pytest.raises(asyncssh.PermissionDenied):
        await asyncio.wait_for(slow, 15)
    for one in (quick, connection):
        one.abort()


class Hesitant(asyncssh.SSHClient):
    """Exchanges keys, and then never says who it is."""

    async def public_key_auth_requested(self):
        await asyncio.Event().wait()


@pytest.mark.parametrize("stage", ["silent", "greets", "hesitates"])
async def test_a_login_has_its_time(world, stage):
    """20 s, here half a second, from the first moment, whatever has been said meanwhile."""
    assert SERVER_OPTIONS["login_timeout"] == 20
    await world.serve(login_timeout=0.5)
    if stage == "hesitates":
        with pytest.raises(asyncssh.Error):
            await asyncio.wait_for(
                log_in(world, "scheduler-main", None, client_factory=Hesitant), 10
            )
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.get_port())
        writer.write(b"SSH-2.0-slow\r\n" if stage == "greets" else b"")
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
    _, key = world.portal.new_peer("scheduler-main")
    (await log_in(world, "scheduler-main", [key])).abort()


async def test_a_caller_with_tiny_packets_is_disconnected(world):
    """A million packets for a megabyte would hold up everybody else."""

    async def fine(line):
        yield PodGone(instance="abc")

    world.handlers["t"] = fine
    await world.serve()
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    with pytest.raises(asyncssh.ChannelOpenError):
        await connection.open_session(subsystem="t", encoding=None, max_pktsize=1)
    await asyncio.wait_for(connection.wait_closed(), 5)


async def test_a_called_peer_with_tiny_packets_is_disconnected(world):
    class Tiny(PeerServer):
        def session_requested(self):
            return self.conn.create_server_channel(encoding=None, max_pktsize=1), CallSession({})

    await world.serve(server=Tiny)
    _, key = world.portal.new_peer("scheduler-main")
    connection = await world.connect("scheduler-main", key)
    with pytest.raises(Unreachable):
        await collect(connection)
    await asyncio.wait_for(connection.wait_closed(), 5)


async def test_a_router_with_tiny_packets_is_disconnected(world):
    """The listener's side: streams come in that are to be answered in tiny packets."""
    servers = []

    class Listener(asyncssh.SSHListener):
        def close(self):
            pass

    class Tiny(PeerServer):
        def server_requested(self, host, port):
            servers.append(self)
            return Listener()

    async def accept(host, port):
        raise AssertionError("not reached")

    await world.serve(server=Tiny)
    _, key = world.portal.new_peer("instance-abc")
    connection = await world.connect("instance-abc", key)
    await connection.create_server(accept, "instance-abc", 80)
    with pytest.raises(asyncssh.ChannelOpenError):
        await servers[0].conn.create_connection(
            asyncssh.SSHTCPSession, "instance-abc", 80, max_pktsize=1
        )
    await asyncio.wait_for(connection.wait_closed(), 5)
