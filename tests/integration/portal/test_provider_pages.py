"""Logging in through a real OpenID provider in Chromium: invited, linked, told why not."""

import pytest
from lib.chromium import FLAGS, PROGRAM
from playwright.async_api import async_playwright, expect
from systems.oidc_provider import CLIENT_ID, CLIENT_SECRET, oidc_provider

from dit4c_p2p.portal.login.config import LoginConfig, OidcProviderConfig, SignupRule
from dit4c_p2p.portal.models import Person, PersonIdentity

# What is tested is between browser, provider and portal; the database makes no difference.
pytestmark = [pytest.mark.browser, pytest.mark.parametrize("engine", ["sqlite"], indirect=True)]

PEOPLE = {
    "ada": {"name": "Ada Lovelace", "email": "ada@example.org", "email_verified": True},
    "eve": {"name": "Eve", "email": "eve@example.com", "email_verified": True},
}
LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">
<circle cx="4" cy="4" r="4"/></svg>"""


@pytest.fixture
async def chromium():
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def provider(work, tmp_path):
    """A provider that the portal knows; whoever has an address at example.org may come."""
    callback = f"{work.url}/login/with/uni/callback"
    with oidc_provider(callback, PEOPLE) as provider:
        secret, logo = tmp_path / "secret", tmp_path / "logo.svg"
        secret.write_text(CLIENT_SECRET)
        logo.write_text(LOGO)
        uni = OidcProviderConfig(
            "uni", "Example University", provider.issuer, CLIENT_ID, secret, icon=logo
        )
        await work.stop()
        work.with_config(
            login=LoginConfig(
                providers=(uni,),
                signup="listed",
                rules=(SignupRule("uni", "domain", "example.org"),),
                title="Example University",
                text="For members of the university.\n\nThe library helps.",
                logo=logo,
                background=logo,
            )
        )
        await work.start()
        yield provider


async def new_page(chromium, problems):
    """A fresh profile."""
    page = await (await chromium.new_context()).new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: "Content Security" in message.text and problems.append(message.text),
    )
    return page


async def at_the_provider(page, login):
    """Say at the provider who one is, and that the portal may know."""
    await page.locator('input[name="login"]').fill(login)
    await page.locator('input[name="password"]').fill("any")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()


async def test_in_through_a_real_provider_to_where_one_was_going(work, provider, chromium):
    problems = []
    page = await new_page(chromium, problems)
    await page.goto(work.url + "/")
    await expect(page.get_by_role("heading", name="Example University")).to_be_visible()
    await expect(page.get_by_text("The library helps.")).to_be_visible()
    logo = page.locator(".institution-logo")
    assert await logo.evaluate("image => image.complete && image.naturalWidth > 0")
    background = "getComputedStyle(document.body).backgroundImage"
    assert "/static/institution-background.svg" in await page.evaluate(background)
    await page.get_by_role("link", name="Log in with Example University").click()
    await at_the_provider(page, "ada")
    await page.wait_for_url(work.url + "/")
    await expect(page.get_by_role("heading", name="Your instances")).to_be_visible()
    await page.goto(work.url + "/account")
    await expect(page.get_by_role("heading", name="Ada Lovelace")).to_be_visible()
    await expect(page.get_by_text("ada@example.org", exact=True)).to_be_visible()
    assert problems == []


async def test_a_stranger_is_told_and_by_an_invitation_comes_in(work, provider, chromium):
    problems = []
    page = await new_page(chromium, problems)
    await page.goto(work.url + "/login/with/uni")
    await at_the_provider(page, "eve")
    await expect(page.get_by_role("heading", name="You have no account here")).to_be_visible()
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        csrf = await admin.csrf()
        made = await admin.submit(
            "/admin/invitations", csrf=csrf, label="Eve", uses="1", expires="2090-01-01"
        )
    link = made.text.split('id="secret"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
    await page.goto(link)
    await page.get_by_role("link", name="Log in with Example University").click()
    await page.wait_for_url(work.url + "/")
    person = await Person.get(id="eve")
    assert await PersonIdentity.filter(person_id=person.id, subject="eve").exists()
    assert problems == []


async def test_linked_on_the_account_page_once_for_one_account(work, provider, chromium):
    problems = []
    page = await new_page(chromium, problems)
    await page.goto(await work.login_link())
    await page.get_by_role("button", name="Log in").click()
    await page.goto(work.url + "/account")
    await page.get_by_role("button", name="Link Example University").click()
    await at_the_provider(page, "ada")
    await expect(page.get_by_text("Done: from now on it lets you in.")).to_be_visible()
    await work.person("max")
    other = await new_page(chromium, problems)
    await other.goto(await work.login_link("max"))
    await other.get_by_role("button", name="Log in").click()
    await other.goto(work.url + "/account")
    await other.get_by_role("button", name="Link Example University").click()
    await at_the_provider(other, "ada")
    await expect(other.get_by_text("belongs to another account")).to_be_visible()
    identities = await PersonIdentity.all()
    assert [one.person_id for one in identities] == ["admin"]
    assert problems == []
