"""Many tabs of one browser: one event stream for all of them, and the newer of two views counts."""

import asyncio

import pytest
from lib.chromium import FLAGS, PROGRAM
from lib.waiting import until
from playwright.async_api import async_playwright, expect

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import StartInstance

# What is tested is the page's; the database makes no difference.
pytestmark = [pytest.mark.browser, pytest.mark.parametrize("engine", ["sqlite"], indirect=True)]

HIDE = """() => {
  Object.defineProperty(document, "hidden", { value: %s, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
async def browser(work):
    """A browser that is logged in; an error in a page fails the test."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        context = await chromium.new_context()
        context.set_default_timeout(10_000)
        problems = []
        context.on("weberror", lambda error: problems.append(str(error.error)))
        page = await context.new_page()
        await page.goto(await work.login_link())
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(work.url + "/")
        yield context
        await chromium.close()
        assert problems == []


def streams(work) -> int:
    """How many event streams the admin's pages have open."""
    return len(work.portal._services.hub._topics.get("person:admin", ()))


async def open_tab(work, browser):
    """Another tab of the dashboard."""
    tab = await browser.new_page()
    await tab.goto(work.url + "/")
    return tab


async def start_by_api(work, name: str) -> str:
    """Start an instance from elsewhere; its id."""
    async with work.api() as api:
        return (await api.post("instances", json={"image": "jupyterlab", "name": name})).json["id"]


async def test_nine_tabs_load_and_are_live_over_one_stream(work, browser):
    await until(lambda: streams(work) == 1)
    tabs = [*browser.pages, *[await open_tab(work, browser) for _ in range(8)]]
    assert len(tabs) == 9
    id = await start_by_api(work, "For all")
    for tab in tabs:
        await expect(tab.locator(f'[data-instance="{id}"] h2')).to_have_text("For all")
    assert streams(work) == 1


async def test_when_the_tab_that_reads_is_closed_another_reads(work, browser):
    (first,) = browser.pages
    await until(lambda: streams(work) == 1)
    second, third = await open_tab(work, browser), await open_tab(work, browser)
    await first.close()
    id = await start_by_api(work, "Afterwards")
    for tab in (second, third):
        await expect(tab.locator(f'[data-instance="{id}"] h2')).to_have_text("Afterwards")
    await until(lambda: streams(work) == 1)


async def test_a_hidden_tab_reads_nothing_and_catches_up_when_it_is_shown(work, browser):
    (first,) = browser.pages
    await until(lambda: streams(work) == 1)
    await first.clock.install()
    await first.evaluate(HIDE % "true")
    await first.clock.fast_forward(21_000)
    await until(lambda: streams(work) == 0)
    id = await start_by_api(work, "Meanwhile")
    await expect(first.locator(f'[data-instance="{id}"]')).to_have_count(0)
    await first.evaluate(HIDE % "false")
    await expect(first.locator(f'[data-instance="{id}"]')).to_have_count(1)

    # Shown beside a tab that reads already, it asks that one.
    second = await open_tab(work, browser)
    await second.clock.install()
    await second.evaluate(HIDE % "true")
    await second.clock.fast_forward(21_000)
    id = await start_by_api(work, "Later")
    await expect(first.locator(f'[data-instance="{id}"]')).to_have_count(1)
    await second.evaluate(HIDE % "false")
    await expect(second.locator(f'[data-instance="{id}"]')).to_have_count(1)
    assert streams(work) == 1


async def test_without_web_locks_each_tab_reads_a_stream_of_its_own(work, browser):
    await browser.pages[0].close()
    await browser.add_init_script("delete Navigator.prototype.locks;")
    tabs = [await open_tab(work, browser) for _ in range(2)]
    await until(lambda: streams(work) == 2)
    id = await start_by_api(work, "Alone")
    for tab in tabs:
        await expect(tab.locator(f'[data-instance="{id}"]')).to_have_count(1)


async def test_logging_out_is_seen_in_every_tab(work, browser):
    tabs = [*browser.pages, await open_tab(work, browser)]
    async with work.browser() as other:
        await other.log_in(await work.login_link())
        await other.submit("/logout", csrf=await other.csrf(), everywhere="1")
    for tab in tabs:
        await expect(tab.get_by_role("heading", name="Please log in")).to_be_visible()


async def test_an_answer_older_than_an_event_changes_nothing(work, browser):
    """An instance that is gone before the answer to its Discard arrives stays gone."""
    (page,) = browser.pages
    passed_on = asyncio.Event()

    async def late(route):
        answer = await route.fetch()
        await passed_on.wait()
        await route.fulfill(response=answer)

    async with work.scheduler() as scheduler:
        id = await start_by_api(work, "Crossing")
        await scheduler.message(StartInstance)
        row = page.locator(f'[data-instance="{id}"]')
        await scheduler.report(id, State.ERRORED, "It could not be started.")
        await expect(row).to_have_attribute("data-state", "errored")
        await page.route("**/discard", late)
        await row.locator('[data-action="discard"]').click()
        async with page.expect_response("**/discard"):
            await page.locator('dialog[open] [data-action="confirm-discard"]').click()
            await expect(row).to_contain_text("Discarding")
            await scheduler.report(id, State.DISCARDED)
            await expect(row).to_have_count(0)
            passed_on.set()
        # An answer that is taken for news shows a row at once; one more event comes after it.
        other = await start_by_api(work, "The next")
        await expect(page.locator(f'[data-instance="{other}"]')).to_have_count(1)
        await expect(row).to_have_count(0)


async def test_a_start_that_has_failed_stays_failed_when_its_answer_comes(work, browser):
    (page,) = browser.pages
    passed_on = asyncio.Event()

    async def late(route):
        answer = await route.fetch()
        await passed_on.wait()
        await route.fulfill(response=answer)

    await page.route("**/start", late)
    async with work.scheduler() as scheduler:
        async with page.expect_response("**/start"):
            await page.click('[data-action="start"][data-image="jupyterlab"]')
            start = await scheduler.message(StartInstance)
            row = page.locator(f'[data-instance="{start.instance}"]')
            await scheduler.report(start.instance, State.ERRORED, "It could not be started.")
            await expect(row).to_have_attribute("data-state", "errored")
            passed_on.set()
        await expect(row.locator("h2")).to_be_focused()
        await expect(row).to_have_attribute("data-state", "errored")
