"""The pages in Chromium: what is live, what the keyboard does, that the policy lets it."""

import asyncio

import pytest
from playwright.async_api import expect
from systems.portal import answers_on, running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartAgain, StartInstance, StopInstance

pytestmark = [pytest.mark.browser]


async def test_from_start_to_discard_without_a_reload(work, page):
    await page.evaluate("window.here = true")
    async with work.scheduler() as scheduler:
        await page.fill("input[name=name]", "My work")
        await page.click('[data-action="start"][data-image="jupyterlab"]')
        start = await scheduler.message(StartInstance)
        row = page.locator(f'[data-instance="{start.instance}"]')
        await expect(row).to_have_attribute("data-state", "created")
        await expect(row.locator("h2")).to_have_text("My work")

        await scheduler.report(
            start.instance, State.WAITING_FOR_IMAGE, "Fetching it: a third.", progress=0.33
        )
        await expect(row).to_contain_text("Fetching it: a third.")
        await expect(row.get_by_role("progressbar")).to_have_js_property("value", 0.33)
        await expect(row.locator('[data-action="open"]')).to_be_hidden()

        key = await scheduler.allocate(start)
        await scheduler.report(start.instance, State.RUNNING)
        await answers_on(work, start.instance, key)
        await expect(row).to_have_attribute("data-state", "running")
        await expect(row.locator('[data-action="open"]')).to_have_attribute(
            "href", f"http://{start.instance}.localhost:8081/"
        )
        await expect(page.locator("#announcer")).to_contain_text("My work: Running")

        await row.locator('[data-action="discard"]').click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Discard “My work”?")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await row.locator('[data-action="discard"]').click()
        await page.locator('dialog[open] [data-action="confirm-discard"]').click()
        await expect(row).to_contain_text("Discarding")
        await scheduler.message(DiscardInstance)
        await scheduler.report(start.instance, State.DISCARDED)
        await expect(row).to_have_count(0)
        await expect(page.locator("#empty")).to_be_visible()
    assert await page.evaluate("window.here")


async def test_stopped_and_started_again_without_a_reload(work, page):
    await page.evaluate("window.here = true")
    async with work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
        row = page.locator(f'[data-instance="{instance}"]')
        await expect(row).to_have_attribute("data-state", "running")
        await expect(row.locator('[data-action="start-instance"]')).to_be_hidden()
        await row.locator('[data-action="stop-instance"]').click()
        await expect(row).to_contain_text("Asked to be stopped")
        await scheduler.message(StopInstance)
        await scheduler.report(instance, State.EXITED, "Stopped; its files are kept")
        await expect(row).to_contain_text("its files are kept")
        await expect(row.locator('[data-action="open"]')).to_be_hidden()
        await expect(row.locator('[data-action="stop-instance"]')).to_be_hidden()

        await row.locator('[data-action="start-instance"]').click()
        await scheduler.message(StartAgain)
        await scheduler.report(instance, State.STARTING, "Starting the app again")
        await expect(row).to_contain_text("Starting the app again")
        await expect(row.locator('[data-action="open"]')).to_be_hidden()
        await scheduler.report(instance, State.RUNNING)
        await answers_on(work, instance, key)
        await expect(row.locator('[data-action="open"]')).to_be_visible()
    assert await page.evaluate("window.here")


