"""A row of the dashboard: name, machine, age and log; in Chromium and without scripts."""

import re

import pytest
from lib.waiting import until
from playwright.async_api import expect
from systems.portal import beside, running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import InstanceLogs, MemoryUse, RequestLogs, StartInstance

LOG = "line one\n<b>line two</b>"


@pytest.mark.browser
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_row_in_chromium(work, page):
    async with work.scheduler() as scheduler:
        await page.click('[data-action="start"][data-image="jupyterlab"]')
        await expect(page.locator("#said")).to_contain_text("is being started")
        start = await scheduler.message(StartInstance)
        row = page.locator(f'[data-instance="{start.instance}"]')
        await scheduler.report(start.instance, State.STARTING, "Starting it", node="node-main")
        await expect(row).to_contain_text("Starting it.")
        await expect(row).to_contain_text("On main")
        await expect(row.locator('[data-part="age"]')).to_have_text(re.compile(r"\(\d+ s\)"))

        await scheduler.report(start.instance, State.RUNNING, node="node-main")
        memory = row.locator('[data-part="memory-box"]')
        await expect(memory).to_be_hidden()
        use = MemoryUse(node="node-main", used={start.instance: 431_000_000}, limit=2 * 1024**3)
        await scheduler.tell(use)
        await expect(memory).to_have_text("Memory 411 MiB of 2 GiB · ")

        await row.get_by_text("Log of").click()
        asked = await scheduler.message(RequestLogs)
        answer = InstanceLogs(request=asked.request, instance=asked.instance, text=LOG)
        await scheduler.tell(answer)
        await expect(row.locator('[data-part="live-text"]')).to_have_text(LOG)
        await row.get_by_text("Log of").click()

        await row.locator('[data-action="rename"]').click()
        field = page.get_by_role("dialog").get_by_label("Name")
        await expect(field).to_have_value("JupyterLab")
        await field.fill("Soil <i>samples</i>")
        await page.keyboard.press("Enter")
        await expect(row.locator("h2")).to_have_text("Soil <i>samples</i>")
        await expect(page.locator("#said")).to_contain_text("Done")
        opening = row.locator('[data-action="open"]')
        assert await opening.get_attribute("target") == "_blank"

    await page.goto(f"{work.url}/account")
    assert not re.search(r"\d UTC", await page.locator("main").inner_text()), "in the reader’s zone"
    await page.goto(f"{work.url}/admin/people/admin")
    assert "Since (UTC)" not in await page.locator("main").inner_text()


async def test_a_row_without_scripts(work):
    async with work.browser() as browser, work.scheduler() as scheduler:
        await browser.log_in(await work.login_link())
        instance, _ = await running_instance(work, scheduler)
        page = (await browser.get("/")).text
        assert f'href="/instances/{instance}/rename"' in page
        assert re.search(r'data-part="machine">main<', page)
        csrf = await browser.csrf()
        path = f"/instances/{instance}/rename"
        assert 'value="JupyterLab"' in (await browser.get(path)).text
        wrong = await browser.submit(path, csrf=csrf, name=" ")
        assert wrong.status == 400
        assert "at least one letter" in beside(wrong.text, "name")
        done = await browser.submit(path, csrf=csrf, name="Soil")
        assert done.location == "/"
        page = (await browser.get("/")).text
        assert 'id="done" role="status">Done.<' in page
        assert ">Soil</h2>" in page
        assert 'id="done"' not in (await browser.get("/")).text, "it is said once"


async def test_a_scheduler_that_is_away_is_said_before_anything_is_started(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        assert 'id="cluster-away"' in (await browser.get("/")).text
        async with work.scheduler():
            await until(lambda: work.portal._services.links.connected("main"))
            assert 'id="cluster-away"' not in (await browser.get("/")).text


async def test_the_log_and_the_name_are_the_owners_alone(work):
    await work.person("eve")
    async with work.browser() as eve, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        await scheduler.report(instance, State.ERRORED, "It failed", log_tail=LOG)
        await eve.log_in(await work.login_link("eve"))
        csrf = await eve.csrf()
        for path in ("log", "rename"):
            assert (await eve.get(f"/instances/{instance}/{path}")).status == 404
        other = await eve.submit(f"/instances/{instance}/rename", csrf=csrf, name="Mine")
        assert other.status == 404
        assert (await eve.submit(f"/instances/{instance}/rename", name="Mine")).status == 403
        async with work.browser() as owner:
            assert (await owner.get(f"/instances/{instance}/log")).status == 401
            await owner.log_in(await work.login_link())
            kept = await owner.get(f"/instances/{instance}/log")
            assert (kept.text, kept.headers["Content-Type"].split(";")[0]) == (LOG, "text/plain")


async def test_every_form_of_the_admins_pages_says_that_it_is_done(work):
    await work.person("ada")
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        csrf = await admin.csrf()
        done = await admin.submit("/admin/people/ada/name", csrf=csrf, name="Ada L")
        assert "Renamed." in (await admin.get(done.location)).text
        refused = await admin.submit("/admin/people/ada/name", csrf=csrf, name="")
        assert (refused.status, 'id="done"' in refused.text) == (400, False)
        admin.cookies = {
            name: "Not%20known" if "done" in name else value
            for name, value in {**admin.cookies, "__Host-dit4c-done": ""}.items()
        }
        assert "Not known" not in (await admin.get("/admin/people")).text


async def test_a_tool_s_picture_is_on_its_card_and_on_the_rows(work, tmp_path):
    """Served as a picture and nothing else."""
    body = b"\x89PNG\r\n\x1a\n" + b"0" * 20
    (folder := tmp_path / "pictures").mkdir()
    (folder / "jupyterlab.png").write_bytes(body)
    work.with_config(tool_pictures=folder)
    await work.stop()
    await work.start()
    async with work.browser() as browser, work.scheduler() as scheduler:
        await browser.log_in(await work.login_link())
        await running_instance(work, scheduler)
        page = (await browser.get("/")).text
        (url,) = set(re.findall(r'src="(/static/tool-jupyterlab.png[^"]*)"', page))
        assert page.count(url) == 2
        picture = await browser.get(url)
        assert picture.headers["Content-Type"] == "image/png"
        assert picture.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in picture.headers["Content-Security-Policy"]
        assert url in (await browser.get("/admin/tools")).text
