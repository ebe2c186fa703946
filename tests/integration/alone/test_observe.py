"""Portal and router as processes that can be looked at: health, readiness, figures, JSON logs."""

import asyncio
import json

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.alone import House
from support.system import free_ports

from dit4c_p2p.audit import verify


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    house.portal_seen, house.router_seen = free_ports(2)
    house.write(
        "portal",
        f"""
url = "{house.url}"
listen = ["127.0.0.1:{house.portal_port}"]
user_url = "http://{{id}}.localhost:{house.router_port}/"
routers = [{{id = "r1", ssh = ["127.0.0.1:{house.ssh_port}"], http = ["127.0.0.1:1"]}}]
log = {{format = "json"}}
observe = {{listen = "127.0.0.1:{house.portal_seen}"}}
""",
    )
    key = house.run("portal", "key", "--config", house.file("portal"))
    house.write(
        "router",
        f"""
id = "r1"
listen = ["127.0.0.1:{house.router_port}"]
listen_ssh = ["127.0.0.1:{house.ssh_port}"]
portal = {{url = "{house.url}", key = "{key}"}}
log = {{format = "json"}}
observe = {{listen = "127.0.0.1:{house.router_seen}"}}
""",
    )
    yield house
    for kind in list(house.processes):
        assert house.stop(kind) == 0, house.log(kind).read_text()


async def status(port, page):
    """The status of a page, None while nothing listens; and what it says."""
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}{page}") as answer:
                return answer.status, await answer.text()
    except aiohttp.ClientConnectorError:
        return None, ""


async def until(port, page, wanted):
    said = ""
    try:
        async with asyncio.timeout(60):
            while True:
                found, said = await status(port, page)
                if found == wanted:
                    return said
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{page} is not {wanted}: {said}") from None


async def test_a_router_is_alive_before_its_portal_and_ready_after_it(house):
    link = house.run("portal", "init", "--config", house.file("portal"))
    house.start("router")
    await until(house.router_seen, "/healthz", 200)
    said = await until(house.router_seen, "/readyz", 503)
    assert json.loads(said)["components"] == {
        "router": {"started": {"ok": False, "text": "it is starting"}}
    }
    house.start("portal")
    await until(house.portal_seen, "/readyz", 200)
    await until(house.router_seen, "/readyz", 200)
    _, text = await status(house.router_seen, "/metrics")
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"dit4c_build_info", "dit4c_tunnels", "dit4c_key_events_heard"} <= families
    assert "dit4c_http_requests" not in families

    async with aiohttp.ClientSession() as session:
        async with session.post(link, allow_redirects=False) as answer:
            assert answer.status == 303
    _, text = await status(house.portal_seen, "/metrics")
    assert 'dit4c_login_total{component="portal",outcome="done"} 1.0' in text

    assert house.stop("portal") == 0
    said = await until(house.router_seen, "/readyz", 503)
    assert json.loads(said)["components"]["router"]["key events"]["ok"] is False
    written = house.log("router").read_text() + house.log("portal").read_text()
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert {line["level"] for line in lines} >= {"info"}
    assert any(line.get("peer") for line in lines)
    assert link.rsplit("/", 1)[1] not in written

    audit = house.data("portal") / "audit.jsonl"
    acts = [json.loads(line) for line in audit.read_text().splitlines()]
    assert verify(audit).lines == len(acts)
    made = next(act for act in acts if act["what"] == "login_link.create")
    assert made["who"].startswith("local:")
    assert [act["who"] for act in acts if act["what"] == "login"] == ["admin"]
