"""Checkpoints as people ask for them, as schedulers tell of them, and every so often."""

import pytest
from integration.portal.test_saves import manifest, put, said
from systems.portal import PortalAtWork, running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import CheckpointInstance, SaveInstance, StartInstance
from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.portal.config import KnownImageServer, Limits
from dit4c_p2p.portal.models import ImageSave, Instance


@pytest.fixture
async def work(tmp_path):
    made = PortalAtWork(tmp_path, Limits(saved_bytes_per_person=5000))
    server = ImageServerInfo(name="imageserver-main", url="http://localhost:1")
    made.config = made.config.__class__(
        **{**made.config.__dict__, "imageservers": (KnownImageServer(server),)}
    )
    async with made:
        yield made


async def taken(work, api, scheduler, instance: str, key, size: int = 1000) -> dict:
    """A checkpoint from the wish to the portal's word; what the API says after it."""
    asked = await api.post(f"instances/{instance}/checkpoint")
    assert (asked.status, asked.json["checkpoint"]["busy"]) == (202, True)
    save = (await scheduler.message(CheckpointInstance)).save
    answer = await put(work, instance, key, said(instance, save, key, manifest(size=size)))
    assert answer.status == 200, answer.text
    await scheduler.report(instance, State.RUNNING, "Running")
    return (await api.get(f"instances/{instance}")).json


