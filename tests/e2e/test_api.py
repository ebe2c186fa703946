"""The main job without a browser: only what the ready file says is known."""

import asyncio
import json
import stat

import pytest
from systems.all_in_one import browser_session, log_in

pytestmark = pytest.mark.engine


def test_the_ready_file_is_private_and_complete(system):
    mode = stat.S_IMODE(system.ready_file.stat().st_mode)
    assert mode == 0o600
    assert json.loads(system.ready_file.read_text()).keys() == {
        "portal",
        "router",
        "router_ssh",
        "images",
        "files",
        "login_url",
        "api_token",
    }


async def test_from_start_to_a_page_and_away_again(system):
    async with system.api() as api:
        offered = [image["name"] for image in await api.call("GET", "images")]
        assert offered == ["jupyterlab", "terminal"]
        instance = await api.start(name="first steps")
        running = await api.wait_for(instance, "running", url=True)
        assert running["url"] == f"http://{instance}.localhost:{system.ports[1]}/"
        assert running["name"] == "first steps"

        async with browser_session(system.access["portal"], running["url"]) as browser:
            async with browser.get(running["url"]) as before:
                # No byte reaches the app before its user is known.
                assert "jupyter" not in (await before.text()).lower()
                assert str(before.url).startswith(system.access["portal"])
            await log_in(browser, system.access["login_url"])
            async with browser.get(running["url"]) as page:
                assert page.status == 200
                assert str(page.url).startswith(running["url"])
                assert "JupyterLab" in await page.text()
            async with browser.get(f"{running['url']}api/status") as status:
                assert status.status == 200
                assert "kernels" in await status.json()

            assert "Jupyter" in await api.logs(instance)
            assert len(system.at_engine(instance)) >= 6

            await api.discard(instance)
            assert system.at_engine(instance) == []
            async with browser.get(running["url"]) as gone:
                assert gone.status == 410
                assert "gone" in (await gone.text()).lower()
            as_program = {"Accept": "application/json"}
            async with browser.get(running["url"], headers=as_program) as gone:
                assert gone.status == 410
                assert (await gone.json())["status"] == 410

        keys = await api.call("GET", "keys")
        held = [key for key in keys if key["name"] == f"instance-{instance}"]
        assert len(held) == 1
        assert held[0]["revoked"]


async def test_two_instances_started_at_once_both_run(system):
    async with system.api() as api:
        both = await asyncio.gather(api.start(), api.start())
        assert len(set(both)) == 2
        urls = [(await api.wait_for(one, "running", url=True))["url"] for one in both]
        assert len(set(urls)) == 2
        await asyncio.gather(*(api.discard(one) for one in both))
        assert system.at_engine() == []
