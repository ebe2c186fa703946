"""A machine is lost after a checkpoint: its instance goes on at another, at the same address."""

import asyncio

import pytest
from systems.all_in_one import browser_session, log_in
from systems.pods import app_of, docker, inspect, make_image
from systems.saving import shell
from systems.two_nodes import two_nodes_with_a_tool

pytestmark = [pytest.mark.engine, pytest.mark.root]

PAGE_S = 60


@pytest.fixture
def house(tmp_path_factory):
    web = make_image(
        {"index.html": b"from the image"},
        'CMD ["httpd","-f","-p","8080","-h","/"]',
        "EXPOSE 8080",
        "ENV PATH=/bin",
    )
    with two_nodes_with_a_tool(tmp_path_factory.mktemp("lost"), web) as house:
        yield house


async def page(browser, url: str, text: str) -> None:
    """Until the app's page has this text; what comes before has no other one."""
    async with asyncio.timeout(PAGE_S):
        while True:
            async with browser.get(url) as answer:
                if answer.status == 200 and await answer.text() == text:
                    return
            await asyncio.sleep(0.2)


async def test_goes_on_elsewhere_and_one_pod_serves(house):
    async with house.api() as api:
        instance = await api.start("web")
        running = await api.wait_for(instance, "running", url=True)
        url, path = running["url"], f"instances/{instance}"
        link = house.run("login-link", "admin", "--config", house.file("portal"))
        async with browser_session(house.url, url) as browser:
            await log_in(browser, link)
            shell(app_of(instance), "echo -n checkpoint > /index.html; echo x > /private")
            shell(app_of(instance), "chmod 0600 /private")
            await page(browser, url, "checkpoint")
            now = await api.call("POST", f"{path}/checkpoint", expect=202)
            async with asyncio.timeout(90):
                while now["checkpoint"]["busy"]:
                    await asyncio.sleep(0.2)
                    now = await api.call("GET", path)
            assert now["checkpoint"]["at"], now
            shell(app_of(instance), "echo -n later > /index.html")
            await page(browser, url, "later")

            # The agent is gone; its pod runs on, and nobody looks after it.
            house.kill("away")
            async with asyncio.timeout(60):
                while "go-on" not in now["actions"]:
                    await asyncio.sleep(0.2)
                    now = await api.call("GET", path)
            await api.call("POST", f"{path}/go-on", expect=202)
            moved = await api.wait_for(instance, "running", url=True)
            assert moved["url"] == url
            await page(browser, url, "checkpoint")
            assert inspect(app_of(instance))["State"]["Running"], "nobody could stop it"
            at_home = house.engine.docker("exec", app_of(instance), "stat", "-c", "%a", "/private")
            assert at_home == "600"

            house.restart("away")
            async with asyncio.timeout(60):
                while (now := await api.call("GET", path))["kept_on"] != ["node-away"]:
                    await asyncio.sleep(0.2)
                while inspect(app_of(instance))["State"]["Running"]:
                    await asyncio.sleep(0.2)
            assert (now["state"], now["url"]) == ("running", url)
            await page(browser, url, "checkpoint")
            kept = docker("cp", f"{app_of(instance)}:/index.html", "-")
            assert "later" in kept, "what was written after the checkpoint"
            body = {"from": instance, "kept_on": "node-away"}
            copy = (await api.call("POST", "instances", body, expect=201))["id"]
            copied = await api.wait_for(copy, "running", url=True)
            assert shell(app_of(copy), "cat /index.html") == "later"
            assert copied["url"] != url
            await page(browser, url, "checkpoint")
            await api.discard(copy)
            await api.discard(instance)
            label = f"label=dit4c.instance={instance}"
            async with asyncio.timeout(60):
                while docker("ps", "-aq", "--filter", label):
                    await asyncio.sleep(0.2)
            assert house.engine.docker("ps", "-aq", "--filter", label) == ""
