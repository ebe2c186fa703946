"""The file page in Chromium: a folder goes up with its progress and comes down as a ZIP."""

import os
import zipfile

import pytest
from lib.chromium import FLAGS, PROGRAM
from lib.waiting import until
from playwright.async_api import async_playwright, expect

pytestmark = pytest.mark.browser


@pytest.fixture
async def page(site):
    """Ada's page; an error in it fails the test, and so does what the policy refuses."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        context = await chromium.new_context(accept_downloads=True)
        context.set_default_timeout(10_000)
        problems = []
        context.on("weberror", lambda error: problems.append(str(error.error)))
        page = await context.new_page()
        page.on(
            "console",
            lambda said: problems.append(said.text) if "Content Security" in said.text else None,
        )
        await page.goto(await site.work.login_link("ada"))
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_url(site.work.url + "/")
        yield page
        await chromium.close()
        assert problems == []


async def test_a_folder_goes_up_with_its_progress_and_comes_down_as_a_zip(site, page, tmp_path):
    album = tmp_path / "album"
    (album / "deep").mkdir(parents=True)
    (album / "a.bin").write_bytes(os.urandom(12_000_000))
    (album / "deep" / "größe #1.txt").write_text("b")
    await page.get_by_role("link", name="Files", exact=True).click()
    await page.get_by_role("link", name="Your files").click()
    await page.get_by_label("Or a folder").set_input_files(str(album))
    site.server.hold.clear()
    await page.get_by_role("button", name="Upload").click()
    bar = page.get_by_role("progressbar", name="Upload")
    await until(lambda: site.server.sessions != [])
    await expect(page.locator('[data-part="text"]')).to_contain_text("of 2,")
    await expect(bar).not_to_have_js_property("value", 0)
    assert await bar.evaluate("bar => bar.value") < 1
    await expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    site.server.hold.set()
    await expect(page.get_by_role("link", name="album , folder")).to_be_visible()
    assert (site.home / "album" / "a.bin").read_bytes() == (album / "a.bin").read_bytes()
    assert (site.home / "album" / "deep" / "größe #1.txt").read_text() == "b"

    await page.get_by_label("Or a folder").set_input_files(str(album))
    await page.get_by_role("button", name="Upload").click()
    errors = page.locator('[data-part="errors"] li')
    await expect(errors).to_have_count(2)
    await expect(errors.first).to_contain_text("There is something called a.bin already.")

    async with page.expect_download() as download:
        await page.get_by_role("link", name="ZIP of album").click()
    archive = zipfile.ZipFile(await (await download.value).path())
    assert archive.testzip() is None
    assert archive.read("album/deep/größe #1.txt") == b"b"


async def test_a_cancelled_upload_leaves_nothing(site, page, tmp_path):
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(12_000_000))
    await page.goto(site.work.url + "/files/browse/private")
    await page.get_by_label("Files", exact=True).set_input_files(str(big))
    site.server.hold.clear()
    await page.get_by_role("button", name="Upload").click()
    await until(lambda: len(list(site.home.iterdir())) == 1)
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator('[data-part="text"]')).to_contain_text("then cancelled")
    site.server.hold.set()
    await until(lambda: list(site.home.iterdir()) == [])


async def test_everything_can_be_done_by_keyboard(site, page):
    (site.home / "old name").write_text("x")
    await page.goto(site.work.url + "/files/browse/private")
    await page.get_by_role("link", name="Rename old name").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("New name")).to_be_focused()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("new name")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="new name , file")).to_be_visible()
    await page.get_by_role("link", name="Delete new name").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Delete").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("This folder is empty")).to_be_visible()
    assert list(site.home.iterdir()) == []


async def test_the_dashboard_shows_how_much_is_stored(site, page):
    await page.goto(site.work.url + "/")
    await expect(page.get_by_role("meter", name="Used of your files’ quota")).to_be_visible()
    await expect(page.locator("#usage")).to_contain_text(" used")
