"""How many instances somebody may have: the person's limit, a group's, or that of the settings."""

import pytest
from systems.portal import beside

START = {"image": "jupyterlab"}


async def group_of(api, *people, **limits):
    await api.post("groups", json={"title": "Soil", "id": "soil"})
    for person in people:
        await api.post("groups/soil/members", json={"person": person})
    assert (await api.request("PATCH", "groups/soil", json=limits)).status == 200


@pytest.mark.both_databases
async def test_a_groups_limit_counts_for_its_members_alone_and_is_named(work):
    async with work.api() as admin, work.api(await work.person("ada")) as ada:
        await group_of(admin, "ada", instances_limit=1)
        assert (await admin.get("groups/soil")).json["instances_limit"] == 1
        assert (await ada.get("people/ada/limits")).json == {
            "instances": {"number": 1, "of": "the limit of the group Soil"},
            "instances_at_once": {"number": 5, "of": "the limit for everyone"},
        }
        assert (await ada.post("instances", json=START)).status == 201
        refused = await ada.post("instances", json=START)
        assert refused.status == 409
        assert "the limit of the group Soil is 1" in refused.json["detail"]
        assert "an admin can change it" in refused.json["detail"]
        async with work.api(await work.person("eve")) as eve:
            for _ in range(2):
                assert (await eve.post("instances", json=START)).status == 201
            assert (await eve.get("people/ada/limits")).status == 404
        await admin.request("PATCH", "groups/soil", json={"closed": True})
        assert (await ada.post("instances", json=START)).status == 201, "a closed group counts not"


async def test_a_persons_own_limit_counts_before_a_groups(work):
    async with work.api() as admin, work.api(await work.person("ada")) as ada:
        await group_of(admin, "ada", instances_at_once_limit=1)
        changed = await admin.request("PATCH", "people/ada", json={"instances_at_once_limit": 2})
        assert changed.json["instances_at_once_limit"] == 2
        for _ in range(2):
            assert (await ada.post("instances", json=START)).status == 201
        refused = await ada.post("instances", json=START)
        assert "2 may at once (the limit of your account)" in refused.json["detail"]
        await admin.request("PATCH", "people/ada", json={"instances_at_once_limit": None})
        refused = await ada.post("instances", json=START)
        assert "1 may at once (the limit of the group Soil)" in refused.json["detail"]


async def test_admins_choose_limits_by_the_pages(work):
    await work.person("ada")
    async with work.browser() as admin, work.browser() as ada, work.api() as api:
        await group_of(api, "ada")
        await admin.log_in(await work.login_link())
        csrf = await admin.csrf()
        typed = {"csrf": csrf, "instances_limit": "4", "instances_at_once_limit": ""}
        for path, one in (("/groups/soil", "groups/soil"), ("/admin/people/ada", "people/ada")):
            assert (await admin.submit(f"{path}/limits", **typed)).location == path
            limits = (await api.get(one)).json
            assert (limits["instances_limit"], limits["instances_at_once_limit"]) == (4, None)
            assert 'name="instances_limit" value="4"' in (await admin.get(path)).text
            wrong = await admin.submit(f"{path}/limits", **{**typed, "instances_limit": "-1"})
            assert wrong.status == 400
            assert "a number from 0 to" in beside(wrong.text, "instances_limit")
        await ada.log_in(await work.login_link("ada"))
        csrf = await ada.csrf()
        assert (await ada.submit("/admin/people/ada/limits", csrf=csrf)).status == 404
        assert (await ada.submit("/groups/soil/limits", csrf=csrf)).status == 404


@pytest.mark.parametrize("limit", [-1, 10_001, "2", 1.5, True])
async def test_what_is_no_limit_is_refused(work, limit):
    await work.person("ada")
    async with work.api() as admin:
        refused = await admin.request("PATCH", "people/ada", json={"instances_limit": limit})
        assert (refused.status, refused.json["field"]) == (400, "instances_limit")
        assert (await admin.get("people/ada")).json["instances_limit"] is None
