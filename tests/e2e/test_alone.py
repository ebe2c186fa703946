"""Each component as a process of its own, from its TOML file."""

import asyncio

import pytest
from support.alone import KINDS, UP, House
from support.system import browser_session, log_in

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
