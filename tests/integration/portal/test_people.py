"""Accounts by the API and by the pages: invited, disabled, ended, let in again."""

import asyncio
import html
from datetime import UTC, datetime

import pytest
from systems.portal import beside, hidden_fields, running_instance

from dit4c_p2p.portal.accounts.api_tokens import ALL_SCOPES
from dit4c_p2p.portal.models import OAuthToken, Person, Session
from dit4c_p2p.portal.opaque_tokens import digest


async def invited(api, name="Zoë O’Neil", **more):
    """A new person; the answer's JSON."""
    answer = await api.post("people", json={"name": name, **more})
    assert answer.status == 201, answer.text
    return answer.json


async def logged_in(work, browser, link):
    done = await browser.log_in(link)
    assert done.status == 303, done.text


@pytest.mark.both_databases
async def test_an_invitation_lets_a_new_person_in_once(work):
    async with work.api() as api, work.browser() as browser:
        person = await invited(api)
        assert person["id"] == "zoe-oneil"
        assert (person["admin"], person["state"], person["ends"]) == (False, "invited", None)
        link = person["login"]["url"]
        assert link.startswith(work.url + "/login/")
        page = await browser.get(link)
        assert "Zoë O’Neil" in page.text
        await logged_in(work, browser, link)
        assert "Zoë O’Neil" in (await browser.get("/")).text
        assert (await browser.get(link)).status == 410
        seen = (await api.get("people/zoe-oneil")).json
        assert seen["state"] == "active"
        assert seen["last_seen"]
        assert "login" not in seen


