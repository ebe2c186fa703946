"""What is said of an instance whose machine, cluster or key is not there, and the way back."""

import asyncio

import pytest
from systems.portal import running_instance

from dit4c_p2p.identity.keys import fingerprint
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import ClusterState, DiscardInstance, StartAgain, StartInstance
from dit4c_p2p.portal.instances import reachability
from dit4c_p2p.portal.models import Instance, SshKey

UP = ClusterState(nodes_up=["node-main"], nodes_down=[])
DOWN = ClusterState(
    nodes_up=[],
    nodes_down=["node-main"],
    heard={"node-main": 1_790_000_000.0},
    troubles={"node-main": "it does not answer"},
)
SINCE = "2026-09-21T14:13:20Z"


async def test_a_machine_that_is_gone_is_said_with_its_age(work):
    async with work.scheduler() as scheduler, work.api() as api, work.browser() as browser:
        await browser.log_in(await work.login_link())
        instance, _ = await running_instance(work, scheduler)
        await scheduler.tell(UP)
        before = (await api.get(f"instances/{instance}")).json
        assert (before["info"], before["unreachable"]) == ("Ready to use.", None)
        await scheduler.tell(DOWN)
        shown = (await api.get(f"instances/{instance}")).json
        assert shown["state"] == "running"
        assert shown["unreachable"]["what"] == "machine"
        assert shown["unreachable"]["since"] == SINCE
        assert shown["info"].startswith(f"Not reachable since {SINCE}: its machine (node-main)")
        assert shown["since"] == before["since"]
        page = (await browser.get("/")).text
        assert "Not reachable" in page
        assert f'datetime="{SINCE}"' in page
        assert "Ready to use" not in page
        (cluster,) = (await api.get("clusters")).json
        (node,) = cluster["nodes"]
        assert (node["state"], node["since"]) == ("down", SINCE)
        assert node["trouble"] == "it does not answer"
        await scheduler.tell(UP)
        assert (await api.get(f"instances/{instance}")).json["info"] == "Ready to use."


@pytest.mark.both_databases
async def test_since_when_outlives_the_portal(work):
    async with work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        await scheduler.tell(DOWN)
    await work.stop()
    await work.start()
    async with work.scheduler(), work.api() as api:
        shown = (await api.get(f"instances/{instance}")).json
        assert shown["unreachable"]["since"] == SINCE


async def test_a_cluster_that_is_not_connected_is_said_after_a_moment(work, monkeypatch):
    monkeypatch.setattr(reachability, "LINK_GRACE_S", 0.2)
    async with work.api() as api:
        async with work.scheduler() as scheduler:
            instance, _ = await running_instance(work, scheduler)
        async with asyncio.timeout(10):
            while (await api.get(f"instances/{instance}")).json["unreachable"] is None:
                await asyncio.sleep(0.05)
        shown = (await api.get(f"instances/{instance}")).json
        assert shown["unreachable"]["what"] == "cluster"
        async with work.scheduler():
            async with asyncio.timeout(10):
                while (await api.get(f"instances/{instance}")).json["unreachable"] is not None:
                    await asyncio.sleep(0.05)


async def test_an_instance_whose_key_was_revoked_is_given_another(work):
    async with work.scheduler() as scheduler, work.api() as api, work.browser() as browser:
        await browser.log_in(await work.login_link())
        instance, key = await running_instance(work, scheduler)
        early = await api.post(f"instances/{instance}/new-key")
        assert early.status == 409
        await api.post(f"keys/{fingerprint(key)}/revoke")
        shown = (await api.get(f"instances/{instance}")).json
        assert shown["unreachable"]["what"] == "key"
        assert (shown["url"], shown["actions"]) == (None, ["new-key", "stop", "discard"])
        assert "Cut off since" in shown["info"]
        assert 'data-wish="new-key"' in (await browser.get("/")).text
        asked = await api.post(f"instances/{instance}/new-key")
        assert asked.status == 202
        order = await scheduler.message(StartAgain)
        assert (order.instance, order.new_key) == (instance, True)
        await scheduler.report(instance, State.STARTING, node="node-main")
        start = StartInstance(instance=instance, image="", key_nonce=await nonce(instance))
        await scheduler.allocate(start)
        await scheduler.report(instance, State.RUNNING, node="node-main")
        assert (await api.get(f"instances/{instance}")).json["unreachable"] is None


async def in_force(key):
    return await SshKey.exists(fingerprint=fingerprint(key), revoked_at=None)


async def nonce(instance):
    return (await Instance.get(id=instance)).key_nonce


async def test_a_stopped_instance_gets_its_new_key_when_it_is_started(work):
    async with work.scheduler() as scheduler, work.api() as api:
        instance, key = await running_instance(work, scheduler)
        await scheduler.report(instance, State.EXITED, node="node-main")
        await api.post(f"keys/{fingerprint(key)}/revoke")
        assert "start" in (await api.get(f"instances/{instance}")).json["actions"]
        await api.post(f"instances/{instance}/start")
        assert (await scheduler.message(StartAgain)).new_key


@pytest.mark.both_databases
async def test_a_node_takes_the_keys_it_vouched_for_with_it(work):
    """security.md: what a machine that is not trusted any more holds is of no use either."""
    async with work.scheduler() as scheduler, work.api() as api:
        instance, key = await running_instance(work, scheduler)
        first = work.keys["node-main"]
        second = await work.enrol("node-main")
        await api.post(f"keys/{fingerprint(first)}/revoke")
        assert await in_force(key), "the node has another key"
        await api.post(f"keys/{fingerprint(second)}/revoke")
        assert not await in_force(key)
        shown = (await api.get(f"instances/{instance}")).json
        assert shown["unreachable"]["what"] == "machine"
        assert "the key of its machine (node-main) was revoked" in shown["info"]


async def test_a_discard_ends_where_the_scheduler_was_revoked(work):
    async with work.api() as api:
        async with work.scheduler() as scheduler:
            instance, key = await running_instance(work, scheduler)
        await api.post(f"keys/{fingerprint(work.keys['scheduler-main'])}/revoke")
        gone = (await api.post(f"instances/{instance}/discard")).json
        assert gone["state"] == "discarded"
        assert "out of reach" in gone["info"]
        assert not await in_force(key)


async def test_what_is_gone_offers_no_start(work):
    async with work.scheduler() as scheduler, work.api() as api:
        instance, _ = await running_instance(work, scheduler)
        await scheduler.report(instance, State.ERRORED, node="node-main", gone=True)
        assert (await api.get(f"instances/{instance}")).json["actions"] == ["discard"]
        refused = await api.post(f"instances/{instance}/start")
        assert refused.status == 409
        assert "its container is gone" in refused.json["detail"]
        await api.post(f"instances/{instance}/discard")
        assert (await scheduler.message(DiscardInstance)).instance == instance


async def test_an_instance_that_waits_for_a_cluster_that_never_came_says_so(work, monkeypatch):
    monkeypatch.setattr(reachability, "LINK_GRACE_S", 0.0)
    async with work.api() as api:
        made = (await api.post("instances", json={"image": "jupyterlab"})).json
        shown = (await api.get(f"instances/{made['id']}")).json
    assert shown["unreachable"]["what"] == "cluster"
    assert "its cluster (scheduler-main) is not connected" in shown["info"]
