"""config.json is fetched again and again, and a change is told once."""

import asyncio

import pytest
from aiohttp import web

from dit4c_p2p.identity.installation import InstallationWatcher
from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.public import PortalInfo

KEY = generate()
FILES = {"name": "fileserver-main", "url": "sftp://files.example.org", "connect": []}


@pytest.fixture
async def portal(aiohttp_server, unused_tcp_port):
    """A portal's config.json, ``document`` of which may be changed, and a watcher's queue."""

    class Portal:
        info = PortalInfo(
            name="portal-main", url=f"http://localhost:{unused_tcp_port}", key=public_line(KEY)
        )
        changes = asyncio.Queue()
        fetched = 0

        def __init__(self):
            self.document = {
                "portal": {"name": "portal-main", "url": self.info.url, "key": public_line(KEY)},
                "routers": [],
                "user_url": "http://{id}.localhost:8081/",
                "fileservers": [],
            }

        async def serve(self, request):
            self.fetched += 1
            if isinstance(self.document, int):
                return web.Response(status=self.document)
            return web.json_response(self.document)

        async def next(self):
            async with asyncio.timeout(10):
                return await self.changes.get()

        async def fetched_again(self):
            """Two more fetches, so that one began after this call."""
            until = self.fetched + 2
            async with asyncio.timeout(10):
                while self.fetched < until:
                    await asyncio.sleep(0.01)

    portal = Portal()
    app = web.Application()
    app.router.add_get("/config.json", portal.serve)
    await aiohttp_server(app, host="127.0.0.1", port=unused_tcp_port)
    async with PortalClient(portal.info) as client:
        watcher = InstallationWatcher(client, portal.changes.put_nowait, every_s=0.01)
        running = asyncio.create_task(watcher.run())
        yield portal
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_new_file_server_is_told_once(portal):
    assert (await portal.next()).fileservers == []
    portal.document["fileservers"] = [FILES]
    (server,) = (await portal.next()).fileservers
    assert server.url == "sftp://files.example.org"
    await portal.fetched_again()
    assert portal.changes.empty()


async def test_what_was_said_before_counts_while_the_portal_is_away(portal):
    await portal.next()
    good = portal.document
    portal.document = 502
    await portal.fetched_again()
    portal.document = good
    await portal.fetched_again()
    assert portal.changes.empty()


async def test_another_portal_is_not_believed(portal):
    await portal.next()
    good = portal.document
    key = public_line(generate())
    portal.document = {**good, "portal": {**good["portal"], "key": key}, "fileservers": [FILES]}
    await portal.fetched_again()
    portal.document = {**good, "portal": {**good["portal"], "url": "http://localhost:1"}}
    await portal.fetched_again()
    assert portal.changes.empty()
