"""Each further tool as a person uses it, in Chromium."""

import re

import pytest
from lib.dashboard import discard, open_dashboard
from playwright.sync_api import expect
from systems.all_in_one import System

pytestmark = [pytest.mark.engine, pytest.mark.browser]


# For what is drawn while Java and Chromium share two processors with the rest.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A system that offers all tools."""
    with System(tmp_path_factory.mktemp("tools"), "--tools", "all") as system:
        yield system


@pytest.fixture
def dashboard(house, page):
    """The portal's page, logged in."""
    open_dashboard(page, house)
    return page


def whole(tool, drawn, timeout=20_000):
    """Wait until ``drawn``, a part of the page, is there.

    Chromium drops what it is loading when a network interface of its machine comes or goes
    (ERR_NETWORK_CHANGED), such as another container's. A person reloads, and so do we.
    """
    for _ in range(5):
        try:
            expect(drawn).to_be_visible(timeout=timeout)
            return
        except AssertionError:
            tool.reload()
    expect(drawn).to_be_visible(timeout=timeout)


def start(dashboard, name, title):
    """Start a tool and open it in a page of its own; that page."""
    dashboard.locator(f'[data-action="start"][data-image="{name}"]').click()
    row = dashboard.locator("[data-instance]").filter(has_text=title)
    expect(row).to_have_attribute("data-state", "running", timeout=60_000)
    opening = row.locator('[data-action="open"]')
    expect(opening).to_be_visible(timeout=60_000)
    tool = dashboard.context.new_page()
    tool.goto(opening.get_attribute("href"))
    return tool


def columns(tool, mark):
    """How wide the shell thinks its terminal is; ``mark`` has not been used before."""
    tool.keyboard.type(f"clear; echo {mark}=$(tput cols).\n")
    rows = tool.locator(".xterm-rows")
    printed = re.compile(rf"{mark}=(\d+)\.")
    expect(rows).to_contain_text(printed)
    return int(printed.search(rows.inner_text())[1])


def test_a_shell_that_is_there_again_after_a_reload(house, dashboard, shots):
    dashboard.screenshot(path=shots / "tools-1-catalogue.png", full_page=True)
    tool = start(dashboard, "terminal", "Terminal")
    rows = tool.locator(".xterm-rows")
    whole(tool, rows.get_by_text("$"))
    tool.keyboard.type("echo $((6*7))\n")
    expect(rows.get_by_text("42", exact=True)).to_be_visible()
    tool.keyboard.type("git --version && curl --version | head -1 && ls -la\n")
    expect(rows).to_contain_text(".bash_logout")
    tool.screenshot(path=shots / "tools-2-terminal.png")

    tool.keyboard.type("HERE=still_; clear\n")
    expect(rows).not_to_contain_text("42")
    tool.reload()
    whole(tool, rows.get_by_text("$"))
    tool.keyboard.type("echo ${HERE}here\n")
    expect(rows).to_contain_text("still_here")

    wide = columns(tool, "wide")
    tool.set_viewport_size({"width": 600, "height": 500})
    tool.wait_for_function("document.querySelector('.xterm-screen').clientWidth < 600")
    assert columns(tool, "narrow") < wide
    tool.screenshot(path=shots / "tools-3-narrow.png")

    with tool.context.expect_page() as opened:
        tool.get_by_role("link", name="New shell").click()
    another = opened.value
    expect(another.get_by_role("heading")).to_have_text("Terminal – shell 2")
    whole(another, another.locator(".xterm-rows").get_by_text("$"))

    tool.bring_to_front()
    tool.keyboard.type("exit\n")
    expect(tool.get_by_role("status")).to_contain_text("The shell has ended")
    tool.keyboard.press("Enter")
    expect(tool.get_by_role("status")).to_be_empty()
    discard(dashboard, house, "Terminal")
    expect(another.get_by_role("status")).to_contain_text("connection is lost")
    another.screenshot(path=shots / "tools-4-gone.png")


def test_a_table_in_openrefine(house, dashboard, shots):
    tool = start(dashboard, "openrefine", "OpenRefine")
    clipboard = tool.get_by_text("Clipboard", exact=True)
    whole(tool, clipboard)
    clipboard.click()
    tool.locator("textarea:visible").fill("town,people\nKraków,800000\nŁódź,670000\n")
    tool.screenshot(path=shots / "tools-5-clipboard.png")
    tool.get_by_role("button", name=re.compile("Next")).locator("visible=true").click()
    expect(tool.locator(".data-table")).to_contain_text("Kraków")
    tool.screenshot(path=shots / "tools-6-preview.png")
    tool.get_by_role("button", name=re.compile("Create project", re.I)).locator(
        "visible=true"
    ).click()
    # The preview has a table, too.
    tool.wait_for_url(re.compile(r"/project\?"))
    whole(tool, tool.locator("#summary-bar").get_by_text("2 rows"))
    table = tool.locator("table.data-table")
    expect(table).to_contain_text("Kraków")
    expect(table).to_contain_text("670000")
    tool.wait_for_load_state("networkidle")
    tool.screenshot(path=shots / "tools-7-rows.png")
    discard(dashboard, house, "OpenRefine")
