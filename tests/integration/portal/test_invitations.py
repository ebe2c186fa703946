"""Invitation links: for one or for many, in time, into a group, and never for two accounts."""

import asyncio
from datetime import UTC, datetime

import pytest
from systems.portal import beside, hidden_fields

from dit4c_p2p.portal.models import GroupMember, Invitation, Person

ENDS_AT = datetime(2091, 2, 1, tzinfo=UTC).timestamp()


async def admin_page(work, browser) -> str:
    """Log the admin in; the form token."""
    await browser.log_in(await work.login_link())
    return hidden_fields((await browser.get("/admin/invitations")).text)["csrf"]


async def made(browser, csrf, **fields) -> str:
    """An invitation's link."""
    form = {"label": "School", "uses": "1", "expires": "2090-01-31", **fields}
    page = await browser.submit("/admin/invitations", csrf=csrf, **form)
    assert page.status == 200, page.text
    return page.text.split('id="secret"', 1)[1].split('value="', 1)[1].split('"', 1)[0]


async def accept(browser, link, name):
    """Open a link and come in, as Chromium does it."""
    page = await browser.get(link)
    assert page.headers["Referrer-Policy"] == "no-referrer"
    return await browser.submit(link, origin="null", name=name, **hidden_fields(page.text))


@pytest.mark.both_databases
async def test_an_invitation_for_three_lets_three_in(work):
    async with work.browser() as admin, work.browser() as browser:
        csrf = await admin_page(work, admin)
        link = await made(admin, csrf, uses="3", ends="2091-01-31")
        names = ("Zoë O’Neil", "李小龍", "Zoë O’Neil")
        for name in names:
            browser.cookies.clear()
            for _ in range(3):
                assert (await browser.get(link)).status == 200, "looking uses nothing up"
            done = await accept(browser, link, name)
            assert (done.status, done.location) == (303, "/"), done.text
            page = (await browser.get("/")).text
            assert "Come back without a link" in page, "a passkey is offered at once"
        browser.cookies.clear()
        over = await browser.get(link)
        assert (over.status, "used up" in over.text) == (410, True)
        assert (await browser.submit(link, origin=None, name="Late")).status == 410
        people = await Person.exclude(id="admin").order_by("created_at")
        assert [person.id for person in people] == ["zoe-oneil", "person", "zoe-oneil-2"]
        assert {person.is_admin for person in people} == {False}
        assert {person.ends_at for person in people} == {ENDS_AT}
        page = (await admin.get("/admin/invitations")).text
        assert "3 of 3 came" in page
        assert link.rsplit("/", 1)[1] not in page


@pytest.mark.both_databases
async def test_of_eight_at_once_one_gets_in(work):
    async with work.browser() as admin, work.browser() as browser:
        link = await made(admin, await admin_page(work, admin))
        answers = await asyncio.gather(
            *(browser.submit(link, origin=None, name=f"Guest {n}") for n in range(8))
        )
        assert sorted(answer.status for answer in answers) == [303, *[410] * 7]
        assert await Person.all().count() == 2


async def test_an_invitation_ends_on_its_day_or_when_an_admin_ends_it(work):
    async with work.browser() as admin, work.browser() as browser:
        csrf = await admin_page(work, admin)
        link = await made(admin, csrf)
        (row,) = await Invitation.all()
        path = f"/admin/invitations/{row.digest[:16]}/end"
        assert (await admin.submit(path, csrf="guess")).status == 403
        assert (await admin.submit(path, csrf=csrf)).status == 303
        assert (await browser.get(link)).status == 410
        assert (await admin.submit("/admin/invitations/x/end", csrf=csrf)).status == 404
        other = await made(admin, csrf)
        work.clock.ahead = row.expires_at - work.clock() + 1
        assert (await browser.get(other)).status == 410
        assert (await browser.get("/invitation/nothing")).status == 410


async def test_an_admins_invitation_and_one_into_a_group(work):
    async with work.browser() as admin, work.browser() as browser, work.api() as api:
        assert (await api.post("groups", json={"title": "Lab"})).status == 201
        csrf = await admin_page(work, admin)
        link = await made(admin, csrf, admin="1", group="lab")
        await accept(browser, link, "Rosa")
        assert (await browser.get("/admin/people")).status == 200
        (member,) = await GroupMember.filter(person_id="rosa")
        assert (member.group_id, member.writes, member.manages) == ("lab", False, False)
        nowhere = await admin.submit(
            "/admin/invitations", csrf=csrf, label="x", uses="1", expires="2090-01-01", group="no"
        )
        assert nowhere.status == 404
        assert await Invitation.all().count() == 1


