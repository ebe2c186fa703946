"""Components as processes that can be looked at: health, readiness, figures, JSON logs.

The node agent, which needs a container engine, and all together: tests/e2e/test_alone.py.
"""

import asyncio
import json

import aiohttp
import pytest
from systems.four_processes import UP, House

from dit4c_p2p.audit import verify


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    house.write(
        "portal",
        f"""
url = "{house.url}"
listen = ["127.0.0.1:{house.portal_port}"]
user_url = "http://{{id}}.localhost:{house.router_port}/"
routers = [{{id = "r1", ssh = ["127.0.0.1:{house.ssh_port}"], http = ["127.0.0.1:1"]}}]
log = {{format = "json"}}
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
""",
    )
    yield house
    house.stop_all()


@pytest.fixture
def scheduler(house):
    key = house.run("portal", "key", "--config", house.file("portal"))
    house.write("scheduler", f'nodes = ["home"]\nportal = {{url = "{house.url}", key = "{key}"}}')
    return house


async def test_a_scheduler_is_ready_with_its_portal_and_nodes(scheduler):
    house = scheduler
    house.start("scheduler")
    await house.wait_seen("scheduler", "/healthz", 200)
    assert await house.checks("scheduler", 503) == {"started": "it is starting"}
    house.run("portal", "init", "--config", house.file("portal"))
    house.start("portal")
    house.wait_said("scheduler", UP)
    assert (await house.checks("scheduler", 503)).keys() == {"portal", "nodes"}
    assert (await house.figures("scheduler"))["dit4c_portal_link_up", "scheduler"] == 0
    house.enrol("scheduler", "main")
    async with asyncio.timeout(60):
        while (await house.figures("scheduler"))["dit4c_portal_link_up", "scheduler"] != 1:
            await asyncio.sleep(0.1)
    assert (await house.checks("scheduler", 503)).keys() == {"nodes"}
    assert (await house.figures("scheduler"))["dit4c_nodes", "scheduler", "down"] == 1
    assert (await house.look("scheduler", "/nothing"))[0] == 404


async def test_a_router_is_alive_before_its_portal_and_ready_after_it(house):
    link = house.run("portal", "init", "--config", house.file("portal"))
    house.start("router")
    await house.wait_seen("router", "/healthz", 200)
    assert await house.checks("router", 503) == {"started": "it is starting"}
    house.start("portal")
    assert await house.checks("portal", 200) == await house.checks("router", 200) == {}
    names = {name for name, *_ in await house.figures("router")}
    assert {"dit4c_build_info", "dit4c_tunnels", "dit4c_key_events_heard"} <= names
    assert "dit4c_http_requests_total" not in names

    async with aiohttp.ClientSession() as session:
        async with session.post(link, allow_redirects=False) as answer:
            assert answer.status == 303
    assert (await house.figures("portal"))["dit4c_login_total", "portal", "done"] == 1

    assert house.stop("portal") == 0
    assert (await house.checks("router", 503)).keys() == {"key events"}
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
