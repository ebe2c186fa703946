"""A real code-server as a tool, in Chromium: its WebSockets, its terminal, its files."""

import re
import time

import pytest
from lib.dashboard import discard, open_dashboard
from playwright.sync_api import expect
from systems.all_in_one import System
from systems.code_server import make_image
from systems.pods import docker

pytestmark = [pytest.mark.engine, pytest.mark.browser]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A system that offers the terminal, whose image the other one is built on."""
    with System(tmp_path_factory.mktemp("house"), "--tools", "terminal") as system:
        yield system


@pytest.fixture(scope="module")
def image(house):
    """The id of an image with code-server."""
    id = make_image("dit4c/terminal:local")
    yield id
    docker("rmi", "-f", id, check=False)


async def offer(house, image):
    tool = {"name": "code-server", "title": "code-server", "icon": "VS", "image": image}
    async with house.api() as admin:
        await admin.call("POST", "tools", tool, expect=201)


async def test_offered(house, image):
    """An admin adds it by its id."""
    await offer(house, image)


def test_terminal_and_files(house, page, shots):
    open_dashboard(page, house)
    page.locator('[data-action="start"][data-image="code-server"]').click()
    row = page.locator("[data-instance]").filter(has_text="code-server")
    expect(row).to_have_attribute("data-state", "running", timeout=120_000)
    instance = row.get_attribute("data-instance")
    opening = row.locator('[data-action="open"]')
    expect(opening).to_be_visible(timeout=60_000)
    code = page.context.new_page()
    refused = []
    code.on("response", lambda one: refused.append(one.url) if one.status == 403 else None)
    code.goto(opening.get_attribute("href"))
    expect(code.locator(".monaco-workbench")).to_be_visible(timeout=120_000)
    files = code.locator(".explorer-folders-view")
    expect(files).to_be_visible(timeout=60_000)
    code.screenshot(path=shots / "code-server-1-workbench.png")

    # The terminal draws on a canvas; the explorer shows what its commands did.
    code.keyboard.press("Control+`")
    terminal = code.locator(".xterm").first
    expect(terminal).to_be_visible(timeout=60_000)
    for attempt in range(20):
        terminal.click()
        code.keyboard.type(f"echo print $((6*7)) > made-{attempt}.txt\n")
        try:
            expect(files.get_by_text(f"made-{attempt}.txt")).to_be_visible(timeout=5_000)
            break
        except AssertionError:
            continue  # the shell was not there yet
    made = files.get_by_text(f"made-{attempt}.txt")
    expect(made).to_be_visible()
    code.screenshot(path=shots / "code-server-2-terminal.png")

    made.dblclick()
    lines = code.locator(".editor-instance .view-lines").first
    expect(lines).to_contain_text(re.compile(r"print.42"))
    lines.click()
    code.keyboard.press("Control+End")
    code.keyboard.type("written in the editor")
    code.keyboard.press("Control+s")
    code.screenshot(path=shots / "code-server-3-editor.png")
    path, deadline = f"/home/user/project/made-{attempt}.txt", time.monotonic() + 20
    app = docker("ps", "-q", "-f", f"label=dit4c.instance={instance}", "-f", "label=dit4c.role=app")
    while "written in the editor" not in docker("exec", app, "cat", path):
        assert time.monotonic() < deadline, "the editor did not save"
        time.sleep(0.2)
    assert refused == []
    code.close()
    discard(page, house, "code-server")
