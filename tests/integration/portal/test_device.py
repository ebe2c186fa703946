"""Letting a program in by a code: RFC 8628, and what a stranger's code can't do."""

import pytest
from systems.portal import hidden_fields

from dit4c_p2p.portal.models import ApiToken, DeviceCode

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


async def begin(client, **more):
    form = {"client_id": "dit4c-cli", "name": "dit4c on laptop", **more}
    return await client.post("/oauth/device_authorization", data=form)


async def poll(work, client, begun, *, ahead_s=5.0):
    """Ask for the token, after a while."""
    work.clock.ahead += ahead_s
    form = {"grant_type": GRANT, "device_code": begun["device_code"], "client_id": "dit4c-cli"}
    return await client.post("/oauth/token", data=form)


async def logged_in(work, browser, person="admin"):
    await browser.log_in(await work.login_link(person))
    return hidden_fields((await browser.get("/account")).text)["csrf"]


async def decide(browser, csrf, begun, answer):
    return await browser.submit(
        "/device/decide", csrf=csrf, user_code=begun["user_code"], answer=answer
    )


@pytest.mark.both_databases
async def test_a_program_is_let_in_and_may_what_users_may(work):
    async with work.browser() as program, work.browser() as browser:
        begun = (await begin(program)).json
        assert begun["verification_uri"] == f"{work.url}/device"
        assert begun["interval"] == 5
        assert (await poll(work, program, begun)).json["error"] == "authorization_pending"
        csrf = await logged_in(work, browser)
        page = await browser.get(f"/device?user_code={begun['user_code']}")
        for words in (
            "dit4c on laptop", "127.0.0.1", begun["user_code"], "see your instances",
            "start, stop and discard", "not do anything that only admins may", "Then refuse",
        ):  # fmt: skip
            assert words in page.text, words
        done = await decide(browser, csrf, begun, "approve")
        assert (done.status, "Done: the program is in" in done.text) == (200, True)
        answer = await poll(work, program, begun)
        assert answer.status == 200, answer.text
        assert answer.json["token_type"] == "Bearer"
        assert answer.json["scope"] == "instances:read instances:write"
        async with work.api(answer.json["access_token"]) as api:
            assert (await api.get("whoami")).json["id"] == "admin"
            assert (await api.post("instances", json={"image": "jupyterlab"})).status == 201
            for path in ("people", "keys"):
                refused = await api.get(path)
                assert (refused.status, refused.json["code"]) == (403, "insufficient_scope")
        again = await poll(work, program, begun)
        assert (again.status, again.json["error"]) == (400, "expired_token")
        token = await ApiToken.get(label="dit4c on laptop")
        assert answer.json["access_token"] not in str(token.__dict__)
        assert token.expires_at is not None
        assert "dit4c on laptop" in (await browser.get("/account")).text


async def test_a_program_that_is_refused_gets_nothing(work):
    async with work.browser() as program, work.browser() as browser:
        begun = (await begin(program)).json
        csrf = await logged_in(work, browser)
        done = await decide(browser, csrf, begun, "deny")
        assert "Refused" in done.text
        assert (await poll(work, program, begun)).json["error"] == "access_denied"
        assert (await poll(work, program, begun)).json["error"] == "expired_token"
        assert (await decide(browser, csrf, begun, "approve")).status == 404


async def test_a_code_is_over_after_ten_minutes(work):
    async with work.browser() as program, work.browser() as browser:
        begun = (await begin(program)).json
        csrf = await logged_in(work, browser)
        work.clock.ahead += 601
        assert (await decide(browser, csrf, begun, "approve")).status == 404
        assert (await poll(work, program, begun)).json["error"] == "expired_token"


async def test_whoever_asks_too_often_is_slowed_down(work):
    async with work.browser() as program:
        begun = (await begin(program)).json
        assert (await poll(work, program, begun)).json["error"] == "authorization_pending"
        assert (await poll(work, program, begun, ahead_s=1)).json["error"] == "slow_down"
        assert (await poll(work, program, begun)).json["error"] == "authorization_pending"


