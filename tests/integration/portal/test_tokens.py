"""Tokens for the API: named, with an end, and with no more rights than they were made with."""

import asyncio
import contextlib
import io

import pytest

from dit4c_p2p.cli import main
from dit4c_p2p.portal.models import ApiToken

DAY_S = 24 * 3600


@pytest.mark.both_databases
async def test_a_token_acts_as_its_person_until_its_end(work):
    await work.person("max")
    async with work.api() as api:
        made = await api.post("people/max/tokens", json={"label": "Lab", "days": 7})
        assert made.status == 201
        token = made.json
        assert set(token) == {"id", "label", "scopes", "created", "expires", "last_used", "token"}
        assert (token["label"], token["last_used"]) == ("Lab", None)
        assert token["scopes"] == ["instances:read", "instances:write"]
        async with work.api(token["token"]) as mine:
            assert (await mine.get("whoami")).json["id"] == "max"
            listed = (await mine.get("people/max/tokens")).json
            assert [one["label"] for one in listed] == ["Lab", "test"]
            assert listed[0]["last_used"]
            assert token["token"] not in str(listed)
            work.clock.ahead = 7 * DAY_S + 1
            assert (await mine.get("whoami")).status == 401
    assert token["token"] not in str(await ApiToken.all().values())


@pytest.mark.both_databases
async def test_the_list_of_tokens_is_paged(work):
    async with work.api() as api:
        for number in range(3):
            work.clock.ahead = number
            await api.post("people/admin/tokens", json={"label": f"Lab {number}"})
        whole = (await api.get("people/admin/tokens")).json
        assert [token["label"] for token in whole] == ["Lab 2", "Lab 1", "Lab 0", "test"]
        seen, path = [], "people/admin/tokens?limit=3"
        while path:
            answer = await api.get(path)
            seen += answer.json
            path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
        assert seen == whole
        refused = await api.get("people/admin/tokens?cursor=nonsense")
        assert (refused.status, refused.json["field"]) == (400, "cursor")


async def test_a_usual_token_is_no_admins_whoever_it_belongs_to(work):
    async with work.api() as api:
        token = (await api.post("people/admin/tokens", json={"label": "Careful"})).json["token"]
        async with work.api(token) as careful:
            assert (await careful.get("whoami")).json["admin"] is False
            for path in ("keys", "people"):
                assert (await careful.get(path)).status == 403
            assert (await careful.post("people/admin/tokens", json={"label": "x"})).status == 403
            assert (await careful.get("instances")).status == 200
        await work.person("max")
        refused = await api.post("people/max/tokens", json={"label": "x", "scopes": ["admin"]})
        assert (refused.status, refused.json["field"]) == (400, "scopes")


async def test_revoking(work):
    token = await work.person("max")
    async with work.api(token) as mine, work.api() as api:
        other = (await api.post("people/max/tokens", json={"label": "Lab"})).json
        assert (await mine.post("people/max/tokens/nothing/revoke")).status == 404
        left = (await mine.post(f"people/max/tokens/{other['id']}/revoke")).json
        assert [one["label"] for one in left] == ["test"]
        async with work.api(other["token"]) as gone:
            assert (await gone.get("whoami")).status == 401
        assert (await api.post("people/max/tokens/test/revoke")).json == []
        assert (await mine.get("whoami")).status == 401


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "label"),
        ({"label": ""}, 400, "label"),
        ({"label": "a\u202eb"}, 400, "label"),
        ({"label": "x", "days": 0}, 400, "days"),
        ({"label": "x", "days": 367}, 400, "days"),
        ({"label": "x", "days": 1.5}, 400, "days"),
        ({"label": "x", "scopes": ["root"]}, 400, "scopes[0]"),
        ({"label": "test"}, 409, None),
    ],
)
async def test_bad_tokens_are_refused(work, body, status, field):
    async with work.api() as api:
        refused = await api.post("people/admin/tokens", json=body)
        assert (refused.status, refused.json.get("field")) == (status, field)


async def test_a_revoked_tokens_stream_ends(work):
    token = await work.person("max")
    async with work.api(token) as mine, work.api() as api:
        made = (await mine.post("instances", json={"image": "jupyterlab"})).json["id"]
        url = f"{mine.url}instances/{made}/events"
        async with mine.session.get(url, headers=mine.headers) as response:
            await response.content.readline()
            await api.post("people/max/tokens/test/revoke")
            async with asyncio.timeout(5):
                await response.read()


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Basic x", "Bearer \udcff", "Bearer a b"])
async def test_what_is_no_token(work, value):
    async with work.api() as api:
        answer = await api.get("whoami", headers={"Authorization": value})
        assert answer.status == 401, answer.text


async def test_the_command_by_the_api(work, monkeypatch):
    await work.person("max")
    monkeypatch.setenv("DIT4C_TOKEN", work.token)

    async def dit4c(*arguments):
        printed, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
            status = await asyncio.to_thread(main, ["token", *arguments, "--portal", work.url])
        return status, printed.getvalue(), complained.getvalue()

    status, text, _ = await dit4c("create", "max", "--label", "From afar", "--days", "3")
    assert status == 0
    async with work.api(text.strip()) as mine:
        assert (await mine.get("whoami")).json["id"] == "max"
    status, text, _ = await dit4c("list", "max")
    assert "From afar" in text
    assert (await dit4c("revoke", "max", "From afar"))[0] == 0
    assert "From afar" not in (await dit4c("list", "max"))[1]
    status, _, complaint = await dit4c("create", "nobody", "--label", "x")
    assert (status, complaint.count("\n")) == (1, 1)
    assert "no such person" in complaint
