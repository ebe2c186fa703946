"""A whole auth helper on a real path socket, with a real app and a real portal beside it."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

import asyncssh
import pytest
import uvloop
from fakes.oauth_portal import OAuthPortal
from systems.auth_helper import NAME, ORIGIN, App, House, RawApp

from dit4c_p2p.helpers.auth.server import AuthServer
from dit4c_p2p.helpers.pod_config import HelperPod
from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.identity.keys import generate
from dit4c_p2p.messages.pod import PodConfig


def pytest_asyncio_loop_factories(config, item):
    """The loop that the helpers run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def app() -> AsyncIterator[App]:
    app = App()
    await app.start()
    yield app
    await app.stop()


@pytest.fixture
def key() -> asyncssh.SSHKey:
    return generate()


@pytest.fixture
async def portal(key) -> AsyncIterator[OAuthPortal]:
    async with OAuthPortal(NAME, key) as portal:
        yield portal


@pytest.fixture
def make_pod(tmp_path, key, portal):
    def make(app_port: int, **changes) -> HelperPod:
        config = PodConfig(
            **{
                "instance": str(NAME),
                "url": f"{ORIGIN}/",
                "app_port": app_port,
                "portal": portal.info,
                "routers": [],
                **changes,
            }
        )
        return HelperPod(tmp_path, config, NAME, key)

    return make


@pytest.fixture
async def start_house(make_pod, portal, app):
    houses = []

    async def start(app_port: int | None = None, **changes) -> House:
        pod = make_pod(app.port if app_port is None else app_port, **changes)
        output = io.StringIO()
        server = AuthServer(pod, StatusLines("auth", output))
        await server.start()
        houses.append(House(pod, portal, server, output, app))
        return houses[-1]

    yield start
    for house in houses:
        for browser in house.browsers:
            browser.close()
        async with asyncio.timeout(5):
            await house.server.stop()
        assert house.server.connections == 0


@pytest.fixture
async def house(start_house) -> House:
    return await start_house()


@pytest.fixture
def raw_house(start_house):
    """``async with raw_house(script) as (house, app)``; further arguments change the pod."""

    @contextlib.asynccontextmanager
    async def make(script, **changes):
        async with RawApp(script) as app:
            yield await start_house(app.port, **changes), app

    return make