async def test_whoever_is_logged_in_uses_nothing_up(work):
    async with work.browser() as admin:
        link = await made(admin, await admin_page(work, admin))
        page = await admin.get(link)
        assert "is logged in as" in page.text
        assert 'name="name"' not in page.text


WRONG = (
    ({"label": ""}, "label"),
    ({"label": "x" * 101}, "label"),
    ({"label": "a\u202eb"}, "label"),
    ({"uses": "0"}, "uses"),
    ({"uses": "1001"}, "uses"),
    ({"uses": "9" * 400}, "uses"),
    ({"uses": "-1"}, "uses"),
    ({"uses": "٣"}, "uses"),
    ({"uses": "2", "admin": "1"}, "uses"),
    ({"expires": ""}, "expires"),
    ({"expires": "2000-01-01"}, "expires"),
    ({"expires": "soon"}, "expires"),
    ({"expires": "9999-12-31"}, "expires"),
    ({"ends": "2000-01-01"}, "ends"),
)


async def test_a_form_that_can_not_be_used_says_where(work):
    async with work.browser() as admin:
        csrf = await admin_page(work, admin)
        for fields, wrong in WRONG:
            form = {"label": "School", "uses": "1", "expires": "2090-01-31", **fields}
            page = await admin.submit("/admin/invitations", csrf=csrf, **form)
            assert page.status == 400, fields
            assert beside(page.text, wrong)
        assert await Invitation.all().count() == 0


async def test_a_name_that_can_not_be_used_leaves_the_invitation_as_it_was(work):
    async with work.browser() as admin, work.browser() as browser:
        link = await made(admin, await admin_page(work, admin))
        for name in ("", "  ", "x" * 101, "a\u202eb", "\u200b"):
            page = await accept(browser, link, name)
            assert page.status == 400
            assert beside(page.text, "name")
        assert (await accept(browser, link, "<script>alert(1)</script>")).status == 303
        assert "<script>alert" not in (await browser.get("/")).text


async def test_another_sites_form_can_not_accept(work):
    async with work.browser() as admin, work.browser() as browser:
        link = await made(admin, await admin_page(work, admin))
        for origin in ("http://evil.example", "null"):
            assert (await browser.submit(link, origin=origin, name="Eve")).status == 403
        assert await Person.all().count() == 1


async def test_invitations_do_not_exist_for_others(work):
    await work.person("eve")
    async with work.browser() as browser:
        await browser.log_in(await work.login_link("eve"))
        csrf = await browser.csrf()
        assert (await browser.get("/admin/invitations")).status == 404
        assert (await browser.submit("/admin/invitations", csrf=csrf, label="x")).status == 404
        assert (await browser.submit("/admin/invitations/x/end", csrf=csrf)).status == 404


async def test_by_the_api(work):
    async with work.api() as api, work.browser() as browser:
        body = {"label": "School", "expires": "2090-01-31T00:00:00Z", "uses": 2}
        made = await api.post("invitations", json=body)
        assert made.status == 201, made.text
        assert (made.json["state"], made.json["used"]) == ("open", 0)
        done = await browser.submit(made.json["url"], origin=None, name="Ada")
        assert done.status == 303
        (listed,) = (await api.get("invitations")).json
        assert (listed["id"], listed["used"], "url" in listed) == (made.json["id"], 1, False)
        path = f"invitations/{listed['id']}/end"
        for _ in range(2):
            assert (await api.post(path)).json["state"] == "ended"
        assert (await browser.submit(made.json["url"], origin=None, name="Eve")).status == 410
        assert (await api.post("invitations/nothing/end")).status == 404
        for wrong in (
            {}, {"uses": 0}, {"uses": 1001}, {"uses": "2"}, {"label": ""}, {"label": "a\u202eb"},
            {"expires": "2000-01-01T00:00:00Z"}, {"expires": "2090-01-01"}, {"expires": None},
            {"admin": True}, {"ends": "2000-01-01T00:00:00Z"}, {"role": "x"},
        ):  # fmt: skip
            refused = await api.post("invitations", json={**body, **wrong} if wrong else {})
            assert refused.status == 400, wrong
        unknown = await api.post("invitations", json={**body, "group": "nothing"})
        assert unknown.status == 404
    async with work.api(await work.person("max")) as api:
        for answer in (await api.get("invitations"), await api.post("invitations", json=body)):
            assert answer.status == 403
