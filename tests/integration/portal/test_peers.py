"""What instances and routers say and ask; bad requests at the door."""

import asyncio
import socket

import pytest
from systems.portal import Client, PortalAtWork, answers_on, running_instance

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import generate
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import StartInstance
from dit4c_p2p.messages.public import PublicConfig
from dit4c_p2p.portal import Limits, Portal
from dit4c_p2p.portal.models import Instance


@pytest.fixture
async def web(work):
    async with Client(work.url) as client:
        yield client


async def put(web, token, body=b'{"routers": ["router-main"]}'):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await web.request("PUT", "/instances/", data=body, headers=headers)


async def test_public_config(work, web):
    said = decode((await web.get("/config.json")).body, PublicConfig)
    assert said.portal == work.portal.info
    assert said.routers == list(work.config.routers)
    assert said.user_url == work.config.user_url


@pytest.mark.both_databases
async def test_row_7_a_token_acts_once(work, web):
    async with work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
    token = work.jwt(f"instance-{instance}", key=key)
    answers = await asyncio.gather(*(put(web, token) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [204, *[401] * 7]


async def test_row_1_identity_comes_from_the_key(work, web):
    async with work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
        other, other_key = await running_instance(work, scheduler)
        await scheduler.report(other, State.STOPPING)
    for token, status in (
        ("", 401),
        ("garbage", 401),
        (work.jwt(f"instance-{instance}", key=other_key), 401),
        (work.jwt(f"instance-{instance}", key=generate()), 401),
        (work.jwt("router-main"), 403),
        (work.jwt("node-main"), 403),
    ):
        assert (await put(web, token)).status == status
    assert (await Instance.get(id=other)).answers_on == []
    own = work.jwt(f"instance-{instance}", key=key)
    bad = await put(web, own, b'{"routers": ["router-mine"]}')
    assert (bad.status, bad.json["field"]) == (400, "routers")
    assert (await put(web, own)).status == 204, "a refused call does not use the token up"


async def test_row_13_the_portal_derives_the_url_itself(work, web):
    async with work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
    token = work.jwt(f"instance-{instance}", key=key)
    body = b'{"routers": ["router-main"], "url": "http://evil.example/"}'
    assert (await put(web, token, body)).status == 204
    async with work.api() as api:
        shown = (await api.get(f"instances/{instance}")).json
    assert shown["url"] == f"http://{instance}.localhost:8081/"


async def test_page_state(work, web):
    async def state(id, token=None):
        headers = {"Authorization": f"Bearer {token or work.jwt('router-main')}"}
        return await web.get(f"/instances/{id}/page-state", headers=headers)

    async with work.scheduler() as scheduler, work.api() as api:
        made = (await api.post("instances", json={"image": "jupyterlab", "name": "Secret"})).json
        shown = (await state(made["id"])).json
        assert shown == {"state": "starting", "title": "JupyterLab"}
        start = await scheduler.message(StartInstance)
        key = await scheduler.allocate(start)
        await scheduler.report(made["id"], State.RUNNING)
        await answers_on(work, made["id"], key)
        assert (await state(made["id"])).json["state"] == "running"
        await scheduler.report(made["id"], State.DISCARDED)
        assert (await state(made["id"])).json["state"] == "gone"
    assert (await state("abcdefghij")).json == {"state": "unknown", "title": ""}
    assert (await state(made["id"], work.jwt("node-main"))).status == 403
    token = work.jwt("router-main")
    assert [(await state(made["id"], token)).status for _ in range(2)] == [200, 200]


async def raw(work, data, *, wait_s=5):
    """What the portal answers to bytes on a connection, until it closes or ``wait_s`` is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", work.port)
    try:
        writer.write(data)
        async with asyncio.timeout(wait_s):
            return await reader.read(65536)
    finally:
        writer.close()


async def test_row_9_targets_and_hosts(work):
    host = work.config.host.encode()
    for head, status in (
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n", b"421"),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: " + host + b"\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nHost: " + host + b"\r\n", b"400"),
        (b"OPTIONS * HTTP/1.1\r\nHost: " + host + b"\r\n", b"400"),
    ):
        answer = await raw(work, head + b"Connection: close\r\n\r\n")
        assert answer.split()[1] == status, (head, answer[:200])


async def test_a_request_head_of_a_mebibyte(work):
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2**20
    answer = await raw(work, head + b"\r\n\r\n")
    assert answer.split()[1] in (b"400", b"431")


async def test_a_head_that_trickles_in_is_cut_off(tmp_path, engine):
    async with PortalAtWork(tmp_path, Limits(head_s=0.3)) as work:
        assert await raw(work, b"GET / HTTP/1.1\r\nHo") == b""
        assert await raw(work, b"") == b""
        host = work.config.host.encode()
        whole = b"GET /config.json HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        both = await raw(work, whole + b"GET / HT")
        assert both.startswith(b"HTTP/1.1 200"), "the second head is cut off, not the first"


async def test_a_slow_stream_is_not_cut_off_by_the_heads_limit(tmp_path, engine):
    async with PortalAtWork(tmp_path, Limits(head_s=0.3)) as work, Client(work.url) as web:
        async with web.session.get(f"{work.url}/keys/events") as response:
            for _ in range(2):
                async with asyncio.timeout(5):
                    await response.content.readuntil(b"\n\n")


async def test_a_port_that_is_taken(work, tmp_path):
    second = Portal(work.config)
    with pytest.raises(ConfigError) as caught:
        await second.start()
    assert str(work.port) in caught.value.one_line()
    assert "\n" not in caught.value.one_line()
    with socket.create_connection(("127.0.0.1", work.port), timeout=5):
        pass


async def test_static_files(work, web):
    page = (await web.get("/", headers={"Accept": "text/html"})).text
    path = page.split('<link rel="stylesheet" href="', 1)[1].split('"', 1)[0]
    file = await web.get(path)
    assert file.headers["Content-Type"].startswith("text/css")
    assert "immutable" in file.headers["Cache-Control"]
    tag = {"If-None-Match": file.headers["ETag"]}
    assert (await web.get(path, headers=tag)).status == 304
    for bad in ("/static/../setup.py", "/static/%2e%2e/setup.py", "/static/nothing.css"):
        assert (await web.get(bad)).status == 404


@pytest.mark.parametrize(("off_s", "status"), [(-60, 200), (55, 200), (-600, 401), (600, 401)])
async def test_a_clock_that_is_off_is_called_so(work, off_s, status):
    token = work.jwt("node-main", now=work.clock() + off_s, lifetime_s=120)
    async with work.api(token) as node:
        answer = await node.get("whoami")
        assert answer.status == status
        assert status == 200 or "clock" in answer.json["detail"]


async def test_a_caller_learns_where_it_is_seen(work):
    """A node keeps its pods from that address, which may be its owner's router's."""
    async with Client(work.url) as client:
        said = await client.request("GET", "/caller-address")
    assert said.json == {"address": "127.0.0.1"}
