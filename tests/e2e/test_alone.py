"""Each component as a process of its own, from its TOML file."""

import asyncio

import pytest
from systems.all_in_one import browser_session, log_in
from systems.four_processes import KINDS, UP, House

pytestmark = pytest.mark.engine

# security.md section 5: the same final state in this time.
CONVERGE_S = 30


@pytest.fixture
def house(tmp_path):
    """Keys, files and enrolments are there; nothing runs but the portal."""
    house = House(tmp_path)
    try:
        house.write_portal(house.run("images", "build", "--tools", "jupyterlab"))
        house.write_peers(house.run("portal", "key", "--config", house.file("portal")))
        house.run("portal", "init", "--config", house.file("portal"))
        yield house
    finally:
        house.end()


async def begin(house, order):
    """Start all in this order, then enrol."""
    for kind in order:
        house.start(kind)
    house.wait_said("portal", "portal-main is up")
    await asyncio.to_thread(house.enrol, "router", "r1")
    await asyncio.to_thread(house.enrol, "scheduler", "main")
    await asyncio.to_thread(house.enrol, "node", "home")
    for kind in order:
        house.wait_said(kind, UP)


async def test_from_empty_to_a_page_started_in_any_order(house):
    await begin(house, ["node", "scheduler", "router", "portal"])
    for kind in ("node", "scheduler", "router"):
        assert "waiting for it" in house.log(kind).read_text()
    async with house.api() as api:
        instance = await api.start()
        running = await api.wait_for(instance, "running", url=True)
        assert running["url"] == f"http://{instance}.localhost:{house.router_port}/"
        link = house.run("login-link", "admin", "--config", house.file("portal"))
        async with browser_session(house.url, running["url"]) as browser:
            await log_in(browser, link)
            async with browser.get(running["url"]) as page:
                assert page.status == 200
                assert "JupyterLab" in await page.text()
        await api.discard(instance)
        assert house.at_engine() == []
    for kind in KINDS:
        assert house.stop(kind) == 0, house.log(kind).read_text()


async def test_each_is_looked_at_at_a_port_of_its_own(house):
    peers = ("node", "scheduler", "router")
    for kind in peers:
        house.start(kind)
    for kind in peers:
        await house.wait_seen(kind, "/healthz", 200)
        assert await house.checks(kind, 503) == {"started": "it is starting"}
    await begin(house, ["portal"])
    for kind in KINDS:
        assert await house.checks(kind, 200) == {}
    async with house.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True)
        seen = {kind: await house.figures(kind) for kind in KINDS}
        await api.discard(instance)
    for kind in KINDS:
        ours = [key for key in seen[kind] if key[0].startswith("dit4c_")]
        assert ours and all(kind in key for key in ours), "of no other component"
    assert seen["portal"]["dit4c_instances", "portal", "running"] == 1
    assert seen["scheduler"]["dit4c_instance_start_seconds_count", "scheduler"] == 1
    assert seen["scheduler"]["dit4c_nodes", "scheduler", "up"] == 1
    assert seen["node"]["dit4c_pods", "node", "running"] == 1
    assert seen["node"]["dit4c_routers_listening", "node"] == 1
    assert seen["router"]["dit4c_tunnels", "router"] == 2, "the instance's and the node's"
    assert house.stop("router") == 0
    assert (await house.checks("node", 503)).keys() == {"routers"}
    assert (await house.checks("scheduler", 503)).keys() == {"nodes"}
    assert house.stop("portal") == 0
    async with asyncio.timeout(60):
        while (await house.checks("scheduler", 503)).keys() != {"nodes", "portal"}:
            await asyncio.sleep(0.1)
    assert (await house.look("node", "/healthz"))[0] == 200


@pytest.mark.parametrize("victim", KINDS)
async def test_kill_minus_9_of_each_alone_converges(house, victim):
    """security.md section 5 row 1: at several moments on the way up and on the way down."""
    await begin(house, KINDS)
    for delay in (0.0, 0.3, 1.0):
        async with house.api() as api:
            instance = await api.start()
            await asyncio.sleep(delay)
        house.kill(victim)
        house.restart(victim)
        async with house.api() as api:
            await api.wait_for(instance, "running", url=True, timeout=CONVERGE_S)
            assert len(house.at_engine()) == 6
            await api.call("POST", f"instances/{instance}/discard", expect=202)
            await asyncio.sleep(delay / 2)
        house.kill(victim)
        house.restart(victim)
        async with house.api() as api:
            await api.wait_for(instance, "discarded", timeout=CONVERGE_S)
            assert house.at_engine() == []


async def test_peers_start_while_the_portal_is_down(house):
    await begin(house, KINDS)
    for kind in KINDS:
        assert house.stop(kind) == 0
    for kind in ("router", "node", "scheduler"):
        house.restart(kind)
        assert "going on with what it said before" in house.log(kind).read_text()
    house.restart("portal")
    async with house.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True, timeout=60)
        await api.discard(instance)