async def test_no_admins_rights_by_a_code(work):
    async with work.browser() as program:
        for scope in ("admin", "instances:read admin", "everything"):
            answer = await begin(program, scope=scope)
            assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
        only = (await begin(program, scope="instances:read")).json
        assert await DeviceCode.all().count() == 1
        async with work.browser() as browser:
            csrf = await logged_in(work, browser)
            page = await browser.get(f"/device?user_code={only['user_code']}")
            assert "start, stop" not in page.text.split("<main", 1)[1]
            await decide(browser, csrf, only, "approve")
        token = (await poll(work, program, only)).json["access_token"]
        async with work.api(token) as api:
            assert (await api.get("instances")).status == 200
            refused = await api.post("instances", json={"image": "jupyterlab"})
            assert (refused.status, refused.json["code"]) == (403, "insufficient_scope")


async def test_bad_requests_of_a_program(work):
    async with work.browser() as program:
        for form, error in (
            ({"client_id": "another"}, "invalid_client"),
            ({"name": ""}, "invalid_request"),
            ({"name": "a\u202eb"}, "invalid_request"),
        ):
            answer = await begin(program, **form)
            assert (answer.status, answer.json["error"]) == (400, error)
        for form, error in (
            ({"grant_type": GRANT}, "invalid_client"),
            ({"grant_type": GRANT, "client_id": "dit4c-cli"}, "expired_token"),
            ({"grant_type": GRANT, "client_id": "dit4c-cli", "device_code": "x"}, "expired_token"),
            ({"grant_type": GRANT, "client_id": "another", "device_code": "x"}, "invalid_client"),
        ):
            answer = await program.post("/oauth/token", data=form)
            assert (answer.status, answer.json["error"]) == (400, error)
        long = (await begin(program, name="x" * 500)).json
        assert long["user_code"]
        hostile = (await begin(program, name="<script>alert(1)</script>")).json
        async with work.browser() as browser:
            await logged_in(work, browser)
            page = await browser.get(f"/device?user_code={hostile['user_code']}")
            assert "<script>alert" not in page.text


async def test_the_page_is_for_whoever_is_logged_in_and_from_the_portal_only(work):
    async with work.browser() as program, work.browser() as browser:
        begun = (await begin(program)).json
        path = f"/device?user_code={begun['user_code']}"
        assert (await browser.get(path)).status == 401
        done = await browser.log_in(await work.login_link())
        assert path in done.text, "one lands where one was going"
        csrf = hidden_fields((await browser.get("/account")).text)["csrf"]
        assert (await decide(browser, "guess", begun, "approve")).status == 403
        evil = await browser.submit(
            "/device/decide",
            origin="http://evil.example",
            csrf=csrf,
            user_code=begun["user_code"],
            answer="approve",
        )
        assert evil.status == 403
        assert (await poll(work, program, begun)).json["error"] == "authorization_pending"
        assert (await decide(browser, csrf, begun, "")).status == 200, "anything else refuses"
        assert (await poll(work, program, begun)).json["error"] == "access_denied"


async def test_codes_can_not_be_guessed_and_are_read_as_typed(work):
    async with work.browser() as program, work.browser() as browser:
        begun = (await begin(program)).json
        csrf = await logged_in(work, browser)
        typed = begun["user_code"].lower().replace("-", " ")
        page = await browser.submit("/device", csrf=csrf, user_code=typed)
        assert "Let this program in?" in page.text
        for _ in range(10):
            wrong = await browser.submit("/device", csrf=csrf, user_code="BBBB-BBBB")
            assert wrong.status == 404
        stopped = await browser.submit("/device", csrf=csrf, user_code=typed)
        assert stopped.status == 429
        work.clock.ahead += 600
        later = (await begin(program)).json
        page = await browser.submit("/device", csrf=csrf, user_code=later["user_code"])
        assert page.status == 200


async def test_strangers_can_not_fill_it_up(work):
    async with work.browser() as program:
        answers = [await begin(program) for _ in range(21)]
        assert [answer.status for answer in answers] == [200] * 20 + [429]
        work.clock.ahead += 601
        assert (await begin(program)).status == 200


async def test_a_program_of_somebody_who_is_disabled_gets_nothing(work):
    await work.person("eve")
    async with work.browser() as program, work.browser() as browser, work.api() as api:
        begun = (await begin(program)).json
        await decide(browser, await logged_in(work, browser, "eve"), begun, "approve")
        await api.request("PATCH", "people/eve", json={"disabled": True})
        answer = await poll(work, program, begun)
        assert answer.status in (400, 409), answer.text
        assert "access_token" not in answer.text
