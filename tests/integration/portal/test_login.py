"""Logging in and out; the rows of security.md on sessions, forms and links."""

import asyncio

import pytest
from systems.portal import Limits, hidden_fields

from dit4c_p2p.portal.models import LoginLink, Session


@pytest.mark.both_databases
async def test_a_link_logs_in_and_logging_out_ends_it(work):
    async with work.browser() as browser:
        assert (await browser.get("/")).status == 401
        done = await browser.log_in(await work.login_link())
        assert (done.status, done.location) == (303, "/")
        page = await browser.get("/")
        assert page.status == 200
        assert 'data-action="start" data-image="jupyterlab"' in page.text
        kept = dict(browser.cookies)
        out = await browser.submit("/logout", csrf=await browser.csrf())
        assert (out.status, out.location) == (303, "/")
        browser.cookies = kept  # as an attacker would who has copied them
        assert (await browser.get("/")).status == 401


async def test_row_10_session_cookie(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        (cookie,) = [
            line
            for line in browser.set_cookies
            if line.startswith(f"__Host-dit4c-{work.port}=") and "Max-Age=0" not in line
        ]
        for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age="):
            assert attribute in cookie
        assert "Domain" not in cookie
        value = browser.cookies[f"__Host-dit4c-{work.port}"]
        assert await Session.all().count() == 1
        assert value not in str(await Session.all().values())


async def test_row_10_session_has_an_end(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        work.clock.ahead = Limits().session_idle_s - 60
        assert (await browser.get("/")).status == 200
        work.clock.ahead += Limits().session_idle_s - 60
        assert (await browser.get("/")).status == 200, "using it keeps it"
        work.clock.ahead += Limits().session_idle_s + 60
        assert (await browser.get("/")).status == 401
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        began, step_s = work.clock.ahead, Limits().session_idle_s - 60
        while work.clock.ahead + step_s < began + Limits().session_s:
            work.clock.ahead += step_s
            assert (await browser.get("/")).status == 200
        work.clock.ahead = began + Limits().session_s + 1
        assert (await browser.get("/")).status == 401


def test_a_session_lasts_for_thirty_days_without_use_and_for_180_at_most():
    assert Limits().session_idle_s == 30 * 24 * 3600
    assert Limits().session_s == 180 * 24 * 3600
    assert Limits().access_token_s == 12 * 3600, "an instance asks again twice a day"


async def test_a_link_for_another_browser(work):
    await work.person("eve")
    async with work.browser() as one, work.browser() as two:
        await one.log_in(await work.login_link("eve"))
        csrf = hidden_fields((await one.get("/account")).text)["csrf"]
        assert (await one.submit("/account/login-link", csrf="guess")).status == 403
        page = await one.submit("/account/login-link", csrf=csrf)
        assert page.status == 200
        link = page.text.split('id="login-link"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
        assert link.startswith(f"{work.url}/login/")
        assert (await two.log_in(link)).status == 303
        assert "eve" in (await two.get("/account")).text
        assert (await one.get("/account")).status == 200, "both stay"
        assert (await two.get(link)).status == 410, "it works once"
    made = await LoginLink.filter(made_by="eve").get()
    assert made.expires_at - work.clock() <= 3600


async def test_logging_out_everywhere_ends_the_links_one_has_made(work):
    await work.person("eve")
    by_an_admin = await work.login_link("eve")
    async with work.browser() as one, work.browser() as two:
        await one.log_in(await work.login_link("eve"))
        csrf = hidden_fields((await one.get("/account")).text)["csrf"]
        page = await one.submit("/account/login-link", csrf=csrf)
        link = page.text.split('id="login-link"', 1)[1].split('value="', 1)[1].split('"', 1)[0]
        await one.submit("/logout", csrf=csrf, everywhere="1")
        assert (await two.get(link)).status == 410
        assert (await two.submit(link, origin=None)).status == 410
        assert (await two.log_in(by_an_admin)).status == 303


async def test_row_10_logout_everywhere_ends_other_browsers(work):
    async with work.browser() as one, work.browser() as two:
        await one.log_in(await work.login_link())
        await two.log_in(await work.login_link())
        await one.submit("/logout", csrf=await one.csrf(), everywhere="1")
        assert (await two.get("/")).status == 401


async def test_row_17_a_preview_does_not_spend_the_link(work):
    link = await work.login_link()
    async with work.browser() as preview, work.browser() as browser:
        for _ in range(3):
            seen = await preview.get(link)
            assert seen.status == 200
            assert seen.headers["Referrer-Policy"] == "no-referrer"
            assert seen.headers["Cache-Control"] == "no-store"
        assert (await preview.request("HEAD", link)).status == 200
        assert (await browser.log_in(link)).status == 303


@pytest.mark.both_databases
async def test_a_link_works_once_even_for_eight_at_once(work):
    link = await work.login_link()
    async with work.browser() as browser:
        answers = await asyncio.gather(*(browser.submit(link, origin=None) for _ in range(8)))
        assert sorted(answer.status for answer in answers) == [303, *[410] * 7]
        assert (await browser.get(link)).status == 410


async def test_a_link_ends_after_a_day_and_is_kept_as_a_digest(work):
    link = await work.login_link()
    assert link.rsplit("/", 1)[1] not in str(await LoginLink.all().values())
    work.clock.ahead = Limits().login_link_s + 1
    async with work.browser() as browser:
        page = await browser.get(link)
        assert (page.status, "no longer works" in page.text) == (410, True)
        assert (await browser.submit(link, origin=None)).status == 410


async def test_another_sites_form_cannot_log_a_browser_in(work):
    link = await work.login_link()
    async with work.browser() as browser:
        assert (await browser.submit(link, origin="http://evil.example")).status == 403
        # Origin: null, as a sandboxed frame of another site sends it, without having seen the page
        assert (await browser.submit(link, origin="null")).status == 403
        assert (await browser.submit(link, origin="null", visit="guess")).status == 403
        visit = hidden_fields((await browser.get(link)).text)["visit"]
        browser.cookies.clear()
        assert (await browser.submit(link, origin="null", visit=visit)).status == 403
        assert (await browser.log_in(link)).status == 303


async def test_a_link_that_is_open_in_two_tabs_logs_in_from_either(work):
    """Each page has a cookie of its own; the second took the place of the first's."""
    link = await work.login_link()
    async with work.browser() as browser:
        first = hidden_fields((await browser.get(link)).text)["visit"]
        second = hidden_fields((await browser.get(link)).text)["visit"]
        assert first != second
        answer = await browser.submit(link, origin="null", visit=first)
        assert answer.status == 303
        assert not [name for name, value in browser.cookies.items() if "login" in name and value]


@pytest.mark.parametrize(
    ("origin", "token"),
    [
        ("http://evil.example", True),
        ("null", True),
        (None, True),
        ("http://localhost", True),
        ("", False),
    ],
)
async def test_csrf_needs_the_exact_origin_and_the_sessions_token(work, origin, token):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf() if token else "guess"
        answer = await browser.submit("/start", origin=origin, csrf=csrf, image="jupyterlab")
        assert answer.status == 403
        assert "data-instance" not in (await browser.get("/")).text.split("<template", 1)[0]


async def test_csrf_token_of_another_session_is_refused(work):
    async with work.browser() as one, work.browser() as two:
        await one.log_in(await work.login_link())
        await two.log_in(await work.login_link())
        answer = await one.submit("/start", csrf=await two.csrf(), image="jupyterlab")
        assert answer.status == 403


@pytest.mark.parametrize(
    "after",
    [
        "//evil.example/oauth/authorize?x",
        "https://evil.example/oauth/authorize?x",
        "/\\evil.example",
        "/oauth/authorize/../../x?y",
        "javascript:alert(1)",
    ],
)
async def test_row_8_no_open_redirect_after_login(work, after):
    async with work.browser() as browser:
        browser.cookies[f"__Host-dit4c-after-{work.port}"] = after
        done = await browser.log_in(await work.login_link())
        assert (done.status, done.location) == (303, "/")


async def test_pages_carry_a_strict_policy(work):
    async with work.browser() as browser:
        for page in (
            await browser.get("/"),
            await browser.get(await work.login_link()),
            await browser.get("/nothing"),
        ):
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert page.headers["X-Content-Type-Options"] == "nosniff"
            assert "style=" not in page.text
            assert "<script>" not in page.text


async def test_pages_live_under_the_canonical_url_only(work):
    async with work.browser() as browser:
        for host, status in (
            ("evil.example", 421),
            (f"localhost:{work.port + 1}", 421),
            (f"127.0.0.1:{work.port}", 421),
            (f"localhost:{work.port}", 401),
        ):
            answer = await browser.get("/", headers={"Host": host})
            assert answer.status == status
            if status == 421:
                assert work.url in answer.text
        peers = await browser.get("/config.json", headers={"Host": f"127.0.0.1:{work.port}"})
        assert peers.status == 200


async def test_the_admins_page_does_not_exist_for_others(work):
    await work.person("other")
    async with work.browser() as browser:
        await browser.log_in(await work.login_link("other"))
        assert "/admin/keys" not in (await browser.get("/")).text
        nothing = await browser.get("/admin/nothing")
        assert (await browser.get("/admin/keys")).status == nothing.status == 404


async def test_revoking_by_the_page(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        page = await browser.get("/admin/keys")
        assert 'data-holder="node-main"' in page.text
        part = page.text.split('data-holder="node-main"')[1]
        path = part.split('data-action="revoke" href="', 1)[1].split('"', 1)[0]
        question = await browser.get(path)
        assert "node-main" in question.text
        done = await browser.submit(path, **hidden_fields(question.text.split("<main", 1)[1]))
        assert (done.status, done.location) == (303, "/admin/keys")
        held = await browser.get("/nodes/main/ssh-keys")
        assert len(held.text.splitlines()) == 1, "a signed, empty list"


async def test_discard_without_javascript(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        await browser.submit("/start", csrf=csrf, image="jupyterlab", name="<b>&")
        page = (await browser.get("/")).text
        assert "&lt;b&gt;&amp;" in page
        path = page.split('data-action="discard" href="', 1)[1].split('"', 1)[0]
        assert "Discard" in (await browser.get(path)).text
        assert (await browser.submit(path, csrf=csrf)).location == "/"
        assert "Discarding" in (await browser.get("/")).text


async def test_live_events_end_with_the_session(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        events = []
        first = asyncio.Event()

        async def follow():
            url = f"{work.url}/events"
            async with browser.session.get(url, headers={"Cookie": cookie}) as response:
                async for line in response.content:
                    if line.startswith(b"event:"):
                        events.append(line.decode().split()[1])
                        first.set()

        following = asyncio.create_task(follow())
        async with asyncio.timeout(10):
            await first.wait()
            await browser.submit("/start", csrf=csrf, image="jupyterlab")
            await browser.submit("/logout", csrf=csrf)
            await following
        assert events[0] == "all"
        assert events[-1] == "session"


async def test_stopping_is_quick_with_streams_open(work):
    async with work.browser() as browser:
        async with browser.session.get(f"{work.url}/keys/events") as response:
            await response.content.readline()
            async with asyncio.timeout(5):
                await work.stop()
    await work.start()
