"""A whole system that is watched: an instance's life in the figures of all components, in the
log as JSON and in the audit log."""

import json
from itertools import pairwise

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from systems.all_in_one import browser_session, dit4c, free_ports, log_in

pytestmark = pytest.mark.engine


async def test_an_instances_life_can_be_watched(own_system):
    (port,) = free_ports(1)
    own_system.options = ("--observe-port", str(port), "--log-format", "json")
    own_system.start()

    async def get(page):
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}{page}") as answer:
                assert answer.status == 200, await answer.text()
                return await answer.text()

    async def figures():
        families = text_string_to_metric_families(await get("/metrics"))
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    ready = json.loads(await get("/readyz"))["components"]
    kinds = {"portal", "fileserver", "router", "imageserver", "node", "scheduler"}
    assert ready.keys() == kinds
    async with own_system.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True)
        now = await figures()
        scheduler, router, node = (("component", kind) for kind in ("scheduler", "router", "node"))
        assert now["dit4c_instance_start_seconds_count", scheduler] == 1
        assert now["dit4c_instances", ("component", "portal"), ("state", "running")] == 1
        assert now["dit4c_tunnels", router] == 2, "the instance's and the node's"
        assert now["dit4c_pods", node, ("state", "running")] == 1
        assert now["dit4c_verbs_total", node, ("outcome", "done"), ("verb", "StartPod")] == 1
        assert [key for key in now if key[0] == "process_resident_memory_bytes"]
        url = (await api.call("GET", f"instances/{instance}"))["url"]
        origins = own_system.access["portal"], url.rstrip("/")
        async with browser_session(*origins) as browser:
            await log_in(browser, own_system.access["login_url"])
            async with browser.get(url) as page:
                assert page.status == 200
        await api.discard(instance)

    lines = [json.loads(line) for line in (own_system.data / "dit4c.log").read_text().splitlines()]
    about = [line["message"] for line in lines if line.get("instance") == instance]
    for came, went in pairwise(
        ("created", "waiting_for_image", "starting", "running", "stopping", "discarding",
         "discarded")
    ):  # fmt: skip
        moved = f"instance {instance}: {came} → {went} ("
        assert len([message for message in about if message.startswith(moved)]) == 1, moved
    written = (own_system.data / "dit4c.log").read_text()
    audit = own_system.data / "portal" / "audit.jsonl"
    for secret in (own_system.access["api_token"], own_system.access["login_url"][-30:]):
        assert secret not in written
        assert secret not in audit.read_text()
    done = dit4c("audit", "verify", audit)
    assert done.returncode == 0, done.stderr
    acts = [json.loads(line) for line in audit.read_text().splitlines()]
    mine = [act["what"] for act in acts if instance in act["about"]]
    assert mine == [
        "instance.create", "key.publish", "authorize", "instance.discard", "key.revoke"
    ]  # fmt: skip
