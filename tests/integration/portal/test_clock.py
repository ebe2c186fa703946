"""security.md section 5: a clock that is off by 60 s works; by 10 min it is refused, with "clock".

Here it is the portal's that is off, as seen by those whose clock is right: a router, an instance's
listener in a process of its own, its auth helper's calls, and a node.
"""

import asyncio
import contextlib
import os
import sys

import aiohttp
import pytest
from systems.portal import running_instance

from dit4c_p2p.helpers.auth.oauth import GrantRefused, PortalOAuth
from dit4c_p2p.helpers.pod_config import FOLDER_VARIABLE
from dit4c_p2p.identity.errors import InvalidDocument
from dit4c_p2p.identity.keys import write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.pod import HelperState, HelperStatus, PodConfig
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.node.agent import Node
from dit4c_p2p.node.config import HelperImages, NodeConfig
from dit4c_p2p.router import Router, RouterConfig

OFF_S = 600
WORKS_S = 60


@pytest.fixture
async def router(work, tmp_path):
    """A router that is told of the portal, and waits for nothing long."""
    router = Router(
        RouterConfig(
            name=PeerName.parse("router-main"),
            key=work.keys["router-main"],
            http=(("127.0.0.1", 0),),
            ssh=(("127.0.0.1", 0),),
            portal=work.portal.info,
            user_url="http://{id}.localhost:8081/",
            data_folder=tmp_path / "router",
        )
    )
    await router.start()
    yield router
    await router.stop()


@pytest.fixture
async def instance(work):
    """The id and the key of an instance that runs, made while all clocks were right."""
    async with work.scheduler() as scheduler:
        yield await running_instance(work, scheduler)


async def alive(reader, writer):
    """What an auth helper says to its listener, through which the own URL is asked for."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nalive")
        await writer.drain()
    writer.close()


@pytest.fixture
async def listener(work, router, instance, tmp_path):
    """Starts the listener as its container does; what it says is read from what is returned."""
    id, key = instance
    pod = tmp_path / "pod"
    pod.mkdir()
    http, ssh = f"127.0.0.1:{router.http_port}", f"127.0.0.1:{router.ssh_port}"
    config = PodConfig(
        instance=f"instance-{id}",
        url=f"http://{id}.localhost:{router.http_port}/",
        app_port=80,
        portal=work.portal.info,
        routers=[RouterInfo(name="router-main", ssh=[ssh], http=[http])],
    )
    (pod / "config.json").write_bytes(encode(config))
    write_private(pod / "key", key)
    auth = await asyncio.start_unix_server(alive, pod / "auth.sock")
    started = []

    async def start():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dit4c_p2p.helpers.listener"),
            env={**os.environ, FOLDER_VARIABLE: str(pod)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        started.append(process)
        return process.stdout

    yield start
    for process in started:
        process.terminate()
        await process.wait()
    auth.close()


async def said(output, state):
    """The first status of a helper that has this state."""
    async with asyncio.timeout(30):
        while (status := decode(await output.readline(), HelperStatus)).state is not state:
            continue
    return status


async def page(router, id):
    """What a visitor of an instance that is not connected sees."""
    async with aiohttp.ClientSession() as session:
        url, headers = f"http://127.0.0.1:{router.http_port}/", {"Host": f"{id}.localhost:8081"}
        async with session.get(url, headers=headers) as response:
            return response.status, await response.text()


async def settled(check, good):
    """Wait until a check is, or is not, well; what it says."""
    async with asyncio.timeout(20):
        while bool(text := await check()) is good:
            await asyncio.sleep(0.02)
    return text


@pytest.mark.parametrize("off_s", [-OFF_S, OFF_S])
async def test_ten_minutes_are_refused_and_said(work, instance, router, listener, off_s):
    check = router.checks["key events"]
    await settled(check, True)
    work.clock.ahead = off_s
    status = await said(await listener(), HelperState.FAILING)
    assert "clock" in status.detail
    code, text = await page(router, "abc")
    assert code == 503
    assert "clock is wrong" in text
    assert "clock" in await settled(check, False)
    work.clock.ahead = 0
    assert await settled(check, True) == ""


async def test_a_node_that_listens_nowhere_for_its_clock_says_so(work, router, tmp_path, caplog):
    caplog.set_level("INFO")
    work.clock.ahead = OFF_S
    ssh = f"127.0.0.1:{router.ssh_port}"
    node = Node(
        NodeConfig(
            name=PeerName.parse("node-main"),
            key=work.keys["node-main"],
            data_folder=tmp_path / "node",
            scheduler=PeerName.parse("scheduler-main"),
            images=HelperImages("sha256:1", "sha256:2", "sha256:3"),
            portal=work.portal.info,
            routers=(RouterInfo(name="router-main", ssh=[ssh], http=[]),),
            user_url="http://{id}.localhost:8081/",
            engine_url=f"unix://{tmp_path}/no.sock",
        )
    )
    await node.start()
    try:
        async with asyncio.timeout(20):
            while "clock" not in await node.checks["routers"]():
                await asyncio.sleep(0.02)
        told = [one.getMessage() for one in caplog.records if "overlay" in one.name]
        assert any("node-main at router-main" in one and "clock" in one for one in told)
        work.clock.ahead = 0
        assert await settled(node.checks["routers"], True) == ""
    finally:
        await node.stop()


@pytest.mark.parametrize("off_s", [-WORKS_S, WORKS_S])
async def test_sixty_seconds_work(work, instance, router, listener, off_s):
    work.clock.ahead = off_s
    await said(await listener(), HelperState.PUBLISHED)
    await settled(router.checks["key events"], True)
    assert (await page(router, "abc"))[0] == 404


@pytest.mark.parametrize("off_s", [-OFF_S, OFF_S])
async def test_sessions_outlive_a_wrong_clock_and_logins_say_it(work, instance, off_s):
    """Nobody is thrown out of what they do because a clock was set wrongly."""
    id, key = instance
    async with PortalClient(work.portal.info) as client:
        oauth = PortalOAuth(client, PeerName.parse(f"instance-{id}"), key, "http://x/cb")
        assert await oauth.is_active("no such token") is False
        work.clock.ahead = off_s
        assert await oauth.is_active("a token") is None
        with pytest.raises(GrantRefused, match="clock of the machine"):
            await oauth.exchange("a code", "v" * 43)
        work.clock.ahead = 0
        async with work.api() as api:
            (held,) = [
                one for one in (await api.get("keys")).json if one["name"] == f"instance-{id}"
            ]
            await api.post(f"keys/{held['fingerprint']}/revoke")
        work.clock.ahead = off_s
        assert await oauth.is_active("a token") is False, "a key that is revoked ends them anyway"


@pytest.mark.parametrize("off_s", [-OFF_S, -WORKS_S, WORKS_S, OFF_S])
async def test_a_heartbeat_of_another_time_is_not_believed(work, off_s):
    async with PortalClient(work.portal.info) as client:
        work.clock.ahead = off_s
        registry = Registry(client, None)
        following = asyncio.create_task(registry.run())
        try:
            async with asyncio.timeout(20):
                while not (registry.live or registry.trouble):
                    await asyncio.sleep(0.02)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        assert registry.live is (abs(off_s) == WORKS_S)
        assert ("clock" in registry.trouble) is (abs(off_s) == OFF_S)
        if off_s == OFF_S:
            with pytest.raises(InvalidDocument) as caught:
                await registry.keys(PeerName.parse("node-main"))
            assert "clock" in caught.value.one_line()
