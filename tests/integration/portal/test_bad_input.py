"""Bad input to the pages: every form with values that nobody types, and instances that vanish."""

import asyncio
import re

import pytest
from systems.portal import running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StopInstance
from dit4c_p2p.portal.models import Outgoing

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
# Which the forms have, in whatever page.
FIELDS = (
    *("name", "title", "id", "label", "description", "icon", "image", "groups", "person", "days"),
    *("ends", "expires", "uses", "group", "quota", "server", "action", "confirm", "sure", "state"),
    *("instances_limit", "instances_at_once_limit", "key", "user_code", "answer", "may", "role"),
    *("interval", "minutes", "owner", "link", "to"),
)
VALUES = {
    "nothing": None,
    "empty": "",
    "a script": SCRIPT,
    "huge": "x" * 20_000,
    "not a number": "-1e999",
    "invisible": "\u202e\u0000\u200b",
    "other scripts": "żółw 漢字 👩‍🔬 ق\u0301",
}
# These go away from the page, or end the session that the next form needs.
LEFT_OUT = re.compile(
    r"^/(api|oauth|schedulers|keys|instances/$|instances/\{id\}/(?!stop|start|rename|discard|save|copy|checkpoint|go-on|new-key)|logout|account/logout)"
)


def forms(work):
    """The paths of all forms of the portal's pages, with ids of things that there are."""
    app = work.portal._server._runner.app
    found = {
        route.resource.canonical
        for route in app.router.routes()
        if route.method == "POST" and route.resource is not None
    }
    return sorted(path for path in found if not LEFT_OUT.match(path) and "logout" not in path)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", VALUES)
async def test_every_form_answers_bad_values_with_a_page(work, kind):
    await work.person("grace")
    async with work.browser() as admin, work.api() as api:
        await admin.log_in(await work.login_link())
        await api.post("groups", json={"title": "Soil", "id": "soil"})
        csrf = await admin.csrf()
        paths = forms(work)
        assert len(paths) > 40
        for pattern in paths:
            for name in ("grace", "nothing"):
                path = re.sub(r"\{[^}]+\}", name, pattern)
                value = VALUES[kind]
                fields = {} if value is None else dict.fromkeys(FIELDS, value)
                answer = await admin.submit(path, csrf=csrf, **fields)
                if (await admin.get("/")).status == 401:
                    await admin.log_in(await work.login_link())
                    csrf = await admin.csrf()
                assert answer.status < 500 or answer.status in (503, 504), (path, answer.text[:500])
                assert "<script>alert" not in answer.text, path
                assert "onerror=alert(2)>" not in answer.text.replace("&gt;", ""), path
                if "{" not in pattern:
                    break


async def test_an_instance_that_has_vanished_is_said_to_be_gone(work):
    async with work.browser() as browser, work.scheduler() as scheduler:
        await browser.log_in(await work.login_link())
        instance, _ = await running_instance(work, scheduler)
        csrf = await browser.csrf()
        await scheduler.report(instance, State.DISCARDED)
        for wish in ("stop", "start", "new-key", "save", "checkpoint", "copy", "go-on", "rename"):
            answer = await browser.submit(f"/instances/{instance}/{wish}", csrf=csrf, name="New")
            assert answer.status in (404, 409), wish
            assert re.search("discarded|no such|gone|can’t|can&#39;t", answer.text), wish
        again = await browser.submit(f"/instances/{instance}/discard", csrf=csrf)
        assert again.status == 303, "what was wanted is so"
        log = await browser.get(f"/instances/{instance}/log")
        assert (log.status, log.text) == (200, ""), "none is left, and no machine is asked"
        assert f'data-instance="{instance}"' not in (await browser.get("/")).text


@pytest.mark.both_databases
async def test_two_browsers_that_act_on_one_instance_at_once(work):
    async with work.browser() as one, work.browser() as two, work.scheduler() as scheduler:
        for browser in (one, two):
            await browser.log_in(await work.login_link())
        instance, _ = await running_instance(work, scheduler)
        tokens = [await one.csrf(), await two.csrf()]
        path = f"/instances/{instance}"
        stops = await asyncio.gather(
            *(
                browser.submit(f"{path}/stop", csrf=csrf)
                for browser, csrf in zip((one, two) * 3, tokens * 3, strict=True)
            )
        )
        assert {answer.status for answer in stops} == {303}
        assert (await scheduler.message(StopInstance)).instance == instance
        discards = await asyncio.gather(
            one.submit(f"{path}/discard", csrf=tokens[0]),
            two.submit(f"{path}/discard", csrf=tokens[1]),
            two.submit(f"{path}/stop", csrf=tokens[1]),
        )
        assert [answer.status for answer in discards[:2]] == [303, 303]
        assert discards[2].status in (303, 409), "before the discard, or after it"
        assert (await scheduler.message(DiscardInstance)).instance == instance
        assert await Outgoing.filter(body__contains='"discard"').count() <= 1
        late = await two.submit(f"{path}/start", csrf=tokens[1])
        assert (late.status, "being discarded" in late.text) == (409, True)