async def test_from_the_wish_to_a_copy(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
        path = f"instances/{instance}"
        assert "checkpoint" in (await api.get(path)).json["actions"]
        asked = (await api.post(f"{path}/checkpoint")).json
        assert (asked["state"], asked["checkpoint"]["busy"]) == ("running", True)
        assert not {"checkpoint", "copy"} & set(asked["actions"])
        save = (await scheduler.message(CheckpointInstance)).save
        assert (await api.post(f"{path}/checkpoint")).status == 202
        assert await ImageSave.all().count() == 1, "asked again it is the same checkpoint"
        assert (await api.post("instances", json={"from": instance})).status == 409

        await scheduler.report(
            instance,
            State.RUNNING,
            checkpoint=save,
            checkpoint_info="Uploading: 1 of 2 MiB",
            checkpoint_progress=0.5,
        )
        told = (await api.get(path)).json["checkpoint"]
        assert (told["info"], told["progress"]) == ("Uploading: 1 of 2 MiB", 0.5)
        assert (await put(work, instance, key, said(instance, save, key))).status == 200
        await scheduler.report(instance, State.RUNNING)
        shown = (await api.get(path)).json
        assert (shown["state"], shown["checkpoint"]["busy"]) == ("running", False)
        assert shown["checkpoint"]["at"] is not None
        assert {"checkpoint", "copy"} <= set(shown["actions"])
        made = await api.post("instances", json={"from": instance})
        assert made.status == 201
        assert f"instances/{instance}@" in (await scheduler.message(StartInstance)).image


async def test_a_failure_is_told_and_tried_again(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
        await api.post(f"instances/{instance}/checkpoint")
        save = (await scheduler.message(CheckpointInstance)).save
        failed = {"failed_checkpoint": save, "checkpoint_info": "No checkpoint: the disk is full"}
        await scheduler.report(instance, State.RUNNING, **failed)
        shown = (await api.get(f"instances/{instance}")).json
        assert shown["checkpoint"]["info"] == "No checkpoint: the disk is full"
        assert (shown["checkpoint"]["busy"], "checkpoint" in shown["actions"]) == (False, True)
        late = await put(work, instance, key, said(instance, save, key))
        assert (late.status, "given up" in late.json["detail"]) == (409, True)
        assert (await taken(work, api, scheduler, instance, key))["checkpoint"]["info"] == ""
        # A report of before changes nothing of that.
        await scheduler.report(instance, State.RUNNING, **failed)
        shown = (await api.get(f"instances/{instance}")).json
        assert shown["checkpoint"]["at"] is not None


async def test_the_newest_takes_the_place_of_the_others(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
        await taken(work, api, scheduler, instance, key, 1000)
        await taken(work, api, scheduler, instance, key, 1001)
        first, second = await ImageSave.all().order_by("wanted_at")
        assert (first.removed_at is None, second.removed_at is None) == (False, True)
        # What was started from one needs it, and so does a link.
        await api.post("instances", json={"from": instance})
        await taken(work, api, scheduler, instance, key, 1002)
        assert (await api.post(f"instances/{instance}/share", json={"days": 1})).status == 201
        await taken(work, api, scheduler, instance, key, 1003)
        kept = await ImageSave.filter(removed_at=None).count()
        assert kept == 3
        # A checkpoint under way does not keep its user from saving.
        await api.post(f"instances/{instance}/checkpoint")
        await scheduler.message(CheckpointInstance)
        await ImageSave.filter(removed_at=None).update(layer_bytes=0)
        assert (await api.post(f"instances/{instance}/save")).status == 202
        save = (await scheduler.message(SaveInstance)).save
        assert not (await ImageSave.get(id=save)).is_checkpoint


async def test_every_so_often(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key = await running_instance(work, scheduler)
        checkpoints = work.portal._services.checkpoints
        await checkpoints.begin_due()
        assert await ImageSave.all().count() == 0, "never, unless somebody says so"
        mine = await api.request("PATCH", "people/admin/checkpoints", json={"minutes": 60})
        assert mine.json == {"minutes": 60, "in_force_minutes": 60}
        await checkpoints.begin_due()
        assert await ImageSave.all().count() == 0, "not yet"
        work.clock.ahead += 3601
        await checkpoints.begin_due()
        await checkpoints.begin_due()
        save = (await scheduler.message(CheckpointInstance)).save
        assert await ImageSave.all().count() == 1, "one at a time"
        assert (await put(work, instance, key, said(instance, save, key))).status == 200
        work.clock.ahead += 3601
        never = await api.request("PATCH", f"instances/{instance}", json={"checkpoint_minutes": 0})
        assert never.json["checkpoint"]["minutes"] == 0
        await checkpoints.begin_due()
        assert await ImageSave.all().count() == 1, "this one never"
        await api.request("PATCH", f"instances/{instance}", json={"checkpoint_minutes": None})
        await ImageSave.all().update(layer_bytes=5000)
        await checkpoints.begin_due()
        assert await ImageSave.all().count() == 1, "there is no room"
        await ImageSave.all().update(layer_bytes=0)
        await checkpoints.begin_due()
        assert await ImageSave.all().count() == 2


async def test_who_may_ask_for_what(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        async with work.api(await work.person("eve")) as stranger:
            assert (await stranger.post(f"instances/{instance}/checkpoint")).status == 404
            body = {"checkpoint_minutes": 1}
            assert (
                await stranger.request("PATCH", f"instances/{instance}", json=body)
            ).status == 404
            theirs = await stranger.request(
                "PATCH", "people/admin/checkpoints", json={"minutes": 1}
            )
            assert theirs.status in (403, 404)
            own = await stranger.request("PATCH", "people/eve/checkpoints", json={"minutes": 15})
            assert own.json == {"minutes": 15, "in_force_minutes": 15}
        for minutes in (-1, 10_081, "often"):
            refused = await api.request(
                "PATCH", "people/admin/checkpoints", json={"minutes": minutes}
            )
            assert refused.status == 400
        await scheduler.report(instance, State.EXITED)
        refused = await api.post(f"instances/{instance}/checkpoint")
        assert (refused.status, "exited" in refused.json["detail"]) == (409, True)


async def test_the_page_without_a_script(work):
    async with work.scheduler() as scheduler, work.browser() as browser:
        instance, _ = await running_instance(work, scheduler)
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        answer = await browser.submit(f"/instances/{instance}/checkpoint", csrf=csrf)
        assert answer.status in (200, 303)
        assert (await scheduler.message(CheckpointInstance)).instance == instance
        assert "Asked for a checkpoint" in (await browser.get("/")).text
        for minutes, status in (("60", 303), ("", 303), ("7", 400)):
            answer = await browser.submit("/account/checkpoints", csrf=csrf, minutes=minutes)
            assert answer.status in (200, status), answer.text
        assert "every hour" in (await browser.get("/account")).text
        path = f"/instances/{instance}/checkpoints"
        assert f'href="{path}"' in (await browser.get("/")).text
        for minutes, status, chosen in (("15", 303, 15), ("7", 400, 15), ("", 303, None)):
            answer = await browser.submit(path, csrf=csrf, minutes=minutes)
            assert answer.status in (200, status), answer.text
            assert (await Instance.get(id=instance)).checkpoint_minutes == chosen
        page = (await browser.get(path)).text
        assert "as for all of mine (never)" in page
        assert "every 15 minutes" in page
