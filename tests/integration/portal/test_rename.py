"""Another name for an instance, by the API."""

import pytest
from systems.portal import running_instance

from dit4c_p2p.messages.link import DiscardInstance


@pytest.mark.both_databases
async def test_renaming(work):
    other = await work.person("eve")
    async with work.scheduler() as scheduler, work.api() as api, work.api(other) as others:
        id, _ = await running_instance(work, scheduler)
        path = f"instances/{id}"
        done = await api.request("PATCH", path, json={"name": "  Zoë’s   work "})
        assert (done.status, done.json["name"]) == (200, "Zoë’s work")
        url = done.json["url"]
        assert (await api.get(path)).json["url"] == url, "its address stays"
        refused = await others.request("PATCH", path, json={"name": "Mine"})
        nothing = await others.request("PATCH", "instances/nothing", json={"name": "Mine"})
        assert (refused.status, refused.json["detail"]) == (404, nothing.json["detail"])
        for body in (
            {"name": ""}, {"name": "x" * 101}, {"name": "a\u202eb"}, {"name": 7},
            {"name": "x", "state": "running"}, {"name": "a\0b"},
        ):  # fmt: skip
            answer = await api.request("PATCH", path, json=body)
            assert answer.status == 400, body
        assert (await api.get(path)).json["name"] == "Zoë’s work"
        await api.post(f"{path}/discard")
        await scheduler.message(DiscardInstance)
        gone = await api.request("PATCH", path, json={"name": "Late"})
        assert gone.status == 409
