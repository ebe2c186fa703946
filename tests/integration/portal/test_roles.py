"""Admins make others admins or users, and give people other names; the last admin stays."""

import asyncio

import pytest
from systems.portal import beside, hidden_fields


async def test_an_admin_makes_an_admin_and_a_user_again(work):
    token = await work.person("ada")
    async with work.browser() as admin, work.browser() as ada, work.api(token) as api:
        await admin.log_in(await work.login_link())
        await ada.log_in(await work.login_link("ada"))
        assert (await ada.get("/admin/people")).status == 404
        question = await admin.get("/admin/people/ada/role")
        assert "Make “<bdi>Ada</bdi>” an admin?" in question.text
        fields = hidden_fields(question.text)
        assert fields["role"] == "admin"
        done = await admin.submit("/admin/people/ada/role", **fields)
        assert done.location == "/admin/people/ada"
        assert (await ada.get("/admin/people")).status == 200
        assert (await api.get("people")).status == 403, "her token has no such scope"
        fields = hidden_fields((await admin.get("/admin/people/ada/role")).text)
        await admin.submit("/admin/people/ada/role", **fields)
        assert (await ada.get("/admin/people")).status == 404


async def test_an_admins_token_ends_to_be_one_with_the_role(work):
    await work.person("ada")
    async with work.api() as admin:
        await admin.request("PATCH", "people/ada", json={"admin": True})
        async with work.api(await work.portal.create_api_token("ada", "a")) as ada:
            assert (await ada.get("people")).status == 200
            await admin.request("PATCH", "people/ada", json={"admin": False})
            assert (await ada.get("people")).status == 403


async def test_giving_up_the_role_oneself_is_asked_about(work):
    await work.person("ada")
    async with work.api() as api, work.browser() as admin:
        await api.request("PATCH", "people/ada", json={"admin": True})
        await admin.log_in(await work.login_link())
        question = await admin.get("/admin/people/admin/role")
        fields = hidden_fields(question.text)
        refused = await admin.submit("/admin/people/admin/role", **fields)
        assert (refused.status, "tick the box" in refused.text.lower()) == (400, True)
        for change in ({"admin": False}, {"disabled": True}):
            said = await api.request("PATCH", "people/admin", json=change)
            assert (said.status, said.json["field"]) == (400, "own")
        done = await admin.submit("/admin/people/admin/role", **fields, own="1")
        assert done.location == "/"
        assert (await admin.get("/admin/people")).status == 404


async def test_the_last_admin_stays(work):
    await work.person("ada")
    async with work.api() as api:
        for path, change in (
            ("people/admin", {"admin": False, "own": True}),
            ("people/admin", {"disabled": True, "own": True}),
            ("people/admin", {"ends": "2090-01-01T00:00:00Z"}),
        ):
            refused = await api.request("PATCH", path, json=change)
            assert (refused.status, "last admin" in refused.json["detail"]) == (409, True)
        gone = await api.post("people/admin/delete", json={"confirm": "admin", "own": True})
        assert (gone.status, "last admin" in gone.json["detail"]) == (409, True)
        assert (await api.get("people/admin")).json["admin"] is True


@pytest.mark.both_databases
async def test_two_admins_who_demote_each_other_leave_one(work):
    await work.person("ada")
    async with work.api() as admin:
        await admin.request("PATCH", "people/ada", json={"admin": True})
        async with work.api(await work.portal.create_api_token("ada", "a")) as ada:
            both = await asyncio.gather(
                admin.request("PATCH", "people/ada", json={"admin": False}),
                ada.request("PATCH", "people/admin", json={"admin": False}),
            )
        assert sorted(one.status for one in both) in ([200, 403], [200, 409])


async def test_a_person_gets_another_name(work):
    await work.person("ada")
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        csrf = await admin.csrf()
        path = "/admin/people/ada"
        done = await admin.submit(f"{path}/name", csrf=csrf, name="Ada <i>Lovelace</i>")
        assert done.location == path
        page = (await admin.get(path)).text
        assert "Ada &lt;i&gt;Lovelace" in page
        assert "Ada <i>" not in page
        refused = await admin.submit(f"{path}/name", csrf=csrf, name="\u202eada")
        assert refused.status == 400
        assert "no control characters" in beside(refused.text, "name")
