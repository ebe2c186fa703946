"""A tool that an admin adds by reference: fetched from its registry, started, used, withdrawn."""

import asyncio
import json
import os
import re
import threading

import aiohttp
import pytest
from lib.dashboard import discard, open_dashboard
from playwright.sync_api import expect
from systems.all_in_one import Api, System, browser_session, log_in
from systems.docker_registry import ImageRegistry
from systems.pods import docker, make_image

pytestmark = [pytest.mark.engine, pytest.mark.browser]

MIB = 1024**2
# Some seconds for each image, as over a line at home.
RATE = 4 * MIB


class Registry:
    """A registry of our own, with its loop in a thread: a test with a browser has none."""

    def __init__(self, folder):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.inner = ImageRegistry(folder)
        self._run(self.inner.__aenter__())

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def publish(self, name, words):
        """An image that answers with ``words``: in the registry alone. Its reference."""
        files = {"index.html": words.encode(), "weight": os.urandom(12 * MIB)}
        id = make_image(files, 'CMD ["httpd","-f","-p","8080"]', "EXPOSE 8080/tcp", "ENV PATH=/bin")
        self.inner.rate = None
        reference = self._run(self.inner.push(id, name))
        docker("rmi", "-f", id)
        self.inner.rate = RATE
        return reference

    def end(self):
        self._run(self.inner.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("registry"))
    try:
        yield registry
    finally:
        registry.end()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A system whose catalogue grows."""
    with System(tmp_path_factory.mktemp("house"), "--tools", "terminal") as system:
        yield system


@pytest.fixture
def published(registry):
    """Publishes images that are away from the engine again after the test."""
    references = []

    def publish(name, words):
        references.append(registry.publish(name, words))
        return references[-1]

    yield publish
    for reference in references:
        docker("rmi", "-f", reference, check=False)


async def user(house, admin, name):
    """Somebody new: their API, and a link that logs them in."""
    made = await admin.call("POST", "people", {"name": name}, expect=201)
    path = f"people/{made['id']}/tokens"
    token = (await admin.call("POST", path, {"label": "test"}, expect=201))["token"]
    return Api(house.access["portal"], token), made["login"]["url"]


async def life(house, api, instance, last):
    """What the API's events say of an instance until it is in the state ``last``."""
    url = f"{house.access['portal']}/api/v1/instances/{instance}/events"
    said = []
    timeout = aiohttp.ClientTimeout(total=90)
    async with api._session.get(url, timeout=timeout) as stream:
        async for line in stream.content:
            if line.startswith(b"data:"):
                said.append(json.loads(line[5:]))
                if said[-1]["state"] == last:
                    return said
    raise AssertionError(said)


async def test_from_a_reference_to_its_page_and_away_again(house, published):
    reference = published("lab/hello", "hello from afar")
    tool = {"name": "hello", "title": "Hello", "icon": "Hi", "image": reference, "unchecked": True}
    async with house.api() as admin:
        await admin.call("POST", "tools", tool, expect=201)
        grace, link = await user(house, admin, "Grace")
        async with grace:
            offered = await grace.call("GET", "images")
            assert [image["name"] for image in offered] == ["terminal", "hello"]
            await grace.call("PATCH", "tools/hello", {"offered": False}, expect=403)
            instance = await grace.start("hello")
            said = await life(house, grace, instance, "running")

            states = list(dict.fromkeys(one["state"] for one in said))
            assert states[-3:] == ["waiting_for_image", "starting", "running"]
            fetching = [one for one in said if one["state"] == "waiting_for_image"]
            fractions = [one["progress"] for one in fetching if one["progress"] is not None]
            assert fractions == sorted(fractions)
            assert len(set(fractions)) >= 3
            words = [one["info"] for one in fetching]
            assert [info for info in words if re.match(r"Fetching the image: .* MiB", info)]

            running = await grace.wait_for(instance, "running", url=True)
            async with browser_session(house.access["portal"], running["url"]) as browser:
                await log_in(browser, link)
                async with browser.get(running["url"]) as page:
                    assert (page.status, await page.text()) == (200, "hello from afar")

            await admin.call("PATCH", "tools/hello", {"offered": False})
            await grace.call("POST", "instances", {"image": "hello"}, expect=400)
            assert (await grace.call("GET", f"instances/{instance}"))["state"] == "running"
            await grace.discard(instance)
    assert house.at_engine(instance) == []


