"""Passkeys in Chromium with its virtual authenticator: made after a link, used a month later."""

import pytest
from lib.chromium import FLAGS, PROGRAM
from playwright.async_api import async_playwright, expect

# What is tested is the page's; the database makes no difference.
pytestmark = [pytest.mark.browser, pytest.mark.parametrize("engine", ["sqlite"], indirect=True)]


@pytest.fixture
async def chromium(work):
    """A Chromium; an error in a page fails the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield browser
        await browser.close()


class Device:
    """A browser's profile with an authenticator of its own."""

    def __init__(self, page, session, id) -> None:
        self.page = page
        self._session = session
        self._id = id

    @classmethod
    async def new(cls, chromium, *, verified=True):
        """A fresh profile; ``verified`` says whether its user passes the fingerprint's check."""
        context = await chromium.new_context()
        context.set_default_timeout(10_000)
        page = await context.new_page()
        session = await context.new_cdp_session(page)
        await session.send("WebAuthn.enable")
        made = await session.send(
            "WebAuthn.addVirtualAuthenticator",
            {
                "options": {
                    "protocol": "ctap2",
                    "transport": "internal",
                    "hasResidentKey": True,
                    "hasUserVerification": True,
                    "isUserVerified": verified,
                }
            },
        )
        return cls(page, session, made["authenticatorId"])

    async def credentials(self):
        """The passkeys that are in the authenticator."""
        answer = await self._session.send("WebAuthn.getCredentials", {"authenticatorId": self._id})
        return answer["credentials"]

    async def add(self, credential):
        """Put a passkey into it, as a device that shares passkeys does."""
        wanted = {
            name: value
            for name, value in credential.items()
            if name not in ("userName", "userDisplayName")
        }
        await self._session.send(
            "WebAuthn.addCredential", {"authenticatorId": self._id, "credential": wanted}
        )


async def invited(work) -> str:
    """The link of somebody who has never been here."""
    async with work.api() as api:
        answer = await api.post("people", json={"name": "Rosa Ruiz"})
    return answer.json["login"]["url"]


async def make_a_passkey(device, link):
    """Open an invitation, log in, and accept what is offered."""
    page = device.page
    await page.goto(link)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Come back without a link")).to_be_visible()
    await page.get_by_role("button", name="Make a passkey").click()
    await expect(page.get_by_text("Done: from now on this passkey logs you in")).to_be_visible()


async def test_invited_then_with_a_passkey_and_nothing_else_a_month_later(work, chromium):
    first = await Device.new(chromium)
    await make_a_passkey(first, await invited(work))
    (credential,) = await first.credentials()
    assert credential["rpId"] == "localhost"
    await first.page.goto(work.url + "/")
    await expect(first.page.get_by_role("heading", name="Your instances")).to_be_visible()
    await expect(first.page.get_by_text("Come back without a link")).to_have_count(0)

    work.clock.ahead = 31 * 24 * 3600
    second = await Device.new(chromium)
    await second.add(credential)
    await second.page.goto(work.url + "/account")
    await expect(second.page.get_by_role("heading", name="Please log in")).to_be_visible()
    await second.page.get_by_role("button", name="Log in with a passkey").click()
    await expect(second.page.get_by_role("heading", name="Rosa Ruiz")).to_be_visible()
    await expect(second.page.get_by_text("last used")).to_have_count(2)
    assert second.page.url == work.url + "/account", "one lands where one was going"


async def test_every_tab_that_asks_goes_on_once_one_has_logged_in(work, chromium):
    device = await Device.new(chromium)
    await make_a_passkey(device, await invited(work))
    await device.page.get_by_role("button", name="Log out everywhere").last.click()
    tabs = [await device.page.context.new_page() for _ in range(2)]
    for tab in tabs:
        await tab.goto(work.url + "/account")
        await expect(tab.get_by_role("heading", name="Please log in")).to_be_visible()
    await device.page.get_by_role("button", name="Log in with a passkey").click()
    for tab in tabs:
        await expect(tab.get_by_role("heading", name="Rosa Ruiz")).to_be_visible()


async def test_a_removed_passkey_and_a_finger_that_is_not_known(work, chromium):
    device = await Device.new(chromium)
    await make_a_passkey(device, await invited(work))
    (credential,) = await device.credentials()
    await device.page.get_by_role("button", name="Remove").click()
    await expect(device.page.locator("[data-passkey-row]")).to_have_count(0)
    await device.page.get_by_role("button", name="Log out everywhere").last.click()
    await device.page.get_by_role("button", name="Log in with a passkey").click()
    await expect(device.page.get_by_role("alert")).to_contain_text("not known here any more")

    stranger = await Device.new(chromium, verified=False)
    await stranger.add(credential)
    await stranger.page.goto(work.url + "/")
    await stranger.page.get_by_role("button", name="Log in with a passkey").click()
    await expect(stranger.page.get_by_role("alert")).to_contain_text("Nothing was chosen")


async def test_a_second_passkey_on_the_same_device_is_refused_in_words(work, chromium):
    device = await Device.new(chromium)
    await make_a_passkey(device, await invited(work))
    await device.page.get_by_role("button", name="Add a passkey").click()
    await expect(device.page.get_by_role("alert")).to_contain_text("has a passkey of yours")


async def test_a_browser_without_passkeys_sees_nothing_of_them(work, chromium):
    context = await chromium.new_context()
    await context.add_init_script("delete window.PublicKeyCredential;")
    page = await context.new_page()
    await page.goto(await invited(work))
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Your instances")).to_be_visible()
    await expect(page.get_by_text("Come back without a link")).to_be_hidden()
    await context.clear_cookies()
    await page.goto(work.url + "/")
    await expect(page.get_by_role("heading", name="Please log in")).to_be_visible()
    await expect(page.get_by_role("button", name="Log in with a passkey")).to_be_hidden()
