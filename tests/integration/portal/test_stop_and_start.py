"""The user's wish to stop an instance and to start it again, as the API and the forms take it."""

import asyncio

import pytest
from systems.portal import running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartAgain, StopInstance
from dit4c_p2p.portal.models import SshKey


async def nothing_more(scheduler, kind) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await scheduler.message(kind)


@pytest.mark.both_databases
async def test_each_wish_is_one_order_that_says_what_its_user_had_seen(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        path = f"instances/{instance}"
        assert (await api.post(f"{path}/start")).status == 202, "it runs already"
        asked = await api.post(f"{path}/stop")
        assert (asked.status, asked.json["info"]) == (202, "Asked to be stopped.")
        order = await scheduler.message(StopInstance)
        assert order == StopInstance(instance=instance, after=scheduler.sequence[instance])
        await scheduler.report(instance, State.STOPPING)
        assert (await api.post(f"{path}/stop")).status == 202
        refused = await api.post(f"{path}/start")
        assert (refused.status, refused.json["code"]) == (409, "conflict")
        await scheduler.report(instance, State.EXITED, "Stopped; its files are kept")
        stopped = (await api.get(path)).json
        assert (stopped["url"], stopped["actions"]) == (None, ["start", "discard"])
        assert (await api.post(f"{path}/start")).json["info"] == "Asked to be started again."
        order = await scheduler.message(StartAgain)
        assert order == StartAgain(instance=instance, after=scheduler.sequence[instance])
        await nothing_more(scheduler, StopInstance)


async def test_asked_twice_while_nobody_listens_it_is_one_order(work):
    async with work.api() as api:
        async with work.scheduler() as scheduler:
            instance, _ = await running_instance(work, scheduler)
        for _ in range(3):
            assert (await api.post(f"instances/{instance}/stop")).status == 202
        async with work.scheduler() as scheduler:
            await scheduler.message(StopInstance)
            await nothing_more(scheduler, StopInstance)


async def test_what_is_stopped_keeps_its_key_and_an_error_can_be_started_again(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        await scheduler.report(instance, State.ERRORED, "The app crashed", log_tail="last words")
        assert await SshKey.filter(name=f"instance-{instance}", revoked_at=None).count() == 1
        assert (await api.post(f"instances/{instance}/start")).status == 202
        await scheduler.message(StartAgain)


async def test_what_can_not_be_asked(work):
    async with work.api() as api, work.scheduler() as scheduler:
        made = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        for wish in ("stop", "start"):
            assert (await api.post(f"instances/{made}/{wish}")).status == 409
        await scheduler.report(made, State.ERRORED, "No machine")
        assert (await api.post(f"instances/{made}/start")).status == 409
        await api.post(f"instances/{made}/discard")
        await scheduler.message(DiscardInstance)
        assert (await api.post(f"instances/{made}/start")).status == 409
        assert (await api.post("instances/nosuch/stop")).status == 404


async def test_row_a_user_only_their_own(work):
    """security.md section 1: somebody else's instance looks like none."""
    async with work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        async with work.api(await work.person("eve")) as stranger:
            for wish in ("stop", "start"):
                assert (await stranger.post(f"instances/{instance}/{wish}")).status == 404


async def test_back_at_the_question_nobody_is_asked_to_discard_it_again(work):
    async with work.scheduler() as scheduler, work.browser() as browser:
        instance, _ = await running_instance(work, scheduler)
        await browser.log_in(await work.login_link())
        question = f"/instances/{instance}/discard"
        assert "be undone" in (await browser.get(question)).text
        await browser.submit(question, csrf=await browser.csrf())
        for state in (None, State.DISCARDING, State.DISCARDED):
            if state:
                await scheduler.report(instance, state)
            answer = await browser.get(question)
            assert (answer.status, answer.headers["Location"]) == (303, "/")


async def test_the_buttons_without_a_script(work):
    async with work.scheduler() as scheduler, work.browser() as browser:
        instance, _ = await running_instance(work, scheduler)
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        assert (await browser.submit(f"/instances/{instance}/stop")).status == 403
        stopped = await browser.submit(f"/instances/{instance}/stop", csrf=csrf)
        assert stopped.status in (200, 303)
        await scheduler.message(StopInstance)
        await scheduler.report(instance, State.STOPPING)
        refused = await browser.submit(f"/instances/{instance}/start", csrf=csrf)
        assert (refused.status, "Try again in a moment" in refused.text) == (409, True)