async def test_a_digest_that_is_nowhere_is_said_to_its_user(house, registry):
    address = registry.inner.address
    nowhere = f"{address}/lab/nothing@sha256:{'0' * 64}"
    tool = {"name": "nothing", "title": "Nothing", "image": nowhere}
    async with house.api() as admin:
        refused = await admin.call("POST", "tools", tool, expect=400)
        assert f"the registry {address} has no image" in refused["detail"]
        await admin.call("POST", "tools", {**tool, "unchecked": True}, expect=201)
        ada, _ = await user(house, admin, "Ada")
        async with ada:
            instance = await ada.start("nothing")
            failed = await ada.wait_for(instance, "errored")
            info = failed["info"]
            assert info.startswith(f"The registry {address} has no image "), info
            assert "Was it removed, or is its name wrong?" in info
            assert failed["actions"] == ["start", "discard"], "it may be there by then"
            await ada.discard(instance)
    assert house.at_engine(instance) == []


def test_added_on_the_page_and_used(house, published, page, shots):
    reference = published("lab/welcome", "<h1>Welcome</h1>")
    open_dashboard(page, house)
    dashboard = page.context.new_page()
    dashboard.goto(house.access["portal"])

    page.get_by_role("link", name="Catalogue").click()
    expect(page.locator('[data-tool="terminal"]')).to_contain_text("from the configuration")
    form = page.locator('form[action="/admin/tools"]')
    for field, text in {
        "title": "Welcome",
        "name": "welcome",
        "icon": "W",
        "description": "Says who it is.",
        "image": reference.partition("@")[0] + ":older",
    }.items():
        form.locator(f'[name="{field}"]').fill(text)
    form.locator('[data-action="add-tool"]').click()
    wrong = form.locator('[name="image"]')
    expect(form.locator("#wrong-image")).to_contain_text("has no image")
    expect(wrong).to_be_focused()
    expect(form.locator('[name="title"]')).to_have_value("Welcome")
    page.screenshot(path=shots / "catalogue-1-wrong.png", full_page=True)
    wrong.fill(reference.partition("@")[0] + ":latest")
    form.locator('[data-action="add-tool"]').click()
    expect(page.locator('[data-tool="welcome"]')).to_contain_text("Offered", timeout=30_000)
    expect(page.locator('[data-tool="welcome"] .reference')).to_have_text(reference)
    expect(page.locator("#wrong-image")).to_have_count(0)
    page.screenshot(path=shots / "catalogue-2-added.png", full_page=True)

    start = dashboard.locator('[data-action="start"][data-image="welcome"]')
    expect(start).to_have_count(0)
    dashboard.reload()
    start.click()
    row = dashboard.locator("[data-instance]")
    expect(row).to_have_attribute("data-state", "running", timeout=60_000)
    opening = row.locator('[data-action="open"]')
    expect(opening).to_be_visible(timeout=30_000)
    tool = page.context.new_page()
    tool.goto(opening.get_attribute("href"))
    expect(tool.get_by_role("heading")).to_have_text("Welcome")

    page.locator('[data-tool="welcome"]').get_by_role("link", name="Manage").click()
    page.locator('[data-action="withdraw"]').click()
    expect(page.locator("main")).to_contain_text("Offer again")
    page.screenshot(path=shots / "catalogue-4-withdrawn.png", full_page=True)
    dashboard.reload()
    expect(start).to_have_count(0)
    expect(row.locator('[data-part="icon"]')).to_have_text("W")
    expect(row).to_have_attribute("data-state", "running")
    dashboard.screenshot(path=shots / "catalogue-5-goes-on.png", full_page=True)
    discard(dashboard, house, "Welcome")
