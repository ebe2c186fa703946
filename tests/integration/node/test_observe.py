"""What those who run a node see of it."""

import asyncio
from dataclasses import replace

import pytest
from fakes.registry import RegistryPortal

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.node.agent import Node
from dit4c_p2p.node.config import HelperImages, NodeConfig
from dit4c_p2p.node.errors import EngineError
from dit4c_p2p.overlay.client import ListenState


def config(folder, engine_url):
    nowhere = PortalInfo(name="portal-main", url="http://localhost:9", key=public_line(generate()))
    return NodeConfig(
        name=PeerName.parse("node-home"),
        key=generate(),
        data_folder=folder,
        scheduler=PeerName.parse("scheduler-main"),
        images=HelperImages("sha256:1", "sha256:2", "sha256:3"),
        portal=nowhere,
        routers=(),
        user_url="http://{id}.localhost:8081/",
        engine_url=engine_url,
    )


async def test_ready_is_when_a_router_and_the_engine_are_there(tmp_path, monkeypatch):
    node = Node(config(tmp_path, f"unix://{tmp_path}/no.sock"))
    await node.start()
    try:
        with pytest.raises(EngineError):
            await node.checks["engine"]()
        with pytest.raises(EngineError):
            await node.measure()
        assert "no router" in await node.checks["routers"]()
        router = RouterInfo(name="router-main", ssh=[], http=[])
        node._at_router(router, ListenState.LISTENING, "")
        assert await node.checks["routers"]() == ""
        node._at_router(router, ListenState.CONNECTING, "the connection ended")
        node._at_router(router, ListenState.LOST, "router-main does not answer")
        node._at_router(router, ListenState.CONNECTING, "")
        other = RouterInfo(name="router-other", ssh=[], http=[])
        node._at_router(other, ListenState.LOST, "set the clock")
        assert await node.checks["routers"]() == (
            "it listens at no router, so that the scheduler can't reach it: "
            "router-main does not answer; set the clock"
        )
        node._at_router(router, ListenState.LISTENING, "")
        assert await node.checks["routers"]() == ""
    finally:
        await node.stop()


async def test_ready_is_when_changes_of_keys_are_heard(tmp_path):
    own = config(tmp_path, f"unix://{tmp_path}/no.sock")
    async with RegistryPortal(heartbeat_s=0.05) as portal:
        portal.clock_offset_s = 600
        node = Node(replace(own, portal=portal.info))
        await node.start()
        try:
            check = node.checks["key events"]
            async with asyncio.timeout(20):
                while "Set the clock" not in await check():
                    await asyncio.sleep(0.02)
                assert (await check()).startswith("changes of keys at the portal are not heard of")
                portal.clock_offset_s = 0
                while await check():
                    await asyncio.sleep(0.02)
                await portal.stop()
                while "does not answer" not in await check():
                    await asyncio.sleep(0.02)
        finally:
            await node.stop()


@pytest.mark.engine
async def test_figures_agree_with_the_engine(tmp_path):
    node = Node(config(tmp_path, "unix:///var/run/docker.sock"))
    await node.start()
    try:
        assert await node.checks["engine"]() == ""
        await node.measure()
        value = node.metrics.registry.get_sample_value
        assert value("dit4c_engine_call_seconds_count", {"call": "GET info"}) >= 1
        assert value("dit4c_routers_listening") == 0
        assert value("dit4c_key_events_heard") == 0
    finally:
        await node.stop()
