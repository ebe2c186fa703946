"""axe-core finds nothing on any page: the portal's, the router's and the auth helper's."""

import pytest
from lib.chromium import FLAGS, PROGRAM
from playwright.async_api import async_playwright
from systems import axe
from systems.portal import running_instance

from dit4c_p2p import resources
from dit4c_p2p.helpers.auth import pages as auth_pages
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import StartInstance
from dit4c_p2p.router import error_pages

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("engine", ["sqlite"], indirect=True)]

PORTAL = "http://localhost:8080/"
ROUTER_PAGES = (
    error_pages.starting_page("JupyterLab", PORTAL),
    error_pages.stopped_page("JupyterLab", PORTAL, "n3orsaj32z"),
    error_pages.gone_page("JupyterLab", PORTAL),
    error_pages.no_such_instance_page(PORTAL),
)


@pytest.fixture
async def browser(work):
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield chromium
        await chromium.close()


async def look(page, url, problems, *, dark=False):
    """Go to a page and note what axe finds in it."""
    if dark:
        await page.emulate_media(color_scheme="dark")
    answer = await page.goto(url)
    policy = answer.headers.get("content-security-policy", "") if answer else ""
    if "unsafe" in policy:
        problems.append((url, "policy", policy))
    problems.extend((url, dark, one) for one in await axe.findings(page))


async def filled(work, scheduler):
    """An instance that runs, one that failed, a group, a person, a tool, a key and a token."""
    instance, _ = await running_instance(work, scheduler)
    async with work.api() as api:
        failed = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        await scheduler.message(StartInstance)
        await scheduler.report(failed, State.ERRORED, "It failed", log_tail="a\nb")
        await api.post("groups", json={"title": "Soil", "id": "soil"})
        await api.post("groups/soil/members", json={"person": "ada"})
        await api.post(
            "tools",
            json={
                "name": "r",
                "title": "R",
                "image": f"r.example.org/r@sha256:{'7' * 64}",
                "unchecked": True,
            },
        )
        await api.post("invitations", json={"label": "School", "expires": "2090-01-01T00:00:00Z"})
        key = (await api.get("keys")).json[0]["fingerprint"]
    return instance, key


async def test_no_page_has_a_finding(work, browser):
    await work.person("ada")
    page = await browser.new_page()
    problems = []
    await look(page, f"{work.url}/", problems)
    await look(page, await work.login_link(), problems)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(f"{work.url}/")
    async with work.scheduler() as scheduler:
        instance, key = await filled(work, scheduler)
        paths = (
            *("/", "/files", "/account", "/device", "/admin/people", "/admin/people/ada"),
            *("/admin/people/ada/disable", "/admin/people/ada/role", "/admin/people/ada/delete"),
            *("/admin/tools", "/admin/tools/r", "/admin/tools/r/groups", "/admin/groups"),
            *("/groups/soil", "/admin/machines", "/admin/instances", "/admin/keys"),
            *(f"/admin/keys/{key}", f"/admin/keys/{key}/revoke", "/admin/audit"),
            *("/admin/invitations", "/admin/storage/user-ada", "/admin/nothing"),
            *(f"/instances/{instance}/{what}" for what in ("start", "rename", "discard")),
        )
        for path in paths:
            await look(page, work.url + path, problems)
        await page.set_viewport_size({"width": 375, "height": 700})
        for path in ("/", "/admin/people", "/admin/keys", "/account"):
            await look(page, work.url + path, problems, dark=True)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            if wide > 375:
                problems.append((path, "wider than the screen", wide))
    assert problems == []


async def test_no_page_of_the_router_and_the_auth_helper_has_a_finding(work, browser, tmp_path):
    renderer = error_pages.ErrorPageRenderer(resources.folder("templates") / "router")
    answers = {page.code: renderer.render(page) for page in ROUTER_PAGES}
    answers["auth"] = auth_pages.render_page(
        auth_pages.problem_page(
            502, "The app does not answer", as_html=True, hint="Try again.", link=("/", "Again")
        ),
        close=True,
        without_body=False,
        secure=False,
    )
    problems = []
    page = await browser.new_page(java_script_enabled=True)
    for code, answer in answers.items():
        file = tmp_path / f"{code}.html"
        file.write_bytes(answer.partition(b"\r\n\r\n")[2])
        await look(page, file.as_uri(), problems)
        await look(page, file.as_uri(), problems, dark=True)
        assert b"unsafe" not in answer.partition(b"\r\n\r\n")[0]
    assert problems == []
