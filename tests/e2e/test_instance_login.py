"""Ways in to an instance in Chromium: restored tabs, tabs that wait, and too many cookies."""

import re

import pytest
from lib.dashboard import open_dashboard
from playwright.sync_api import expect
from systems.all_in_one import System, dit4c

pytestmark = [pytest.mark.engine, pytest.mark.browser]

TABS, ROUNDS = 10, 3


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with System(tmp_path_factory.mktemp("house"), "--tools", "terminal") as system:
        yield system


def test_ten_tabs_on_three_instances(house, page):
    open_dashboard(page, house)
    start = page.locator('[data-action="start"][data-image="terminal"]')
    origins = []
    for number in range(1, 4):
        start.click()
        opening = page.locator('[data-instance][data-state="running"] [data-action="open"]')
        expect(opening).to_have_count(number, timeout=60_000)
    for link in opening.all():
        origins.append(link.get_attribute("href").rstrip("/"))
    wanted = [f"{origins[n % 3]}/{n // 3 + 1}?tab={n}&x={'y' * 300}" for n in range(TABS)]
    context = page.context
    for _ in range(ROUNDS):
        # The sessions at the instances are over, the one at the portal goes on.
        context.clear_cookies(name="__Host-dit4c-instance")
        assert not [one for one in context.cookies(origins) if one["name"].endswith("instance")]
        tabs = [context.new_page() for _ in wanted]
        for tab, url in zip(tabs, wanted, strict=True):
            tab.evaluate("url => { location.href = url }", url)  # nobody waits for the one before
        for tab in tabs:
            expect(tab.get_by_role("heading")).to_have_text(re.compile("^Terminal"), timeout=60_000)
        assert [tab.url for tab in tabs] == wanted
        for tab in tabs:
            tab.close()


def test_tabs_that_wait_for_a_login(house, page):
    """Neither the portal nor the instance knows the browser: one log-in lets all of them go on."""
    open_dashboard(page, house)
    start = page.locator('[data-action="start"][data-image="terminal"]').first
    opening = page.locator('[data-instance][data-state="running"] [data-action="open"]')
    if not opening.count():
        start.click()
    expect(opening.first).to_be_visible(timeout=60_000)
    origin = opening.first.get_attribute("href").rstrip("/")
    context = page.context
    context.clear_cookies()
    wanted = [f"{origin}/{n}?tab={n}" for n in range(1, 5)]
    tabs = [context.new_page() for _ in wanted]
    for tab, url in zip(tabs, wanted, strict=True):
        tab.evaluate("url => { location.href = url }", url)
    for tab in tabs:
        expect(tab.locator("[data-login-page]")).to_be_visible(timeout=30_000)
    made = dit4c("login-link", "admin", "--data-dir", house.data)
    page.goto(made.stdout.strip())
    page.get_by_role("button", name=re.compile("log in", re.I)).click()
    for tab, url in zip(tabs, wanted, strict=True):
        expect(tab.get_by_role("heading")).to_have_text(re.compile("^Terminal"), timeout=60_000)
        assert tab.url == url


@pytest.mark.parametrize("count", [5, 40])
def test_a_button_deletes_too_many_cookies(house, page, shots, count):
    """As a sibling sets them for the parent domain; on localhost there is none, so for the host."""
    open_dashboard(page, house)
    opening = page.locator('[data-instance][data-state="running"] [data-action="open"]').first
    if not opening.count():
        page.locator('[data-action="start"][data-image="terminal"]').first.click()
    expect(opening).to_be_visible(timeout=60_000)
    url = opening.get_attribute("href")
    page.goto(url)
    expect(page.get_by_role("heading")).to_have_text(re.compile("^Terminal"))
    host = url.split("/")[2].split(":")[0]
    page.context.add_cookies(
        [{"name": f"c{n}", "value": "x" * 4000, "domain": host, "path": "/"} for n in range(count)]
    )
    page.goto(url)
    if count == 40:
        button = page.get_by_role("button", name="Delete the cookies and go on")
        expect(page.get_by_role("heading")).to_contain_text("too many cookies")
        page.screenshot(path=shots / f"too-many-cookies-{count}.png")
        button.click()
    else:
        assert page.goto(f"{url}.dit4c/clear-cookies").status == 200
        page.get_by_role("button", name="Delete the cookies and go on").click()
    expect(page.get_by_role("heading")).to_have_text(re.compile("^Terminal"))
    assert not [one for one in page.context.cookies(url) if re.match(r"c\d+$", one["name"])]
