"""The listener, the auth helper, a real router and a small portal: from a browser to the app."""

import asyncio
import contextlib
import io
import sys

import aiohttp
import msgspec
import pytest
from fakes.oauth_portal import OAuthPortal

from dit4c_p2p.helpers.auth.server import AuthServer
from dit4c_p2p.helpers.listener.listener import serve_listener
from dit4c_p2p.helpers.pod_config import FOLDER_VARIABLE, load_pod_config
from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.identity.keys import generate, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.pod import PodConfig
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.router.config import RouterConfig
from dit4c_p2p.router.router import Router

NAME = PeerName.parse("instance-abc")


class Output(io.StringIO):
    """Standard output that can be waited for."""

    def __init__(self):
        super().__init__()
        self.changed = asyncio.Event()

    def write(self, text):
        self.changed.set()
        return super().write(text)

    def states(self):
        return [msgspec.json.decode(line)["state"] for line in self.getvalue().splitlines()]

    async def until(self, state):
        async with asyncio.timeout(15):
            while not (states := self.states()) or states[-1] != state:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def app_port():
    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = 100_000_000 if b"/large" in head else 5
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                block = b"x" * 1_000_000 if size > 5 else b"hello"
                for _ in range(size // len(block)):
                    writer.write(block)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def portal():
    key = generate()
    async with OAuthPortal(NAME, key) as portal:
        portal.instance_key = key
        yield portal


@pytest.fixture
async def router(portal, tmp_path):
    name, key = portal.new_peer("router-main")
    router = Router(
        RouterConfig(
            name=name,
            key=key,
            http=(("127.0.0.1", 0),),
            ssh=(("127.0.0.1", 0),),
            portal=portal.info,
            user_url="http://{id}.localhost:8081/",
            data_folder=tmp_path / "router",
        )
    )
    await router.start()
    yield router
    await router.stop()


@pytest.fixture
def folder(portal, router, tmp_path, app_port):
    folder = tmp_path / "pod"
    folder.mkdir()
    config = PodConfig(
        instance=str(NAME),
        url=f"http://abc.localhost:{router.http_port}/",
        app_port=app_port,
        portal=portal.info,
        routers=[
            RouterInfo(
                name="router-main",
                ssh=[f"127.0.0.1:{router.ssh_port}"],
                http=[f"127.0.0.1:{router.http_port}"],
            )
        ],
    )
    (folder / "config.json").write_bytes(encode(config))
    write_private(folder / "key", portal.instance_key)
    return folder


@pytest.fixture
def pod(folder):
    return load_pod_config({FOLDER_VARIABLE: str(folder)})


@pytest.fixture
async def listener(pod):
    output, stop = Output(), asyncio.Event()
    task = asyncio.create_task(serve_listener(pod, StatusLines("listener", output), stop))
    yield output
    stop.set()
    async with asyncio.timeout(2):
        await task


@contextlib.asynccontextmanager
async def auth(pod):
    server = AuthServer(pod, StatusLines("auth", io.StringIO()))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def visit(session, pod, path, **more):
    """As a browser would, but for the look-up of ``abc.localhost``."""
    port = pod.config.url.rstrip("/").rpartition(":")[2]
    headers = {"Host": f"abc.localhost:{port}", **more.pop("headers", {})}
    url = f"http://127.0.0.1:{port}{path}"
    return await session.get(url, headers=headers, allow_redirects=False, **more)


async def login(session, pod, portal):
    response = await visit(session, pod, "/", headers={"Accept": "text/html"})
    assert response.status == 303
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    back = portal.visit(response.headers["Location"]).removeprefix(pod.config.url)
    response = await visit(session, pod, f"/{back}", headers={"Cookie": cookie})
    assert response.status == 303, await response.text()
    return response.headers["Set-Cookie"].partition(";")[0]


async def test_from_key_to_page(pod, portal, listener):
    await listener.until("connected")
    assert portal.announced == []  # nothing is announced before the URL answers
    async with auth(pod) as server, aiohttp.ClientSession() as session:
        await listener.until("published")
        assert [record.routers for record in portal.announced] == [["router-main"]]
        cookie = await login(session, pod, portal)
        response = await visit(session, pod, "/", headers={"Cookie": cookie})
        assert await response.text() == "hello"
        # A browser that goes away mid-download leaves nothing at any station.
        response = await visit(session, pod, "/large", headers={"Cookie": cookie})
        await response.content.readexactly(1_000_000)
        response.close()
        await session.close()
        async with asyncio.timeout(10):
            while server.connections:
                await asyncio.sleep(0.02)
    assert listener.states()[0] == "connecting"


async def test_a_large_download_comes_through_whole(pod, portal, listener):
    async with auth(pod), aiohttp.ClientSession() as session:
        await listener.until("published")
        cookie = await login(session, pod, portal)
        response = await visit(session, pod, "/large", headers={"Cookie": cookie})
        size = 0
        async with asyncio.timeout(60):
            async for data in response.content.iter_any():
                assert not data.strip(b"x")
                size += len(data)
        assert size == 100_000_000


async def test_announced_again_after_the_router_was_away(pod, portal, router, listener):
    async with auth(pod):
        await listener.until("published")
        port = router.ssh_port, router.http_port
        await router.stop()
        await listener.until("failing")
        again = Router(
            RouterConfig(
                **{
                    **vars(router.config),
                    "ssh": (("127.0.0.1", port[0]),),
                    "http": (("127.0.0.1", port[1]),),
                }
            )
        )
        await again.start()
        try:
            await listener.until("published")
            assert len(portal.announced) == 2
        finally:
            await again.stop()


async def test_a_key_that_is_not_published_is_said_so(pod, portal, listener):
    portal.revoke(NAME)
    await listener.until("failing")
    assert "not revoked" in listener.getvalue() or "does not accept" in listener.getvalue()


async def test_trouble_of_the_portal_is_said_and_outlived(pod, portal, listener):
    portal.fail_with = 503
    async with auth(pod):
        await listener.until("failing")
        assert "503" in listener.getvalue()
        portal.fail_with = None
        await listener.until("published")


@pytest.mark.parametrize("helper", ["listener", "auth"])
async def test_the_programs_end_within_2_s_of_sigterm(helper, folder):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"dit4c_p2p.helpers.{helper}",
        env={FOLDER_VARIABLE: str(folder), "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    wanted = {"listener": b"connected", "auth": b"app_ready"}[helper]
    async with asyncio.timeout(15):
        while wanted not in await process.stdout.readline():
            assert process.returncode is None
    process.terminate()
    async with asyncio.timeout(2):
        _, log = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in log


@pytest.mark.parametrize("missing", ["config.json", "key"])
async def test_a_pod_folder_that_is_not_whole_is_one_line(missing, folder):
    (folder / missing).unlink()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dit4c_p2p.helpers.auth",
        env={FOLDER_VARIABLE: str(folder), "PYTHONPATH": ":".join(sys.path)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, log = await process.communicate()
    assert process.returncode == 1
    assert len(log.splitlines()) == 1 and b"config.json and key" in log
