"""Groups by the API: who may do what, and that others' groups look like none."""

import pytest

from dit4c_p2p.portal.models import GroupMember


async def made(work, id="lab", **members):
    """A group with ``members``: "read", "write" or "manage"."""
    async with work.api() as api:
        answer = await api.post("groups", json={"title": "The Lab", "id": id})
        assert answer.status == 201, answer.text
        for person, right in members.items():
            await work.person(person)
            body = {"person": person, "write": right != "read", "manage": right == "manage"}
            assert (await api.post(f"groups/{id}/members", json=body)).status == 200


async def test_ids_are_made_from_titles_or_given_and_unique(work):
    async with work.api() as api:
        first = await api.post("groups", json={"title": "Soil Physics"})
        assert (first.status, first.json["id"]) == (201, "soil-physics")
        second = await api.post("groups", json={"title": "Soil Physics"})
        assert second.json["id"] == "soil-physics-2"
        assert (await api.post("groups", json={"title": "土壌"})).json["id"] == "group"
        taken = await api.post("groups", json={"title": "X", "id": "soil-physics"})
        assert (taken.status, taken.json["code"]) == (409, "conflict")
        for body, field in (
            ({"title": ""}, "title"),
            ({"title": "a\u202eb"}, "title"),
            ({"title": "x" * 101}, "title"),
            ({"title": "X", "id": "Not"}, "id"),
            ({"title": "X", "colour": 1}, "colour"),
        ):
            refused = await api.post("groups", json=body)
            assert (refused.status, refused.json["field"]) == (400, field)


async def test_a_renamed_group_keeps_its_folder(work):
    await made(work, ada="write")
    async with work.api() as api, work.file_server() as server:
        renamed = await api.request("PATCH", "groups/lab", json={"title": "New"})
        assert renamed.json["title"] == "New"
        assert "shared/lab" in await server.folders("user", "ada")


async def test_a_closed_group_shares_nothing_and_may_be_opened_again(work):
    await made(work, ada="write")
    async with work.api() as api, work.file_server() as server:
        await api.request("PATCH", "groups/lab", json={"closed": True})
        assert "shared/lab" not in await server.folders("user", "ada")
        await api.request("PATCH", "groups/lab", json={"closed": False})
        assert "shared/lab" in await server.folders("user", "ada")


@pytest.mark.parametrize(
    ("who", "sees", "changes"),
    [("admin", 200, 200), ("mia", 200, 200), ("ada", 200, 403), ("eve", 404, 404)],
)
async def test_who_may_see_a_group_and_change_its_members(work, who, sees, changes):
    await made(work, ada="write", mia="manage")
    tokens = {name: await work.person(name) for name in ("ada", "mia", "eve")}
    await work.person("new")
    async with work.api(tokens.get(who)) as api:
        for path in ("groups/lab", "groups/lab/members", "groups/lab/storage"):
            assert (await api.get(path)).status == sees, path
        listed = {group["id"] for group in (await api.get("groups")).json}
        assert ("lab" in listed) == (sees == 200)
        body = {"person": "new", "write": True}
        assert (await api.post("groups/lab/members", json=body)).status == changes
        assert await GroupMember.exists(person_id="new") == (changes == 200)
        gone = await api.post("groups/lab/members/mia/remove")
        assert gone.status == changes
        only_admins = 200 if who == "admin" else 403
        renamed = await api.request("PATCH", "groups/lab", json={"title": "Other"})
        assert renamed.status == only_admins
        quota = await api.request("PATCH", "groups/lab/storage", json={"quota_bytes": 1})
        assert quota.status == only_admins


async def test_everybody_may_leave_and_nobody_else_is_touched(work):
    await made(work, ada="read", mia="manage")
    async with work.api(await work.person("ada")) as api:
        left = await api.post("groups/lab/members/ada/remove")
        assert (left.status, left.json) == (200, [])
        assert (await api.get("groups/lab")).status == 404
    members = await GroupMember.all().values_list("person_id", flat=True)
    assert members == ["mia"]


async def test_members_are_people_that_exist(work):
    await made(work)
    async with work.api() as api:
        refused = await api.post("groups/lab/members", json={"person": "nobody"})
        assert refused.status == 404
        assert (await api.post("groups/lab/members/nobody/remove")).status == 404
        assert (await api.get("groups/nope")).status == 404


async def test_people_see_their_own_quota_only(work):
    ada, _ = await work.person("ada"), await work.person("eve")
    async with work.api(ada) as api, work.api() as admin:
        own = (await api.get("people/ada/storage")).json
        assert own == {"server": "first", "quota_bytes": 50 * 1024**3, "chosen": False}
        assert (await api.get("people/eve/storage")).status == 404
        refused = await api.request("PATCH", "people/ada/storage", json={"quota_bytes": 1})
        assert refused.status == 403
        chosen = await admin.request("PATCH", "people/ada/storage", json={"quota_bytes": 0})
        assert chosen.json == {"server": "first", "quota_bytes": 0, "chosen": True}
        back = await admin.request("PATCH", "people/ada/storage", json={"quota_bytes": None})
        assert back.json["chosen"] is False
        for wrong in (-1, 2**60, "1 GiB", True):
            answer = await admin.request("PATCH", "people/ada/storage", json={"quota_bytes": wrong})
            assert (answer.status, answer.json["field"]) == (400, "quota_bytes")