@pytest.mark.both_databases
async def test_ids_are_made_from_names_or_given_and_unique(work):
    async with work.api() as api:
        ids = [(await invited(api, "张伟"))["id"] for _ in range(3)]
        assert ids == ["person", "person-2", "person-3"]
        assert (await invited(api, "张伟", id="zhang-wei"))["id"] == "zhang-wei"
        taken = await api.post("people", json={"name": "Other", "id": "zhang-wei"})
        assert (taken.status, taken.json["code"]) == (409, "conflict")
        for id in ("Zhang", "a_b", "-a", "x" * 41):
            refused = await api.post("people", json={"name": "Other", "id": id})
            assert (refused.status, refused.json["field"]) == (400, "id")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "a\u0000"}, "name"),
        ({"name": 7}, "name"),
        ({"ends": "2001-01-01T00:00:00Z"}, "ends"),
        ({"ends": "9999-12-31T23:59:59Z"}, "ends"),
        ({"ends": "2090-01-01"}, "ends"),
        ({"ends": "2090-01-01T00:00:00"}, "ends"),
        ({"link_hours": 0}, "link_hours"),
        ({"link_hours": 721}, "link_hours"),
        ({"admin": "yes"}, "admin"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_invitations_name_the_field(work, change, field):
    async with work.api() as api:
        refused = await api.post("people", json={"name": "Zoë", **change})
        assert (refused.status, refused.json["field"]) == (400, field)
        assert len((await api.get("people")).json) == 1


async def test_disabling_ends_everything_at_once_and_instances_go_on(work):
    async with work.api() as api, work.browser() as browser, work.scheduler() as scheduler:
        person = await invited(api, "Eve", admin=True)
        await logged_in(work, browser, person["login"]["url"])
        token = (
            await api.post(
                "people/eve/tokens", json={"label": "Mine", "scopes": sorted(ALL_SCOPES)}
            )
        ).json["token"]
        unspent = (await api.post("people/eve/login-links", json={})).json["url"]
        before, work.token = work.token, token
        instance, _ = await running_instance(work, scheduler)
        work.token = before
        await OAuthToken.create(
            digest="d",
            code="c",
            instance=instance,
            person_id="eve",
            session="s",
            created_at=0,
            expires_at=work.clock() + 1000,
        )
        done = await api.request("PATCH", "people/eve", json={"disabled": True})
        assert (done.status, done.json["state"]) == (200, "disabled")

        page = await browser.get("/")
        assert (page.status, "is disabled" in page.text) == (403, True)
        async with work.api(token) as eve:
            refused = await eve.get("instances")
            assert (refused.status, refused.json["code"]) == (403, "account_closed")
            assert "disabled" in refused.json["detail"]
        assert (await OAuthToken.get(digest="d")).revoked_at is not None
        async with work.browser() as other:
            link = await other.get(unspent)
            assert (link.status, "is disabled" in link.text) == (403, True)
            assert (await other.log_in(unspent)).status == 403
        refused = await api.post("people/eve/login-links", json={})
        assert (refused.status, refused.json["code"]) == (409, "conflict")
        assert (await api.post("people/eve/tokens", json={"label": "New"})).status == 409

        state = await Person.get(id="eve").prefetch_related("instances")
        assert [one.state for one in state.instances] == ["running"]

        await api.request("PATCH", "people/eve", json={"disabled": False})
        assert (await browser.get("/")).status == 401, "what was ended stays so"
        async with work.api(token) as eve:
            assert (await eve.get("instances")).status == 401
        async with work.browser() as other:
            assert (await other.get(unspent)).status == 410
            again = (await api.post("people/eve/login-links", json={})).json["url"]
            await logged_in(work, other, again)
            assert instance in (await other.get("/")).text


async def test_an_end_date_closes_and_a_later_one_opens(work):
    async with work.api() as api, work.browser() as browser:
        ends = datetime.fromtimestamp(work.clock() + 3600, UTC)
        person = await invited(api, "Max", ends=ends.isoformat())
        await logged_in(work, browser, person["login"]["url"])
        token = (await api.post("people/max/tokens", json={"label": "Mine"})).json["token"]
        await OAuthToken.create(
            digest=digest("access"),
            code="c",
            instance="a",
            person_id="max",
            session=(await Session.get(person_id="max")).digest,
            created_at=0,
            expires_at=work.clock() + 10_000,
        )
        oauth = work.portal._services.oauth
        assert await oauth._token("access", work.clock()) is not None
        work.clock.ahead = 3601
        page = await browser.get("/")
        assert (page.status, "ended on" in page.text) == (403, True)
        async with work.api(token) as mine:
            refused = await mine.get("whoami")
            assert (refused.status, refused.json["code"]) == (403, "account_closed")
        assert await oauth._token("access", work.clock()) is None
        assert (await api.get("people/max")).json["state"] == "ended"
        await api.request("PATCH", "people/max", json={"ends": None})
        assert (await browser.get("/")).status == 200
        async with work.api(token) as mine:
            assert (await mine.get("whoami")).status == 200


async def test_one_admin_stays(work):
    async with work.api() as api:
        alone = await api.request("PATCH", "people/admin", json={"disabled": True, "own": True})
        assert (alone.status, alone.json["code"]) == (409, "conflict")
        assert "last admin" in alone.json["detail"]
        soon = "2090-01-01T00:00:00Z"
        assert (await api.request("PATCH", "people/admin", json={"ends": soon})).status == 409
        assert (await api.get("people/admin")).json["state"] == "active"
        await invited(api, "Temp", admin=True, ends=soon)
        assert (
            await api.request("PATCH", "people/admin", json={"disabled": True, "own": True})
        ).status == 409
        await invited(api, "Other", admin=True)
        both = await asyncio.gather(
            *(
                api.request("PATCH", f"people/{id}", json={"disabled": True, "own": True})
                for id in ("admin", "other")
            )
        )
        assert sorted(answer.status for answer in both)[0] == 200
        assert sum(answer.status == 200 for answer in both) == 1


async def test_people_are_for_admins_and_oneself(work):
    token = await work.person("max")
    async with work.api(token) as api:
        for method, path, body in (
            ("GET", "people", None),
            ("POST", "people", {"name": "X"}),
            ("PATCH", "people/max", {"ends": None}),
            ("POST", "people/max/login-links", {}),
            ("POST", "people/max/tokens", {"label": "longer"}),
        ):
            refused = await api.request(method, path, json=body)
            assert (refused.status, refused.json["code"]) == (403, "insufficient_scope"), path
        assert (await api.get("people/max")).json["id"] == "max"
        for path in ("people/admin", "people/nobody"):
            hidden = await api.get(path)
            assert (hidden.status, hidden.json["detail"]) == (404, "there is no such person")
            assert (await api.get(f"{path}/tokens")).json == hidden.json
            assert (await api.post(f"{path}/tokens/test/revoke")).json == hidden.json


@pytest.mark.both_databases
async def test_the_list_is_searched_and_paged(work):
    async with work.api() as api:
        for number in range(5):
            work.clock.ahead = number
            await invited(api, f"Ünique {number}")
        assert [p["id"] for p in (await api.get("people?q=nique 3")).json] == ["unique-3"]
        seen, path = [], "people?limit=2"
        while path:
            answer = await api.get(path)
            seen += [person["id"] for person in answer.json]
            link = answer.headers.get("Link", "")
            path = link.split(">")[0].removeprefix("<") if link else ""
            assert path == "" or (path.startswith(work.url) and link.endswith('rel="next"'))
        assert seen == ["unique-4", "unique-3", "unique-2", "unique-1", "unique-0", "admin"]


@pytest.mark.both_databases
async def test_the_list_has_only_those_in_a_state(work):
    async with work.api() as api:
        for name, more in (("Off", {}), ("Over", {"ends": "2090-01-01T00:00:00Z"}), ("New", {})):
            await invited(api, name, **more)
        await api.request("PATCH", "people/off", json={"disabled": True})
        await Person.filter(id="over").update(ends_at=work.clock() - 1)
        everybody = (await api.get("people")).json
        for state, ids in {
            "active": ["admin"],
            "invited": ["new"],
            "disabled": ["off"],
            "ended": ["over"],
        }.items():
            found = (await api.get(f"people?state={state}")).json
            assert [person["id"] for person in found] == ids
            assert found == [person for person in everybody if person["state"] == state]
        assert (await api.get("people?state=disabled&q=new")).json == []
        refused = await api.get("people?state=gone")
        assert (refused.status, refused.json["field"]) == (400, "state")


@pytest.mark.both_databases
async def test_who_is_looked_for_with_marks_of_their_own_is_found(work):
    """macOS writes what is typed as letters and marks apart; names are kept composed."""
    apart = "Zoe\N{COMBINING DIAERESIS}"
    async with work.api() as api, work.browser() as admin:
        await invited(api, "Zoë")
        await admin.log_in(await work.login_link())
        assert [one["id"] for one in (await api.get(f"people?q={apart}")).json] == ["zoe"]
        page = await admin.get(f"/admin/people?q={apart}")
        assert 'data-person="zoe"' in page.text
        assert 'data-person="admin"' not in page.text


# ---- pages


async def test_inviting_by_the_page(work):
    async with work.browser() as admin, work.browser() as guest:
        await admin.log_in(await work.login_link())
        csrf = await admin.csrf()
        fields = {"csrf": csrf, "name": "<b>Zoë</b>", "id": "zoe", "ends": "", "link_hours": "72"}
        done = await admin.submit("/admin/people", **fields)
        assert done.status == 200
        assert "&lt;b&gt;Zoë&lt;/b&gt;" in done.text
        assert "<b>Zoë" not in done.text
        assert done.headers["Cache-Control"] == "no-store"
        link = done.text.split('id="secret"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
        await logged_in(work, guest, link)
        page = await admin.get("/admin/people")
        assert 'data-person="zoe" data-state="active"' in page.text
        again = await admin.submit("/admin/people", **fields)
        assert (again.status, "already" in again.text) == (409, True)
        assert 'value="zoe"' in again.text, "what was typed is still there"
        bad = await admin.submit("/admin/people", **{**fields, "ends": "9999-12-31"})
        assert (bad.status, "end date" in bad.text) == (400, True)


@pytest.mark.parametrize(
    ("change", "status", "field", "says"),
    [
        ({"name": ""}, 400, "name", "needs at least one letter"),
        ({"id": "Zoë"}, 400, "id", "is not the id of a person"),
        ({"id": "admin"}, 409, "id", "a person called admin already"),
        ({"ends": "tomorrow"}, 400, "ends", "is not a day"),
        ({"ends": "2001-01-01"}, 400, "ends", "one to come"),
        ({"link_hours": "7"}, 400, "link_hours", "one of the times offered"),
    ],
)
async def test_what_is_wrong_with_an_invitation_is_said_beside_its_field(
    work, change, status, field, says
):
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        typed = {"name": "Zoë", "id": "zoe", "ends": "2090-05-31", "link_hours": "72", **change}
        refused = await admin.submit("/admin/people", csrf=await admin.csrf(), admin="1", **typed)
        assert refused.status == status
        assert says in beside(refused.text, field)
        for name in ("name", "id", "ends"):
            assert f'name="{name}" value="{typed[name]}"' in refused.text
        if field != "link_hours":
            assert '<option value="72" selected>' in refused.text
        assert 'value="1" checked' in refused.text


async def test_what_is_wrong_with_a_change_of_an_account_is_said_beside_its_field(work):
    await work.person("max")
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        csrf = await admin.csrf()
        for path, typed, says in (
            ("end", {"ends": "2001-01-01"}, "one to come"),
            ("login-link", {"link_hours": "7"}, "one of the times offered"),
        ):
            refused = await admin.submit(f"/admin/people/max/{path}", csrf=csrf, **typed)
            assert refused.status == 400
            (field,) = typed
            assert says in beside(refused.text, field)
            if field == "ends":
                assert 'name="ends" value="2001-01-01"' in refused.text


async def test_what_is_wrong_with_a_token_is_said_beside_its_field(work):
    await work.person("max")
    async with work.browser() as max:
        await max.log_in(await work.login_link("max"))
        csrf = await max.csrf()
        fields = {"csrf": csrf, "label": "Backup", "days": "30", "read": "1"}
        assert (await max.submit("/account/tokens", **fields)).status == 200
        for change, status, field, says in (
            ({}, 409, "label", "labelled &#39;Backup&#39; already"),
            ({"label": ""}, 400, "label", "needs at least one letter"),
            ({"days": "8"}, 400, "days", "one of the times offered"),
            ({"label": "B", "read": ""}, 400, "scopes", "needs at least one scope"),
        ):
            typed = {**fields, **change}
            refused = await max.submit("/account/tokens", **typed)
            assert refused.status == status
            assert says in beside(refused.text, field)
            assert f'name="label" value="{typed["label"]}"' in refused.text
        # A user's form has no box for it; the others stand under the same legend.
        refused = await max.submit("/account/tokens", **{**fields, "label": "B"}, admin="1")
        assert refused.status == 400
        assert "Max is no admin." in beside(refused.text, "scopes")


async def test_inviting_a_name_twice_is_said(work):
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        fields = {"csrf": await admin.csrf(), "name": "Rosa", "id": "", "link_hours": "72"}
        first = await admin.submit("/admin/people", **fields)
        assert "already" not in first.text
        again = await admin.submit("/admin/people", **fields)
        assert "somebody called Rosa already" in again.text
        assert 'href="/admin/people/rosa"' in again.text
        assert "rosa-2" in again.text


async def test_the_list_of_the_page_goes_on(work):
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        for number in range(60):
            await Person.create(
                id=f"z-{number}", name="Zoë & Max", is_admin=False, created_at=number
            )
        first = await admin.get("/admin/people?q=%26")
        assert first.text.count("data-person=") == 50
        link = html.unescape(first.text.split('rel="next" href="', 1)[1].split('"', 1)[0])
        rest = await admin.get(link)
        assert rest.text.count("data-person=") == 10, "of those that were looked for"
        assert "51 to 60 of 60 in all" in rest.text
        assert 'rel="prev" href="/admin/people?q=%26&amp;sort=-created"' in rest.text
        by_name = await admin.get("/admin/people?sort=name&q=z-")
        assert 'aria-sort="ascending"' in by_name.text
        assert by_name.text.index('data-person="z-0"') < by_name.text.index('data-person="z-1"')
        again = html.unescape(by_name.text.split('class="sort" href="', 1)[1].split('"', 1)[0])
        backwards = (await admin.get(again)).text
        assert backwards.index('data-person="z-9"') < backwards.index('data-person="z-8"')
        for query in ("sort=password", "part=0", "part=x", "part=99999", "sort=-"):
            assert (await admin.get(f"/admin/people?{query}")).status == 200


async def test_disabling_by_the_page_and_back(work):
    async with work.api() as api, work.browser() as admin, work.browser() as guest:
        person = await invited(api, "Max")
        await logged_in(work, guest, person["login"]["url"])
        await admin.log_in(await work.login_link())
        one = await admin.get("/admin/people/max")
        question = await admin.get("/admin/people/max/disable")
        assert "Disable" in one.text
        assert "None of it comes back" in question.text
        csrf = hidden_fields(question.text)["csrf"]
        done = await admin.submit("/admin/people/max/disable", csrf=csrf)
        assert (done.status, done.location) == (303, "/admin/people/max")
        assert (await guest.get("/")).status == 403
        await admin.submit("/admin/people/max/enable", csrf=csrf)
        assert (await guest.get("/")).status == 401
        page = await admin.submit("/admin/people/max/login-link", csrf=csrf, link_hours="24")
        assert f"{work.url}/login/" in page.text
        ended = await admin.submit("/admin/people/max/end", csrf=csrf, ends="2090-05-31")
        assert ended.status == 303
        assert "31 May 2090" in (await admin.get("/admin/people/max")).text
        assert (await api.get("people/max")).json["ends"] == "2090-06-01T00:00:00Z"
        last = await admin.submit("/admin/people/admin/disable", csrf=csrf, own="1")
        assert (last.status, "last admin" in last.text) == (409, True)


async def test_disabling_oneself_is_asked_about(work):
    async with work.api() as api, work.browser() as admin:
        await invited(api, "Other", admin=True)
        await admin.log_in(await work.login_link())
        question = await admin.get("/admin/people/admin/disable")
        assert "Disable your own account?" in question.text
        csrf = hidden_fields(question.text)["csrf"]
        asked = await admin.submit("/admin/people/admin/disable", csrf=csrf)
        assert (asked.status, "tick the box" in asked.text.lower()) == (400, True)
        assert (await admin.get("/")).status == 200
        done = await admin.submit("/admin/people/admin/disable", csrf=csrf, own="1")
        assert done.status == 303
        assert (await admin.get("/")).status == 403


async def test_the_pages_of_people_do_not_exist_for_others(work):
    await work.person("max")
    async with work.browser() as browser:
        await browser.log_in(await work.login_link("max"))
        csrf = await browser.csrf()
        assert "/admin/people" not in (await browser.get("/")).text
        for path in ("/admin/people", "/admin/people/admin", "/admin/people/admin/disable"):
            assert (await browser.get(path)).status == 404
        for path in (
            "/admin/people",
            "/admin/people/admin/disable",
            "/admin/people/admin/login-link",
            "/admin/people/max/enable",
            "/admin/people/max/end",
        ):
            assert (await browser.submit(path, csrf=csrf, name="x")).status == 404


async def test_every_new_form_is_protected(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        for path in (
            "/admin/people",
            "/admin/people/admin/disable",
            "/admin/people/admin/enable",
            "/admin/people/admin/end",
            "/admin/people/admin/login-link",
            "/account/login-link",
            "/account/tokens",
            "/account/tokens/x/revoke",
            "/account/sessions/x/end",
        ):
            assert (await browser.submit(path, csrf="guess", name="x")).status == 403
            other = await browser.submit(path, origin="http://evil.example", csrf=csrf, name="x")
            assert other.status == 403
    async with work.browser() as stranger:
        assert (await stranger.submit("/account/tokens", csrf="x", label="x")).status == 401


async def test_ones_own_account(work):
    await work.person("max")
    agent = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
    async with work.browser() as one, work.browser() as two, work.browser() as admin:
        two.headers = {**two.headers, **agent}
        await one.log_in(await work.login_link("max"))
        await two.log_in(await work.login_link("max"))
        await admin.log_in(await work.login_link())
        page = await one.get("/account")
        assert "Firefox on Linux" in page.text
        assert page.text.count("data-session=") == 2
        assert page.text.count("This browser") == 1
        csrf = hidden_fields(page.text)["csrf"]
        ids = [part.split('"', 1)[0] for part in page.text.split('data-session="')[1:]]
        (other,) = [
            id
            for id in ids
            if "This browser" not in page.text.split(f'data-session="{id}"')[1][:200]
        ]
        adminsown = (await admin.get("/account")).text.split('data-session="')[1].split('"')[0]
        assert (await one.submit(f"/account/sessions/{adminsown}/end", csrf=csrf)).status == 404
        assert (await admin.get("/")).status == 200
        await one.submit(f"/account/sessions/{other}/end", csrf=csrf)
        assert (await two.get("/")).status == 401
        assert (await one.get("/")).status == 200

        made = await one.submit("/account/tokens", csrf=csrf, label="Backup", days="7", read="1")
        token = made.text.split('id="secret"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
        async with work.api(token) as api:
            assert (await api.get("whoami")).json["id"] == "max"
            more = await one.submit("/account/tokens", csrf=csrf, label="B", days="7", admin="1")
            assert (more.status, "no admin" in more.text) == (400, True)
            listed = await one.get("/account")
            assert token not in listed.text
            part = listed.text.split("Backup")[0]
            id = part.rsplit('data-token="', 1)[1].split('"', 1)[0]
            await one.submit(f"/account/tokens/{id}/revoke", csrf=csrf)
            assert (await api.get("whoami")).status == 401


async def test_a_closed_account_does_not_keep_the_next_person_out_of_a_browser(work):
    async with work.api() as api, work.browser() as browser:
        person = await invited(api, "Max")
        await logged_in(work, browser, person["login"]["url"])
        await api.request("PATCH", "people/max", json={"disabled": True})
        assert (await browser.get("/")).status == 403
        await logged_in(work, browser, await work.login_link())
        assert (await browser.get("/")).status == 200
