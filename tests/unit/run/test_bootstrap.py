"""What a peer learns from the portal at its start, and from which portal."""

import asyncio
import json
import logging

import pytest
from aiohttp import web

from dit4c_p2p.identity.installation import read_public_config
from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.messages.codec import InvalidMessage
from dit4c_p2p.run.bootstrap import WrongPortal, learn_portal
from dit4c_p2p.settings.shared import PortalReference

KEY = generate()
LIMIT_S = 10


@pytest.fixture
async def portal(aiohttp_server, unused_tcp_port):
    """Something at a portal's URL; ``answer`` is its config.json, or a status."""

    class Portal:
        url = f"http://localhost:{unused_tcp_port}"
        asked = 0

        def __init__(self):
            self.answer = self.document()
            self.reference = PortalReference(url=self.url, key=public_line(KEY, "portal-main"))

        def document(self, key=KEY, **changes):
            return {
                "portal": {
                    "name": "portal-main",
                    "url": self.url,
                    "key": public_line(key),
                    "connect": [],
                },
                "routers": [{"name": "router-r1", "ssh": ["r:22"], "http": ["r:80"]}],
                "user_url": "http://{id}.localhost:8081/",
                **changes,
            }

        async def serve(self):
            app = web.Application()
            app.router.add_get("/config.json", self.config)
            return await aiohttp_server(app, host="127.0.0.1", port=unused_tcp_port)

        async def config(self, request):
            self.asked += 1
            if isinstance(self.answer, int):
                return web.Response(status=self.answer)
            if isinstance(self.answer, str):
                return web.Response(text=self.answer)
            return web.json_response(self.answer)

    return Portal()


async def learnt(portal, folder):
    async with asyncio.timeout(LIMIT_S):
        return await learn_portal(portal.reference, folder)


async def test_all_that_a_peer_needs(portal, tmp_path):
    await portal.serve()
    own, public = await learnt(portal, tmp_path)
    assert (own.name, own.url) == ("portal-main", portal.url)
    assert own.key == portal.reference.key
    assert [router.name for router in public.routers] == ["router-r1"]
    assert public.user_url == "http://{id}.localhost:8081/"


async def test_its_own_connect_address_is_kept(portal, tmp_path):
    server = await portal.serve()
    near = f"127.0.0.1:{server.port}"
    portal.reference = PortalReference(url=portal.url, key=public_line(KEY), connect=(near,))
    portal.answer["portal"]["connect"] = ["203.0.113.1:443"]
    own, public = await learnt(portal, tmp_path)
    assert own.connect == [near]
    assert public.portal.connect == ["203.0.113.1:443"]


async def test_the_wrong_pinned_key_is_refused_and_both_are_named(portal, tmp_path):
    """security.md section 2 row 1: no trust on first use."""
    await portal.serve()
    other = generate()
    portal.answer = portal.document(other)
    with pytest.raises(WrongPortal) as caught:
        await learnt(portal, tmp_path)
    assert fingerprint(other) in str(caught.value)
    assert fingerprint(KEY) in str(caught.value)
    assert "portal.key" in str(caught.value)
    assert not (tmp_path / "installation.json").exists()


async def test_another_canonical_url_is_refused(portal, tmp_path):
    await portal.serve()
    portal.answer["portal"]["url"] = "https://portal.example.org"
    with pytest.raises(WrongPortal, match=r"calls itself https://portal.example.org"):
        await learnt(portal, tmp_path)


async def test_an_absent_portal_is_waited_for_and_that_is_said(portal, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    learning = asyncio.create_task(learnt(portal, tmp_path))
    async with asyncio.timeout(LIMIT_S):
        while "waiting for it" not in caplog.text:
            await asyncio.sleep(0.01)
    await portal.serve()
    own, _ = await learning
    assert own.name == "portal-main"
    assert caplog.text.count("waiting for it") == 1


@pytest.mark.parametrize(
    "bad",
    [502, "<html>", "[]", '{"portal": 5}', json.dumps({"routers": []}), "x" * 300_000, "[" * 9999],
)
async def test_what_does_not_answer_as_a_portal_is_waited_for(portal, tmp_path, caplog, bad):
    caplog.set_level(logging.WARNING)
    await portal.serve()
    portal.answer = bad
    learning = asyncio.create_task(learnt(portal, tmp_path))
    async with asyncio.timeout(LIMIT_S):
        while "waiting for it" not in caplog.text:
            await asyncio.sleep(0.01)
    portal.answer = portal.document()
    await learning
    assert len(caplog.records[0].getMessage()) < 300


async def test_a_copy_serves_while_the_portal_is_down(portal, tmp_path, caplog):
    server = await portal.serve()
    _, first = await learnt(portal, tmp_path)
    await server.close()
    _, second = await learnt(portal, tmp_path)
    assert second == first
    assert "going on with what it said before" in caplog.text


async def test_a_copy_of_another_portal_does_not(portal, tmp_path, caplog):
    server = await portal.serve()
    await learnt(portal, tmp_path)
    await server.close()
    portal.reference = PortalReference(url=portal.url, key=public_line(generate()))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await learn_portal(portal.reference, tmp_path)
    assert "waiting for it" in caplog.text


async def test_a_copy_that_is_damaged_does_not(portal, tmp_path):
    (tmp_path / "installation.json").write_text("{")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await learn_portal(portal.reference, tmp_path)


def test_what_a_newer_portal_says_is_left_out(portal):
    newer = portal.document(image_servers=[{"url": "x"}])
    newer["portal"]["flags"] = {"a": 1}
    newer["routers"][0]["region"] = "eu"
    assert read_public_config(json.dumps(newer).encode()).routers[0].name == "router-r1"
    with pytest.raises(InvalidMessage):
        read_public_config(json.dumps({**newer, "user_url": 5}).encode())
