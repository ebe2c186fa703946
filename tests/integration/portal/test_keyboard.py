"""The main pages by keyboard alone, in Chromium: Tab, Shift+Tab, Enter, Space and letters.

Wherever the focus comes, it is seen.
"""

import re

import pytest
from playwright.async_api import expect
from systems.portal import answers_on

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartInstance, StopInstance

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("engine", ["sqlite"], indirect=True)]
# More than any of the pages has.
MOST_STOPS = 90
# What has the focus: what it is called, and whether that is seen.
FOCUSED = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at), box = at.getBoundingClientRect();
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return {
    name: (at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText
      || at.value || at.title || "").replace(/\\s+/g, " ").trim(),
    html: at.outerHTML.slice(0, 120),
    seen: box.width > 0 && box.height > 0 && (outlined || style.boxShadow !== "none"),
  };
}"""


class Keyboard:
    """Somebody without a mouse."""

    def __init__(self, page) -> None:
        self.page = page

    async def tab_to(self, name: str, *, key: str = "Tab") -> None:
        """Press Tab until something has the focus whose name begins so."""
        stops = []
        for _ in range(MOST_STOPS):
            await self.page.keyboard.press(key)
            at = await self.page.evaluate(FOCUSED)
            if at is None:
                continue
            assert at["seen"], f"the focus is not seen at {at['html']}"
            if at["name"].startswith(name):
                return
            stops.append(at["name"])
        raise AssertionError(f"{name!r} is not reached: {stops}")

    async def press(self, name: str, key: str = "Enter") -> None:
        """Go to a button or a link and press it."""
        await self.tab_to(name)
        await self.page.keyboard.press(key)

    async def fill(self, name: str, text: str) -> None:
        """Go to a field and type."""
        await self.tab_to(name)
        await self.page.keyboard.type(text)


@pytest.fixture
def keys(page):
    return Keyboard(page)


async def test_an_instance_from_start_to_discard(work, page, keys):
    async with work.scheduler() as scheduler:
        await page.reload()
        await keys.press("Skip to")
        await expect(page.locator("#main")).to_be_focused()
        await keys.fill("Name", "Mine")
        await page.keyboard.press("Enter")
        start = await scheduler.message(StartInstance)
        row = page.locator(f'[data-instance="{start.instance}"]')
        await expect(row.locator("h2")).to_be_focused()
        await scheduler.report(start.instance, State.STARTING, node="node-main")
        key = await scheduler.allocate(start)
        await scheduler.report(start.instance, State.RUNNING, node="node-main")
        await answers_on(work, start.instance, key)

        # The drawer with its log, and the way to the instance itself.
        await keys.press("Log of Mine")
        await expect(row.locator('[data-part="live-log"]')).to_have_attribute("open", "")
        await keys.press("Log of Mine")
        await keys.tab_to("Open Mine")
        assert await page.evaluate("document.activeElement.target") == "_blank"

        await keys.press("Rename Mine")
        await expect(page.get_by_role("dialog").get_by_label("Name")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(row.locator('[data-action="rename"]')).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.type("Soil")
        await page.keyboard.press("Enter")
        await expect(row.locator("h2")).to_have_text("Soil")

        await keys.press("Stop Soil")
        stop = await scheduler.message(StopInstance)
        await expect(row.locator("h2")).to_be_focused()
        await scheduler.report(stop.instance, State.EXITED, node="node-main")
        await keys.tab_to("Start again Soil")

        await keys.press("Discard Soil")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await expect(page.locator('[data-action="keep"]')).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(row.locator('[data-action="discard"]')).to_be_focused()
        await page.keyboard.press("Enter")
        await keys.press("Discard")
        assert (await scheduler.message(DiscardInstance)).instance == start.instance
        await expect(row.locator("h2")).to_be_focused()
        await scheduler.report(start.instance, State.DISCARDED)
        await expect(page.locator("#mine")).to_be_focused()


async def test_the_account_page_and_the_menu(work, page, keys):
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    await keys.press("A Admin")
    await keys.press("Your account")
    await page.wait_for_url(re.compile("/account$"))

    await keys.press("Add a passkey")
    await expect(page.locator('[data-action="remove-passkey"]')).to_have_count(1)

    await keys.fill("Public key", public_line(generate()))
    await page.keyboard.press("Tab")
    await page.keyboard.type("Laptop")
    await page.keyboard.press("Enter")
    await expect(page.locator("#done")).to_be_visible()
    await expect(page.get_by_text("Laptop", exact=True).first).to_be_visible()

    await keys.fill("What it is for", "Backup")
    await keys.press("As an admin", "Space")
    await keys.press("Make a token")
    await expect(page.locator("#secret")).to_be_visible()
    await keys.press("Revoke Backup")
    await expect(page.locator("#done")).to_have_text("The token is revoked.")

    await keys.press("A Admin")
    await keys.tab_to("Log out")
    async with page.expect_response(lambda answer: answer.request.method == "POST") as left:
        await page.keyboard.press("Enter")
    assert (await left.value).status == 303
    await expect(page.locator('[action="/logout"]')).to_have_count(0)


async def test_every_page_shows_where_the_focus_is(work, page, keys):
    await work.person("grace")
    async with work.api() as api:
        await api.post("groups", json={"title": "Soil", "id": "soil"})
    for path in (
        *("/admin/people", "/admin/people/grace", "/admin/tools", "/admin/groups"),
        *("/groups/soil", "/admin/machines", "/admin/instances", "/admin/keys", "/admin/audit"),
        *("/admin/invitations", "/files"),
    ):
        answer = await page.goto(work.url + path)
        assert answer.status == 200, path
        last = await page.evaluate(
            """() => [...document.querySelectorAll("main a[href], main button, main input")]
              .filter((one) => one.checkVisibility() && one.type !== "hidden").length"""
        )
        seen = set()
        for _ in range(min(last, MOST_STOPS) + 20):
            await page.keyboard.press("Tab")
            at = await page.evaluate(FOCUSED)
            if at is None:
                break
            assert at["seen"], f"{path}: the focus is not seen at {at['html']}"
            seen.add(at["html"])
        assert len(seen) >= last, path
