import pytest
from lib.chromium import FLAGS, PROGRAM
from playwright.async_api import async_playwright
from systems.portal import PortalAtWork


@pytest.fixture
async def work(tmp_path, engine):
    """A portal with an admin, a router, a scheduler and a node enrolled."""
    async with PortalAtWork(tmp_path) as work:
        yield work


def _note(message, problems):
    """A request that fails is no fault of the page; a policy that is broken is."""
    if message.type == "error" and "Failed to load resource" not in message.text:
        problems.append(message.text)


@pytest.fixture
async def page(work):
    """A page that is logged in; an error in it fails the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        page = await browser.new_page()
        page.set_default_timeout(10_000)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: _note(message, problems))
        await page.goto(await work.login_link())
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(work.url + "/")
        yield page
        await browser.close()
        assert problems == []
