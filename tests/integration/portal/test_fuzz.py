"""The whole API by its own document: whatever is sent, and whoever sends it."""

import pytest
from lib.api_fuzz import CALLERS, fuzz
from systems.portal import Limits, PortalAtWork, running_instance

from dit4c_p2p.portal.api.routes import ENDPOINTS

# What a body has to be for the call to come to the object at all.
BODIES = {
    "people/{id}": {},
    "people/{id}/login-links": {},
    "people/{id}/tokens": {"label": "x"},
    "people/{id}/ssh-keys": {"line": "x"},
    "people/{id}/storage": {},
    "people/{id}/delete": {"confirm": "admin"},
    "people/{id}/checkpoints": {"minutes": 60},
    "people/{id}/consents": {"owner": "max"},
    "groups/{id}": {},
    "groups/{id}/members": {"person": "max"},
    "groups/{id}/storage": {},
    "nodes/{id}": {"owner": None},
    "instances/{id}": {"name": "x"},
    "instances/{id}/share": {},
    "instances/{id}/pull-secrets": {},
    "shared/{secret}": {},
}


@pytest.mark.parametrize("caller", CALLERS)
async def test_no_mistake_and_no_unauthorised_answer(tmp_path, caller, engine):
    """The same cases in each run; ``scripts/fuzz api`` tries others, for ten minutes."""
    async with PortalAtWork(tmp_path) as work:
        status, printed = await fuzz(work, caller, examples=3, seconds=10, seed=1)
    assert status == 0, printed


async def test_row_1_somebody_elses_objects_look_like_none(work):
    """For each endpoint: the ids that there are and that there are not get the same answer."""
    await work.stop()
    work.with_config(limits=Limits(logs_s=0.2))
    await work.start()
    token = await work.person("max")
    async with work.api() as admin, work.api(token) as max_, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        mine = (await admin.get("people/admin/tokens")).json[0]["id"]
        key = (await admin.get("keys")).json[0]["fingerprint"]
        tool = (await admin.get("tools")).json[0]["name"]
        await admin.post("groups", json={"title": "Lab", "id": "lab"})
        await admin.post("groups/lab/members", json={"person": "admin"})
        real = {
            "instances": instance,
            "people": "admin",
            "keys": key,
            "tools": tool,
            "groups": "lab",
            "nodes": "main",
        }
        none = {
            "instances": "abcdefghij",
            "people": "nobody",
            "keys": "A" * 43,
            "tools": "nothing",
            "groups": "nothing",
            "nodes": "nothing",
        }
        tried = 0
        for endpoint in ENDPOINTS:
            kind = endpoint.path.split("/")[0]
            if "{" not in endpoint.path:
                continue
            answers = []
            for ids in (real, none):
                path = (
                    endpoint.path.replace("{id}", ids.get(kind, "nothing"))
                    .replace("{fingerprint}", ids.get(kind, "A" * 43))
                    .replace("{name}", ids.get(kind, "nothing"))
                    .replace("{share}", "nothing")
                    .replace("{secret}", "nothing")
                    .replace("{person}", ids["people"])
                    .replace("{token}", mine)
                )
                body = BODIES.get(endpoint.path)
                more = {"json": body} if body is not None and endpoint.body else {}
                answer = await max_.request(endpoint.method, path, **more)
                answers.append((answer.status, answer.json))
            assert answers[0] == answers[1], endpoint
            assert answers[0][0] in (403, 404), endpoint
            tried += 1
        assert tried >= 12
        assert (await admin.get(f"instances/{instance}")).json["state"] == "running"
        assert (await admin.get("people/admin/tokens")).json[0]["id"] == mine


async def test_the_document_is_served_to_anybody(work):
    async with work.api("wrong") as api:
        answer = await api.get(f"{work.url}/api/openapi.json")
        assert answer.status == 200
        assert answer.json["servers"] == [{"url": work.url}]
        assert set(answer.json["paths"]) == {endpoint.pattern for endpoint in ENDPOINTS}
