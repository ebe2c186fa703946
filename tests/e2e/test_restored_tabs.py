"""A browser that restores its tabs after the sessions' end: each arrives at its own page."""

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
