"""A file server that runs as a process of ``dit4c up``."""

import asyncio
import os
import signal

import asyncssh
import pytest
from aiohttp import web
from fakes.grants_portal import GrantsPortal
from lib.waiting import until

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import public_line, write_private
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.public import PublicConfig
from dit4c_p2p.run.child_component import ChildComponent, free_loopback_port

STOPS_S = 10


class Portal(GrantsPortal):
    """It answers what a peer asks for at its start as well."""

    def add_routes(self, app):
        super().add_routes(app)
        app.router.add_get("/config.json", self._config)

    async def _config(self, request):
        config = PublicConfig(self.info, [], "http://{id}.localhost/")
        return web.Response(body=encode(config), content_type="application/json")


@pytest.fixture
async def portal():
    async with Portal() as portal:
        yield portal


@pytest.fixture
def make(portal, tmp_path):
    """Returns a function that makes a file server, with further tables of settings."""

    def make(**tables):
        _, key = portal.new_peer("fileserver-files")
        write_private(tmp_path / "key", key)
        port = free_loopback_port()
        top = {"id": "files", "data_folder": str(tmp_path), "listen_ssh": [f"127.0.0.1:{port}"]}
        reference = {
            "url": portal.info.url,
            "key": portal.info.key,
            "connect": portal.info.connect,
        }
        settings = {"": top, "portal": reference, **tables}
        return ChildComponent("fileserver", tmp_path, settings, port, observed=True), key, port

    return make


async def serves(key, port):
    """Whether the file server presents its host key."""
    try:
        found = await asyncssh.get_server_host_key("127.0.0.1", port)
    except (OSError, asyncssh.Error):
        return False
    return found is not None and public_line(found) == public_line(key)


async def test_a_killed_child_is_started_again_and_a_stopped_one_is_not(make):
    child, key, port = make()
    await child.start()
    waiting = asyncio.create_task(child.wait())
    try:
        first = child._process.pid
        assert await serves(key, port)
        # Bulk work gives way to the router beside it.
        assert os.getpriority(os.PRIO_PROCESS, first) > os.getpriority(os.PRIO_PROCESS, 0)
        assert await child.checks["process"]() == ""
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(30):
            while child._process.pid == first or not await serves(key, port):
                await asyncio.sleep(0.05)
        await child.measure()
        assert child.metrics.families
        second = child._process.pid
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await child.stop()
    await until(lambda: not alive(second), STOPS_S)
    assert not await serves(key, port)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_reason_of_a_child_that_can_not_start_is_named(make):
    child, _, _ = make(limits={"threads": 0})
    with pytest.raises(ConfigError, match=r"the fileserver could not be started: .*threads"):
        await child.start()
    await child.stop()
