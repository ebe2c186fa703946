"""The agent over real SSH, through a relay that stands in for a router."""

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import asyncssh
import pytest
from fakes.registry import RegistryPortal
from systems.pods import look

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.node import (
    NODE_SUBSYSTEM,
    Alive,
    Describe,
    DiscardPod,
    EnsureImage,
    Failure,
    FollowEvents,
    ImageReady,
    ListPods,
    NodeReply,
    PodGone,
    PodKey,
    PodList,
    PodLogs,
    PodRunning,
    StartPod,
    StopPod,
)
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.node.agent import Node
from dit4c_p2p.overlay.client import dial
from dit4c_p2p.overlay.errors import OverlayError, Refused
from dit4c_p2p.overlay.rpc import call
from dit4c_p2p.overlay.server import ConnectionAdmission, PeerServer
from dit4c_p2p.overlay.ssh_options import SERVER_OPTIONS, Identity

pytestmark = [pytest.mark.engine, pytest.mark.root]


class Relay(PeerServer):
    """Joins whoever asks for a name with who listens under it: a router without its table."""

    listeners: dict[str, asyncssh.SSHServerConnection] = {}

    def server_requested(self, listen_host, listen_port):
        self.listeners[listen_host] = self.conn
        return Registered(listen_port)

    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        behind = self.listeners.get(dest_host)
        if behind is None:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "nobody listens")

        async def relay(reader, writer):
            far_reader, far_writer = await behind.open_connection(
                dest_host, dest_port, orig_host, orig_port, encoding=None
            )
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

        return relay


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncssh.Error):
        writer.channel.abort()
    writer.close()


class Registered(asyncssh.SSHListener):
    """No port of the machine is opened."""

    def __init__(self, port):
        self._port = port

    def get_port(self):
        return self._port

    def close(self):
        pass

    async def wait_closed(self):
        pass


class World:
    """A portal with everybody's keys, a relay, and a running agent."""

    def __init__(self, portal, registry, router, config):
        self.portal, self.registry, self.router, self.config = portal, registry, router, config

    async def line(self, name: str) -> asyncssh.SSHClientConnection:
        """A connection to the agent by a peer that is published."""
        peer, key = self.portal.new_peer(name)
        async with asyncio.timeout(20):
            while str(self.config.name) not in Relay.listeners:
                await asyncio.sleep(0.05)
        return await dial(Identity(peer, key), self.config.name, 22, [self.router], self.registry)


@asynccontextmanager
async def world(config):
    Relay.listeners.clear()
    async with RegistryPortal() as portal, PortalClient(portal.info) as client:
        registry = Registry(client, None)
        hearing = asyncio.create_task(registry.run())
        name, key = portal.new_peer("router-main")
        gate = ConnectionAdmission(registry)
        server = await asyncssh.listen(
            "127.0.0.1", 0, server_factory=lambda: Relay(gate), server_host_keys=[key],
            **SERVER_OPTIONS,
        )  # fmt: skip
        router = RouterInfo(name=str(name), ssh=[f"127.0.0.1:{server.get_port()}"], http=[])
        portal.publish(config.name, config.key, "main")
        own = replace(
            config, portal=portal.info, routers=(router,), pod_portal=config.portal,
            pod_routers=config.routers,
        )  # fmt: skip
        node = Node(own)
        await node.start()
        try:
            yield World(portal, registry, router, own)
        finally:
            async with asyncio.timeout(5):
                await node.stop()
            server.close()
            await gate.close()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)


async def ask(line, request):
    """All records of one call."""
    async with asyncio.timeout(60):
        return [
            reply async for reply in call(line, NODE_SUBSYSTEM, request, NodeReply, silence_s=14)
        ]


async def test_every_verb_over_the_overlay(config, images, instance):
    async with world(config) as there:
        line = await there.line("scheduler-main")
        (described,) = await ask(line, Describe())
        assert (described.name, described.pods) == ("node-main", 0)
        ready = await ask(line, EnsureImage(image=images.app))
        assert ready == [ImageReady(image=images.app, port=8080)]
        async with aclosing(
            call(line, NODE_SUBSYSTEM, FollowEvents(), NodeReply, silence_s=14)
        ) as events:
            assert await anext(events) == Alive()
            started = await ask(line, StartPod(instance=instance, image=images.app, key_nonce="n"))
            assert isinstance(started[0], PodKey)
            assert started[-1] == PodRunning(instance=instance)
            (listed,) = await ask(line, ListPods())
            assert [pod.instance for pod in listed.pods] == [instance]
            assert (await ask(line, PodLogs(instance=instance, lines=5)))[-1].text == ""
            await ask(line, StopPod(instance=instance))
            async with asyncio.timeout(20):
                event = await anext(events)
                while isinstance(event, Alive) or event.status.state != "exited":
                    event = await anext(events)
            assert event.status.reason == "it was stopped as asked"
        assert (await ask(line, DiscardPod(instance=instance)))[-1] == PodGone(instance=instance)
        assert (await ask(line, ListPods())) == [PodList(pods=[])]
        assert not look(instance)
        line.abort()


async def test_failures_are_the_last_record(config, images, instance):
    async with world(config) as there:
        line = await there.line("scheduler-main")
        for request, code in (
            (EnsureImage(image=images.no_port), "no_port"),
            (EnsureImage(image="sha256:" + "0" * 64), "unknown_image"),
            (EnsureImage(image="busybox"), "refused"),
            (StopPod(instance=instance), "no_such_pod"),
            (DiscardPod(instance="../x"), "refused"),
            (StartPod(instance=instance, image=images.exits, key_nonce="n"), "app_exited"),
            (PodGone(instance="x"), "unknown_kind"),
        ):
            last = (await ask(line, request))[-1]
            assert isinstance(last, Failure)
            assert last.code == code, request
        line.abort()


async def test_an_engine_that_does_not_answer(config, tmp_path):
    away = replace(config, engine_url=f"unix://{tmp_path}/nothing.sock")
    async with world(away) as there:
        line = await there.line("scheduler-main")
        (failure,) = await ask(line, ListPods())
        assert failure.code == "engine"
        assert "does not answer" in failure.text
        line.abort()


async def test_row_only_its_scheduler_is_served(config):
    """security.md sections 2 and 4: no other peer, and nothing but the one subsystem."""
    async with world(config) as there:
        for name in ("scheduler-other", "node-other", "user-admin", "router-other"):
            with pytest.raises(Refused):
                await there.line(name)
        line = await there.line("scheduler-main")
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.Error)):
            await line.run("id", check=True, timeout=5)
        with pytest.raises(asyncssh.ChannelOpenError):
            await line.open_connection("127.0.0.1", 22)
        with pytest.raises(asyncssh.ChannelListenError):
            await line.start_server(lambda *a: None, "x", 80)
        with pytest.raises((asyncssh.Error, OSError)):
            await line.start_sftp_client()
        line.abort()


async def test_row_a_revoked_scheduler_is_cut(config):
    """security.md section 4: live connections are cut within 10 s."""
    async with world(config) as there:
        line = await there.line("scheduler-main")
        with pytest.raises(OverlayError):
            async with asyncio.timeout(10):
                async for _ in call(line, NODE_SUBSYSTEM, FollowEvents(), NodeReply, silence_s=9):
                    there.portal.revoke(PeerName.parse("scheduler-main"))
