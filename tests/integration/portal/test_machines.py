"""What an admin sees of machines and of everybody's instances, and can do there."""

import json

import pytest
from systems.portal import running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    ClusterState,
    DiscardInstance,
    MemoryUse,
    StartInstance,
    StopInstance,
)

MIB = 1024**2

DOWN = ClusterState(
    nodes_up=[],
    nodes_down=["node-main"],
    heard={"node-main": 1_790_000_000.0},
    troubles={"node-main": "it does not answer"},
)


@pytest.fixture
async def admin(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        yield browser


async def of_somebody_else(work, scheduler):
    """An instance of another person's that runs; its id."""
    async with work.api(await work.person("grace")) as api:
        made = (await api.post("instances", json={"image": "jupyterlab", "name": "Hers"})).json
    await scheduler.message(StartInstance)
    await scheduler.report(made["id"], State.RUNNING, node="node-main")
    return made["id"]


@pytest.mark.both_databases
async def test_machines_with_what_runs_there_and_whose(work, admin):
    async with work.scheduler() as scheduler:
        await running_instance(work, scheduler)
        await of_somebody_else(work, scheduler)
        await scheduler.tell(ClusterState(nodes_up=["node-main"], nodes_down=[]))
        page = (await admin.get("/admin/machines")).text
        assert 'data-machine="node-main" data-tone="good"' in page
        assert "admin, grace" in page
        await scheduler.tell(DOWN)
        page = (await admin.get("/admin/machines")).text
        assert "Not reached" in page
        assert "it does not answer" in page
        assert 'datetime="2026-09-21T14:13:20Z"' in page


async def test_a_machine_is_chosen_at_the_start(work, admin):
    await work.enrol("node-other")
    async with work.scheduler() as scheduler, work.api() as api:
        assert 'name="machine"' not in (await admin.get("/")).text, "there is nothing to choose"
        await scheduler.tell(ClusterState(nodes_up=["node-main", "node-other"], nodes_down=[]))
        assert "<option>main</option><option>other</option>" in (await admin.get("/")).text
        csrf = await admin.csrf()
        await admin.submit("/start", csrf=csrf, image="jupyterlab", machine="other")
        assert (await scheduler.message(StartInstance)).node == "node-other"
        await admin.submit("/start", csrf=csrf, image="jupyterlab", machine="")
        assert (await scheduler.message(StartInstance)).node == ""
        body = {"image": "jupyterlab", "machine": "other"}
        assert (await api.post("instances", json=body)).status == 201
        assert (await scheduler.message(StartInstance)).node == "node-other"
        for wrong in ("nowhere", "../x", "OTHER"):
            refused = await api.post("instances", json={**body, "machine": wrong})
            assert (refused.status, refused.json["field"]) == (400, "machine")


async def test_memory_of_each_instance_and_of_each_machine(work, admin):
    async with work.scheduler() as scheduler:
        mine, _ = await running_instance(work, scheduler)
        hers = await of_somebody_else(work, scheduler)
        used = {mine: 300 * MIB, hers: 112 * MIB, "nosuchone": MIB}
        await scheduler.tell(MemoryUse(node="node-main", used=used, limit=2048 * MIB))
        assert "<td>412 MiB of 4 GiB</td>" in (await admin.get("/admin/machines")).text
        everyone = (await admin.get("/admin/instances")).text
        assert "<td>300 MiB of 2 GiB</td>" in everyone
        assert "<td>112 MiB of 2 GiB</td>" in everyone
        assert 'data-part="memory">300 MiB of 2 GiB<' in (await admin.get("/")).text
        async with work.api() as api:
            shown = (await api.get(f"instances/{mine}")).json
        assert shown["memory"] == {"used_bytes": 300 * MIB, "limit_bytes": 2048 * MIB}

        # Of another machine nothing is taken, nor what is out of all measure.
        await scheduler.tell(MemoryUse(node="node-else", used={mine: 7 * MIB}, limit=8 * MIB))
        assert 'data-part="memory">300 MiB of 2 GiB<' in (await admin.get("/")).text
        await scheduler.tell(MemoryUse(node="node-main", used={mine: -5}, limit=2**60))
        assert 'data-part="memory">0 B of 8 PiB<' in (await admin.get("/")).text
        await scheduler.report(mine, State.EXITED, node="node-main")
        assert 'data-part="memory"><' in (await admin.get("/")).text


async def test_stop_and_discard_of_anybodys_instances(work, admin):
    async with work.scheduler() as scheduler:
        mine, _ = await running_instance(work, scheduler)
        hers = await of_somebody_else(work, scheduler)
        page = (await admin.get("/admin/instances")).text
        assert f'data-instance="{mine}"' in page
        assert f'data-instance="{hers}"' in page
        only_hers = (await admin.get("/admin/instances?q=grace")).text
        assert f'data-instance="{mine}"' not in only_hers
        csrf = await admin.csrf()
        picked = {f"pick.{hers}": "1"}
        stopped = await admin.submit("/admin/instances", csrf=csrf, action="stop", **picked)
        assert stopped.status == 303
        assert (await scheduler.message(StopInstance)).instance == hers
        asked = await admin.submit("/admin/instances", csrf=csrf, action="discard", **picked)
        assert "Discard 1 instance?" in asked.text
        done = await admin.submit(
            "/admin/instances", csrf=csrf, action="discard", sure="1", **picked
        )
        assert done.status == 303
        assert (await scheduler.message(DiscardInstance)).instance == hers
        nothing = await admin.submit("/admin/instances", csrf=csrf, action="stop")
        assert (nothing.status, "nothing is ticked" in nothing.text.lower()) == (400, True)
    written = [json.loads(line) for line in work.config.audit_path.read_text().splitlines()]
    assert {line["what"]: line["who"] for line in written}["admin.instance.discard"] == "admin"


async def test_for_others_these_pages_do_not_exist(work):
    await work.person("grace")
    async with work.browser() as browser:
        await browser.log_in(await work.login_link("grace"))
        for path in ("/admin/machines", "/admin/instances", "/admin/audit"):
            assert (await browser.get(path)).status == 404
            assert path not in (await browser.get("/")).text
