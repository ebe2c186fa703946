"""The pages of groups and of quotas: what they do, and who they are for."""

import pytest
from systems.portal import beside

from dit4c_p2p.portal.models import GroupMember, StorageTree


async def logged_in(work, browser, person):
    await browser.log_in(await work.login_link(person))
    return await browser.csrf()


async def test_an_admin_makes_a_group_and_its_manager_changes_its_members(work):
    for person in ("ada", "mia"):
        await work.person(person)
    async with work.browser() as admin, work.browser() as mia, work.browser() as ada:
        csrf = await logged_in(work, admin, "admin")
        made = await admin.submit("/admin/groups", csrf=csrf, title="Soil Physics", id="")
        assert made.location == "/groups/soil-physics"
        assert "Soil Physics" in (await admin.get("/admin/groups")).text
        put = await admin.submit(
            "/groups/soil-physics/members", csrf=csrf, person="mia", right="write", manage="1"
        )
        assert put.status == 303

        csrf = await logged_in(work, mia, "mia")
        page = (await mia.get("/groups/soil-physics")).text
        assert 'data-action="put-member"' in page
        assert 'data-action="rename-group"' not in page
        put = await mia.submit(
            "/groups/soil-physics/members", csrf=csrf, person="ada", right="read"
        )
        assert put.status == 303

        csrf = await logged_in(work, ada, "ada")
        account = (await ada.get("/account")).text
        assert "/mnt/shared/soil-physics" in account
        page = (await ada.get("/groups/soil-physics")).text
        assert 'data-action="put-member"' not in page
        assert 'data-action="leave"' in page
        assert "You don’t see its files" in (await ada.get("/groups/soil-physics/leave")).text
        left = await ada.submit("/groups/soil-physics/leave", csrf=csrf)
        assert left.location == "/account"
        assert (await ada.get("/groups/soil-physics")).status == 404
        members = await GroupMember.all().values_list("person_id", flat=True)
        assert members == ["mia"]


async def test_an_admin_renames_closes_and_opens_a_group(work):
    async with work.browser() as admin:
        csrf = await logged_in(work, admin, "admin")
        await admin.submit("/admin/groups", csrf=csrf, title="Lab", id="lab")
        await admin.submit("/groups/lab/title", csrf=csrf, title="Laboratory")
        assert "Laboratory" in (await admin.get("/groups/lab")).text
        await admin.submit("/groups/lab/close", csrf=csrf)
        page = (await admin.get("/groups/lab")).text
        assert "Closed" in page
        await admin.submit("/groups/lab/open", csrf=csrf)
        assert "Open again" not in (await admin.get("/groups/lab")).text


@pytest.mark.parametrize("person", ["eve", "ada"])
async def test_pages_of_others_look_like_none(work, person):
    for other in ("ada", "eve"):
        await work.person(other)
    async with work.browser() as admin, work.browser() as browser:
        csrf = await logged_in(work, admin, "admin")
        await admin.submit("/admin/groups", csrf=csrf, title="Lab", id="lab")
        await admin.submit("/groups/lab/members", csrf=csrf, person="ada", right="read")
        csrf = await logged_in(work, browser, person)
        for path in ("/admin/groups", "/admin/storage/user-ada", "/admin/storage/group-lab"):
            assert (await browser.get(path)).status == 404
        for path in ("title", "close", "open"):
            answer = await browser.submit(f"/groups/lab/{path}", csrf=csrf, title="Mine")
            assert answer.status == 404
        quota = await browser.submit("/admin/storage/group-lab/quota", csrf=csrf, quota="1")
        assert quota.status == 404
        put = await browser.submit("/groups/lab/members", csrf=csrf, person="eve", right="write")
        gone = await browser.submit("/groups/lab/members/ada/remove", csrf=csrf)
        expected = 403 if person == "ada" else 404
        assert (put.status, gone.status) == (expected, expected)
        if person == "eve":
            for path in ("/groups/lab", "/groups/lab/leave"):
                assert (await browser.get(path)).status == 404
            assert (await browser.submit("/groups/lab/leave", csrf=csrf)).status == 404
        assert await GroupMember.filter(person_id="ada").exists()


async def test_what_is_wrong_with_a_form_is_said_beside_the_field(work):
    async with work.browser() as admin:
        csrf = await logged_in(work, admin, "admin")
        bad = await admin.submit("/admin/groups", csrf=csrf, title="Lab", id="Not an id")
        assert "not the id of a group" in beside(bad.text, "id")
        await admin.submit("/admin/groups", csrf=csrf, title="Lab", id="lab")
        bad = await admin.submit("/groups/lab/members", csrf=csrf, person="", right="read")
        assert "Say who" in beside(bad.text, "person")
        bad = await admin.submit("/groups/lab/members", csrf=csrf, person="nobody", right="read")
        assert (bad.status, "There is no such person" in bad.text) == (404, True)
        for quota in ("-1", "x", "1e99", "NaN", "Infinity"):
            bad = await admin.submit("/admin/storage/group-lab/quota", csrf=csrf, quota=quota)
            assert "number of GiB" in beside(bad.text, "quota")


async def test_an_admin_chooses_quota_and_file_server(work):
    await work.person("ada")
    async with work.browser() as admin:
        csrf = await logged_in(work, admin, "admin")
        assert "/admin/storage/user-ada" in (await admin.get("/admin/people/ada")).text
        page = (await admin.get("/admin/storage/user-ada")).text
        assert "50 GiB" in page
        path = "/admin/storage/user-ada"
        assert (await admin.submit(f"{path}/quota", csrf=csrf, quota="1.5")).status == 303
        assert (await admin.submit(f"{path}/home", csrf=csrf, server="second")).status == 303
        page = (await admin.get(path)).text
        assert "1.5 GiB" in page
        assert 'value="1.5"' in page
        row = await StorageTree.get(name="user-ada")
        assert (row.quota_bytes, row.server) == (1610612736, "second")
        await admin.submit(f"{path}/quota", csrf=csrf, quota="")
        assert (await StorageTree.get(name="user-ada")).quota_bytes is None
        for path in ("user-nobody", "group-nothing", "x", "instance-a"):
            assert (await admin.get(f"/admin/storage/{path}")).status == 404