async def test_by_keyboard_alone(work, page):
    await page.get_by_role("button", name="Not now").click()
    await expect(page.get_by_text("Come back without a link")).to_have_count(0)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Typed")
    await page.keyboard.press("Enter")
    row = page.locator("[data-instance]")
    await expect(row.locator("h2")).to_have_text("Typed")
    await expect(row.locator("h2")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(row.locator('[data-action="rename"]')).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(row).to_contain_text("Discarding")
    await expect(row.locator("h2")).to_be_focused()


async def test_a_button_that_is_refused_says_why_in_sentences(work, page):
    async with work.api() as api:
        for _ in range(work.config.limits.instances_at_once_per_person):
            await api.post("instances", json={"image": "jupyterlab"})
    await page.click('[data-action="start"]')
    await expect(page.get_by_role("alert")).to_have_text(
        "5 instances of yours run or are being started, and 5 may at once "
        "(the limit for everyone). "
        "Stop or discard one, then start again; "
        "an admin can change this limit in the portal's settings, or for you or your group alone."
    )


async def test_on_the_narrowest_screen_nothing_is_out_of_reach(work, page):
    await page.set_viewport_size({"width": 320, "height": 640})
    async with work.scheduler() as scheduler:
        await running_instance(work, scheduler)
        await expect(page.get_by_role("link", name="Open JupyterLab")).to_be_visible()
    for name in ("Keys", "Open JupyterLab", "Discard JupyterLab"):
        box = await page.get_by_role("link", name=name).bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 320
    summary = page.locator(".account summary")
    assert "Admin" in await summary.inner_text()
    assert await page.evaluate("document.documentElement.scrollWidth") == 320


async def test_hostile_names_are_text(work, page):
    name = "<img src=x onerror=alert(1)>"
    await page.fill("input[name=name]", name)
    await page.click('[data-action="start"]')
    await expect(page.locator("[data-instance] h2")).to_have_text(name)
    await page.reload()
    await expect(page.locator("[data-instance] h2")).to_have_text(name)


async def test_a_portal_that_goes_and_comes_back(work, page):
    await work.stop()
    await expect(page.locator("#offline")).to_be_visible()
    await work.start()
    async with work.api() as api:
        await api.post("instances", json={"image": "jupyterlab", "name": "Meanwhile"})
    await expect(page.locator("[data-instance] h2")).to_have_text("Meanwhile", timeout=15_000)
    await expect(page.locator("#offline")).to_be_hidden()


async def test_logging_out_elsewhere_shows_at_once(work, page):
    async with work.browser() as other:
        await other.log_in(await work.login_link())
        await other.submit("/logout", csrf=await other.csrf(), everywhere="1")
    await expect(page.get_by_role("heading", name="Please log in")).to_be_visible()


async def test_the_open_button_leads_through_authorize_without_a_question(work, page):
    """A form's policy must not stop the redirect to the instance's host."""
    received = asyncio.get_running_loop().create_future()

    async def instance(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if not received.done():
            received.set_result(head.split()[1].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(instance, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await work.stop()
    work.with_config(user_url=f"http://{{id}}.localhost:{port}/")
    await work.start()
    async with server, work.scheduler() as scheduler:
        async with work.api() as api:
            await api.post("instances", json={"image": "jupyterlab"})
        start = await scheduler.message(StartInstance)
        await scheduler.allocate(start)
        callback = f"http://{start.instance}.localhost:{port}/.dit4c/callback"
        query = (
            f"response_type=code&client_id=instance-{start.instance}&redirect_uri={callback}"
            f"&state=s&code_challenge={'a' * 43}&code_challenge_method=S256"
        )
        await page.context.clear_cookies()
        await page.goto(f"{work.url}/oauth/authorize?{query}")
        await expect(page.get_by_role("heading", name="Please log in")).to_be_visible()
        await page.goto(await work.login_link())
        await page.get_by_role("button", name="Log in").click()
        async with asyncio.timeout(10):
            target = await received
        assert target.startswith("/.dit4c/callback?code=")


async def test_inviting_and_disabling_somebody(work, page):
    await page.goto(work.url + "/admin/people")
    await page.get_by_label("Name", exact=True).fill("Zoë O’Neil")
    await page.get_by_role("button", name="Invite").click()
    await expect(page.get_by_role("heading", name="Zoë O’Neil is invited")).to_be_visible()
    link = await page.get_by_label("The link").input_value()
    guest = await page.context.browser.new_context()
    theirs = await guest.new_page()
    await theirs.goto(link)
    await theirs.get_by_role("button", name="Log in").click()
    await expect(theirs.get_by_role("heading", name="Your instances")).to_be_visible()
    await page.get_by_role("link", name="Done").click()
    await page.get_by_role("link", name="Disable…").click()
    await page.get_by_role("button", name="Disable").click()
    await expect(page.get_by_role("button", name="Enable")).to_be_visible()
    await expect(theirs.get_by_role("heading", name="This account is closed")).to_be_visible()
    await guest.close()


async def test_clicked_twice_on_a_slow_line_somebody_is_invited_once(work, page):
    arrived, clicked_again, asked = asyncio.Event(), asyncio.Event(), []

    async def slowly(route):
        if route.request.method == "POST":
            asked.append(route.request.post_data)
            answer = await route.fetch()
            arrived.set()
            await clicked_again.wait()
            await route.fulfill(response=answer)
        else:
            await route.continue_()

    await page.route("**/admin/people", slowly)
    await page.goto(work.url + "/admin/people")
    await page.get_by_label("Name", exact=True).fill("Zoë")
    button = await page.get_by_role("button", name="Invite").bounding_box()
    assert button is not None
    for _ in range(2):
        await page.mouse.click(button["x"] + 9, button["y"] + 9)
        await asyncio.wait_for(arrived.wait(), 10)
    clicked_again.set()
    await expect(page.get_by_role("heading", name="Zoë is invited")).to_be_visible()
    assert len(asked) == 1


async def test_the_account_page_and_its_menu(work, page):
    await page.locator(".account summary").click()
    await page.get_by_role("link", name="Your account").click()
    await page.get_by_label("What it is for").fill("Backup")
    await page.get_by_role("button", name="Make a token").click()
    token = await page.get_by_label("The token").input_value()
    async with work.api(token) as api:
        assert (await api.get("whoami")).json == {
            "kind": "user",
            "id": "admin",
            "name": "Admin",
            "admin": False,
        }
    await page.locator(".account summary").click()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("link", name="Your account")).to_be_hidden()
    await page.get_by_role("button", name="Log out everywhere").last.click()
    await expect(page.get_by_role("heading", name="Please log in")).to_be_visible()
