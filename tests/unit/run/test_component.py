"""The images of a pod's helpers are found or built at the engine that the node's file names."""

import asyncio

import pytest
from aiohttp import web

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.imagebuild import BuildFailed
from dit4c_p2p.run import component
from dit4c_p2p.run.component import helper_images_of_settings, wait_for_engine
from dit4c_p2p.settings import NodeSettings
from dit4c_p2p.settings.shared import PortalReference

VERSION = {"Version": "20.10", "ApiVersion": "1.41", "Arch": "amd64", "Os": "linux"}
KEY = public_line(generate(), "portal-main")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A node's, whose engine is at engine.sock; the environment names one that is not there."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return NodeSettings(
        id="home",
        data_folder=tmp_path / "node",
        engine=f"unix://{tmp_path}/engine.sock",
        portal=PortalReference(url="http://localhost:1", key=KEY),
    )


@pytest.fixture
async def asked(tmp_path):
    """What the node's engine is asked for; it knows its version, and nothing works there."""
    paths = []

    async def answer(request):
        paths.append(request.path)
        if request.path.endswith("/version"):
            return web.json_response(VERSION)
        return web.json_response({"message": "out of order"}, status=500)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    yield paths
    await runner.cleanup()


async def test_they_are_built_there(settings, asked):
    with pytest.raises(BuildFailed, match="out of order"):
        await helper_images_of_settings(settings)
    assert not asked[-1].endswith("/version")


async def test_an_engine_that_is_not_there_is_named(settings):
    with pytest.raises(ConfigError) as failed:
        await helper_images_of_settings(settings)
    assert str(failed.value) == f"the Docker engine at {settings.engine} does not answer"
    assert failed.value.hint == "Start it, or name another one."


async def test_an_engine_that_comes_up_later_is_waited_for(settings, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(component, "_ENGINE_FIRST_PAUSE_S", 0.05)
    waiting = asyncio.create_task(wait_for_engine(settings.engine))
    async with asyncio.timeout(10):
        while "waiting for the engine" not in caplog.text:
            await asyncio.sleep(0.01)
    assert not waiting.done()

    async def answer(request):
        if request.path.endswith("/version"):
            return web.json_response(VERSION)
        return web.json_response({"NCPU": 2})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, settings.engine.removeprefix("unix://")).start()
    async with asyncio.timeout(10):
        await waiting
    await runner.cleanup()
