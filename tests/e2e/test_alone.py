"""Each component as a process of its own, from its TOML file."""

import asyncio
from contextlib import contextmanager

import pytest
from systems.all_in_one import browser_session, log_in
from systems.four_processes import KINDS, UP, House

pytestmark = pytest.mark.engine

# security.md section 5: the same final state in this time.
CONVERGE_S = 30


@pytest.fixture
def house(tmp_path):
    """Keys, files and enrolments are there; nothing runs but the portal."""
    with written_house(tmp_path) as house:
        yield house


@contextmanager
def written_house(folder):
    house = House(folder)
    try:
        house.write_portal(house.run("images", "build", "--tools", "jupyterlab"))
        house.write_peers(house.run("portal", "key", "--config", house.file("portal")))
        house.run("portal", "init", "--config", house.file("portal"))
        yield house
    finally:
        house.end()


def enrol_all(house):
    house.wait_said("portal", "portal-main is up")
    house.enrol("router", "r1")
    house.enrol("scheduler", "main")
    house.enrol("node", "home")
    for kind in KINDS:
        house.wait_said(kind, UP)


@pytest.fixture(scope="module")
def kept_house(tmp_path_factory):
    """An installation that the tests of this module share; all four run."""
    with written_house(tmp_path_factory.mktemp("house")) as house:
        for kind in KINDS:
            house.start(kind)
        enrol_all(house)
        yield house


@pytest.fixture
def running(kept_house):
    """The shared installation, whatever the test before has left of it."""
    for kind in KINDS:
        if kind not in kept_house.processes:
            kept_house.restart(kind)
    assert kept_house.at_engine() == []
    return kept_house


async def test_from_empty_to_a_page_started_in_any_order(house):
    """Each is looked at at a port of its own meanwhile."""
    peers = ("node", "scheduler", "router")
    for kind in peers:
        house.start(kind)
    for kind in peers:
        await house.wait_seen(kind, "/healthz", 200)
        assert await house.checks(kind, 503) == {"started": "it is starting"}
        house.wait_said(kind, "waiting for it")
    house.start("portal")
    await asyncio.to_thread(enrol_all, house)
    for kind in KINDS:
        assert await house.checks(kind, 200) == {}
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
        seen = {kind: await house.figures(kind) for kind in KINDS}
        await api.discard(instance)
        assert house.at_engine() == []
    for kind in KINDS:
        ours = [key for key in seen[kind] if key[0].startswith("dit4c_")]
        assert ours and all(kind in key for key in ours), "of no other component"
    assert seen["portal"]["dit4c_instances", "portal", "running"] == 1
    assert seen["scheduler"]["dit4c_instance_start_seconds_count", "scheduler"] == 1
    assert seen["scheduler"]["dit4c_nodes", "scheduler", "up"] == 1
    assert seen["node"]["dit4c_pods", "node", "running"] == 1
    assert seen["node"]["dit4c_routers_listening", "node"] == 1
    assert seen["router"]["dit4c_tunnels", "router"] == 2, "the instance's and the node's"
    assert house.stop("router") == 0, house.log("router").read_text()
    assert (await house.checks("node", 503)).keys() == {"routers"}
    assert (await house.checks("scheduler", 503)).keys() == {"nodes"}
    assert house.stop("portal") == 0, house.log("portal").read_text()
    async with asyncio.timeout(60):
        while (await house.checks("scheduler", 503)).keys() != {"nodes", "portal"}:
            await asyncio.sleep(0.1)
    assert (await house.look("node", "/healthz"))[0] == 200
    for kind in ("node", "scheduler"):
        assert house.stop(kind) == 0, house.log(kind).read_text()


@pytest.mark.parametrize("victim", KINDS)
async def test_kill_minus_9_of_each_alone_converges(running, victim):
    """security.md section 5 row 1: at several moments on the way up and on the way down.

    One kill meets an instance at each of the moments.
    """
    delays = (0.7, 0.3, 0.0)  # until the next one is asked for, or the kill
    async with running.api() as api:
        instances = []
        for delay in delays:
            instances.append(await api.start())
            await asyncio.sleep(delay)
    running.kill(victim)
    running.restart(victim)
    async with running.api() as api:
        for instance in instances:
            await api.wait_for(instance, "running", url=True, timeout=CONVERGE_S)
        assert len(running.at_engine()) == 6 * len(instances)
        for instance, delay in zip(instances, delays, strict=True):
            await api.call("POST", f"instances/{instance}/discard", expect=202)
            await asyncio.sleep(delay / 2)
    running.kill(victim)
    running.restart(victim)
    async with running.api() as api:
        for instance in instances:
            await api.wait_for(instance, "discarded", timeout=CONVERGE_S)
        assert running.at_engine() == []


async def test_peers_start_while_the_portal_is_down(running):
    for kind in KINDS:
        assert running.stop(kind) == 0
    for kind in ("router", "node", "scheduler"):
        running.restart(kind)
        assert "going on with what it said before" in running.log(kind).read_text()
    running.restart("portal")
    async with running.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True, timeout=60)
        await api.discard(instance)
