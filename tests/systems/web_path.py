"""The whole path from a browser to an app: router, listener, auth helper, with a small portal."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
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


@dataclass
class WholePath:
    """Where a browser with a session enters."""

    port: int
    host: str
    origin: str
    cookie: str
    portal: OAuthPortal
    router: Router
    server: AuthServer


@asynccontextmanager
async def a_path(folder: Path, app_port: int) -> AsyncIterator[WholePath]:
    """The path to the app on ``app_port``, up and logged in."""
    key, stop = generate(), asyncio.Event()
    async with OAuthPortal(NAME, key) as portal:
        name, router_key = portal.new_peer("router-main")
        router = Router(
            RouterConfig(
                name=name,
                key=router_key,
                http=(("127.0.0.1", 0),),
                ssh=(("127.0.0.1", 0),),
                portal=portal.info,
                user_url="http://{id}.localhost:8081/",
                data_folder=folder / "router",
            )
        )
        await router.start()
        pod_folder = folder / "pod"
        pod_folder.mkdir()
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
        (pod_folder / "config.json").write_bytes(encode(config))
        write_private(pod_folder / "key", key)
        pod = load_pod_config({FOLDER_VARIABLE: str(pod_folder)})
        server = AuthServer(pod, StatusLines("auth", io.StringIO()))
        listener = None
        try:
            await server.start()
            listener = asyncio.create_task(
                serve_listener(pod, StatusLines("listener", io.StringIO()), stop)
            )
            async with asyncio.timeout(20):
                while not portal.announced:
                    await asyncio.sleep(0.02)
            host = f"abc.localhost:{router.http_port}"
            cookie = await _login(portal, config.url, host, router.http_port)
            yield WholePath(
                router.http_port, host, f"http://{host}", cookie, portal, router, server
            )
        finally:
            await server.stop()
            stop.set()
            if listener is not None:
                async with asyncio.timeout(5):
                    await listener
            await router.stop()


async def _login(portal: OAuthPortal, url: str, host: str, port: int) -> str:
    """The cookie of a session, as ``name=value``."""
    entry = f"http://127.0.0.1:{port}/"
    headers = {"Host": host, "Accept": "text/html"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        async with session.get(entry, headers=headers, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            cookie = response.headers["Set-Cookie"].partition(";")[0]
            back = portal.visit(response.headers["Location"]).removeprefix(url)
        headers["Cookie"] = cookie
        async with session.get(entry + back, headers=headers, allow_redirects=False) as response:
            assert response.status == 303, await response.text()
            return response.headers["Set-Cookie"].partition(";")[0]
