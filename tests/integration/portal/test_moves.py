"""Going on from a checkpoint: offered when the machine is lost, once, at the same address."""

from integration.portal.test_checkpoints import taken, work
from systems.portal import running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.kept_files import kept_reference
from dit4c_p2p.messages.link import ClusterState, MoveInstance, StartInstance
from dit4c_p2p.portal.models import Instance, SshKey

__all__ = ["work"]

UP = ClusterState(nodes_up=["node-main"], nodes_down=[])
DOWN = ClusterState(nodes_up=[], nodes_down=["node-main"])


async def lost(work, api, scheduler) -> str:
    """An instance with a checkpoint whose machine does not answer."""
    instance, key = await running_instance(work, scheduler)
    await scheduler.tell(UP)
    path = f"instances/{instance}"
    early = await api.post(f"{path}/go-on")
    assert (early.status, "no checkpoint" in early.json["detail"]) == (409, True)
    shown = await taken(work, api, scheduler, instance, key)
    assert "go-on" not in shown["actions"]
    early = await api.post(f"{path}/go-on")
    assert (early.status, "answers" in early.json["detail"]) == (409, True)
    await scheduler.tell(DOWN)
    assert "go-on" in (await api.get(path)).json["actions"]
    return instance


async def test_it_goes_on_with_another_key(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance = await lost(work, api, scheduler)
        path, before = f"instances/{instance}", await Instance.get(id=instance)
        moved = await api.post(f"{path}/go-on")
        assert (moved.status, moved.json["state"]) == (202, "created")
        assert (moved.json["unreachable"], moved.json["url"]) == (None, None)
        order = await scheduler.message(MoveInstance)
        row = await Instance.get(id=instance)
        assert (order.epoch, order.image, order.key_nonce) == (1, row.image, row.key_nonce)
        assert f"instances/{instance}@sha256:" in order.image
        assert row.key_nonce != before.key_nonce
        assert not await SshKey.exists(name=f"instance-{instance}", revoked_at=None)
        assert (await api.post(f"{path}/go-on")).status == 409, "once"

        # What its old machine's cluster says late is of before.
        await scheduler.report(instance, State.RUNNING, node="node-main")
        assert (await api.get(path)).json["state"] == "created"
        await scheduler.report(instance, State.STARTING, "Starting", epoch=1, kept_on=["node-main"])
        shown = (await api.get(path)).json
        assert (shown["state"], shown["kept_on"]) == ("starting", ["node-main"])
        assert shown["unreachable"] is None, "that its old key is revoked is no news"
        await copies_what_is_kept(work, api, scheduler, instance)


async def copies_what_is_kept(work, api, scheduler, instance: str) -> None:
    """A new instance is ordered from what ``node-main`` keeps, on the page and by the API."""
    reference = kept_reference(instance, "node-main")
    for body, status in (
        ({"from": instance, "kept_on": "node-other"}, 409),
        ({"kept_on": "node-main"}, 400),
        ({"from": instance, "kept_on": "node-main"}, 201),
    ):
        made = await api.post("instances", json=body)
        assert made.status == status, made.text
    order = await scheduler.message(StartInstance)
    assert (order.instance, order.image) == (made.json["id"], reference)
    tree = (await api.get(f"instances/{made.json['id']}/lineage")).json
    assert [(one["id"], one["depth"]) for one in tree] == [(instance, 0), (made.json["id"], 1)]
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        path = f"/instances/{instance}/kept"
        assert f'href="{path}"' in (await browser.get("/")).text
        assert "was left on node-main" in (await browser.get(path)).text
        csrf = await browser.csrf()
        refused = await browser.submit(path, csrf=csrf, node="node-other")
        assert "nothing of it is kept" in refused.text.lower()
        assert (await browser.submit(path, csrf=csrf, node="node-main")).status in (200, 303)
    assert (await scheduler.message(StartInstance)).image == reference
    async with work.api(await work.person("mallory")) as stranger:
        body = {"from": instance, "kept_on": "node-main"}
        assert (await stranger.post("instances", json=body)).status == 404


async def test_all_or_nothing(work, monkeypatch):
    """The epoch, the key and the order are one transaction."""
    async with work.api() as api, work.scheduler() as scheduler:
        instance = await lost(work, api, scheduler)

        async def fail(*arguments, **more):
            raise OSError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(work.portal._services.instances, "order", fail)
            assert (await api.post(f"instances/{instance}/go-on")).status >= 500
        row = await Instance.get(id=instance)
        assert (row.epoch, row.state) == (0, "running")
        assert await SshKey.exists(name=f"instance-{instance}", revoked_at=None)
        assert (await api.post(f"instances/{instance}/go-on")).status == 202


async def test_who_may_and_the_page_without_a_script(work):
    async with work.api() as api, work.scheduler() as scheduler, work.browser() as browser:
        instance = await lost(work, api, scheduler)
        async with work.api(await work.person("eve")) as stranger:
            assert (await stranger.post(f"instances/{instance}/go-on")).status == 404
        await browser.log_in(await work.login_link())
        page = (await browser.get("/")).text
        assert "on another machine" in page
        csrf = await browser.csrf()
        answer = await browser.submit(f"/instances/{instance}/go-on", csrf=csrf)
        assert answer.status in (200, 303)
        assert (await scheduler.message(MoveInstance)).instance == instance
