"""OAuth through the whole auth helper, its sessions, and what a silent portal means."""

import asyncio
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from systems.auth_helper import ORIGIN

from dit4c_p2p.helpers.auth import login as login_module
from dit4c_p2p.helpers.auth.login import InstanceLogin, LoginFailed, LoginLost
from dit4c_p2p.helpers.auth.oauth import _json_of_oauth_body
from dit4c_p2p.helpers.auth.sessions import MAX_LIFETIME_S, MAX_SESSIONS, AppSessions


async def begin(house, path="/"):
    browser = await house.browser()
    reply = await browser.ask("GET", path, "Accept: text/html")
    assert reply.status == 303
    return browser, reply.head.get(b"location").decode()


async def come_back(browser, back):
    return await browser.ask("GET", back.removeprefix(ORIGIN), "Accept: text/html")


async def test_a_login_ends_where_it_began(house):
    browser = await house.login(path="/lab/tree/a%20b?reset#".rstrip("#"))
    await browser.ask("GET", "/")
    assert house.app.requests[-1].headers["X-DIT4C-User"] == "admin"


async def test_two_pages_opened_at_once_both_log_in(house):
    browser, first = await begin(house, "/a")
    reply = await browser.ask("GET", "/b", "Accept: text/html")
    second = reply.head.get(b"location").decode()
    assert first != second
    for location, path in ((first, "/a"), (second, "/b")):
        reply = await come_back(browser, house.portal.visit(location))
        assert (reply.status, reply.head.get(b"location")) == (303, f"{ORIGIN}{path}".encode())


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/.dit4c", "/a@evil"])
async def test_row_8_no_open_redirect(house, path):
    browser, location = await begin(house, path)
    reply = await come_back(browser, house.portal.visit(location))
    assert reply.head.get(b"location") == ORIGIN.encode() + path.encode()
    browser, location = await begin(house, "/" + "x" * 5000)
    reply = await come_back(browser, house.portal.visit(location))
    assert reply.head.get(b"location") == f"{ORIGIN}/".encode()


async def test_row_8_state_is_bound_to_the_browser(house):
    _, location = await begin(house)
    back = house.portal.visit(location)
    other, _ = await begin(house)
    reply = await come_back(other, back)  # to a login of its own
    assert reply.head.get(b"location").startswith(f"{house.portal.url}/oauth/authorize".encode())
    stranger = await house.browser()
    reply = await come_back(stranger, back)
    assert reply.status == 400 and b"Allow cookies" in reply.body
    assert len(house.server.sessions) == 0


async def test_row_8_codes_are_used_once(house):
    browser, location = await begin(house)
    cookies = dict(browser.jar)
    back = house.portal.visit(location)
    assert (await come_back(browser, back)).status == 303
    browser.jar = cookies
    assert (await come_back(browser, back)).status == 403
    assert len(house.server.sessions) == 1


async def test_tabs_that_a_browser_restores_all_arrive(house):
    """They ask before any answer has come: none of them sends a cookie."""
    jar, begun = {}, []
    for number in range(10):
        tab, location = await begin(house, f"/tab/{number}?x={'y' * 1000}")
        jar |= tab.jar
        begun.append((number, house.portal.visit(location)))
    browser = await house.browser()
    browser.jar = jar
    for number, back in reversed(begun):
        reply = await come_back(browser, back)
        expected = f"{ORIGIN}/tab/{number}?x={'y' * 1000}"
        assert (reply.status, reply.head.get(b"location")) == (303, expected.encode())
        await browser.renew()
        assert (await browser.ask("GET", "/")).status == 200
    names = [name for name in browser.jar if "login-" in name]
    assert len(names) == 10 and not any(browser.jar[name] for name in names), "taken away again"


async def test_attempts_of_one_browser_are_bounded(house):
    browser, given = await house.browser(), set()
    for number in range(login_module.MAX_ATTEMPTS + 10):
        reply = await browser.ask("GET", f"/{number}", "Accept: text/html")
        given |= {name for name in reply.cookies() if "login-" in name}
        browser.jar = {name: value for name, value in browser.jar.items() if value}
    assert len(given) == login_module.MAX_ATTEMPTS + 10
    assert sum("login-" in name for name in browser.jar) == login_module.MAX_ATTEMPTS
    back = house.portal.visit(reply.head.get(b"location").decode())
    assert (await come_back(browser, back)).head.get(b"location").endswith(f"/{number}".encode())


@pytest.mark.parametrize("why", ["cookie", "time"])
async def test_a_login_that_was_lost_begins_again_a_few_times(house, monkeypatch, why):
    browser, location = await begin(house, "/page")
    if why == "time":
        monkeypatch.setattr(login_module, "LIFETIME_S", -1)
    for tries in range(1, login_module.MAX_TRIES + 1):
        if why == "cookie":
            browser.jar = {name: value for name, value in browser.jar.items() if value == "1"}
        reply = await come_back(browser, house.portal.visit(location))
        if tries == login_module.MAX_TRIES:
            break
        assert reply.status == 303
        location = reply.head.get(b"location").decode()
    assert reply.status == 400
    monkeypatch.undo()
    await house.login(browser)


async def test_a_login_that_was_lost_goes_on_where_another_tab_has_logged_in(house):
    _, location = await begin(house, "/page")
    back = house.portal.visit(location)
    browser = await house.login()
    reply = await come_back(browser, back)
    assert (reply.status, reply.head.get(b"location")) == (303, f"{ORIGIN}/page".encode())
    assert len(house.server.sessions) == 1


def changed(back, **parameters):
    parts = urlsplit(back)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()} | parameters
    pairs = {key: value for key, value in query.items() if value is not None}
    return parts._replace(query=urlencode(pairs)).geturl()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"state": None}, 400),
        ({"state": "AAAA"}, 400),
        ({"state": "A" * 120}, 400),
        ({"state": "é"}, 400),
        ({"iss": None}, 400),
        ({"iss": "http://localhost:1"}, 400),
        ({"code": None}, 400),
        ({"code": "x" * 3000}, 400),
        ({"error": "access_denied"}, 400),
        ({"code": "wrong"}, 403),
        ({"code": None, "error": "access_denied"}, 403),
        ({"code": None, "error": "temporarily_unavailable"}, 503),
    ],
)
async def test_row_8_callbacks_that_are_not_the_portals(house, change, status):
    browser, location = await begin(house)
    reply = await come_back(browser, changed(house.portal.visit(location), **change))
    assert reply.status == status
    assert reply.head.get(b"content-type").startswith(b"text/html")
    assert len(house.server.sessions) == 0


async def test_row_8_doubled_parameters_are_refused(house):
    browser, location = await begin(house)
    reply = await come_back(browser, house.portal.visit(location) + "&code=x")
    assert reply.status == 400


def test_row_8_a_login_is_over_after_ten_minutes():
    now = [1_000_000.0]
    login = InstanceLogin(
        "https://portal.example", "instance-abc", "https://x/cb", clock=lambda: now[0]
    )
    begun = login.begin(b"/x")
    kept = {begun.cookie: begun.secret}
    query = parse_qs(urlsplit(begun.location).query)
    answer = urlencode({"state": query["state"][0], "code": "c", "iss": "https://portal.example"})
    now[0] += login_module.LIFETIME_S - 1
    answered = login.finish(answer, kept.get)
    assert (answered.code, answered.return_path) == ("c", b"/x")
    assert len(answered.verifier) == 43
    for lost in ({}, {begun.cookie: "x"}, {begun.cookie: "x" * 43}, {b"other": begun.secret}):
        with pytest.raises(LoginLost, match="browser"):
            login.finish(answer, lost.get)
    now[0] += 10
    with pytest.raises(LoginLost, match="too long"):
        login.finish(answer, kept.get)
    now[0] -= 10
    with pytest.raises(LoginFailed, match="began here"):
        InstanceLogin("https://portal.example", "instance-abc", "https://x/cb").finish(
            answer, kept.get
        )


async def test_section_5_portal_down_login_says_try_again(house):
    browser = await house.login()
    stranger, location = await begin(house)
    back = house.portal.visit(location)
    await house.portal.stop()
    house.server._oauth._look = None  # what was seen a moment ago is forgotten
    reply = await come_back(stranger, back)
    assert reply.status == 503 and b"Try again" in reply.body
    other = await house.browser()
    reply = await other.ask("GET", "/", "Accept: text/html")
    assert reply.status == 503 and b"Try again" in reply.body
    # A running session doesn't notice, not even when it is due to be asked about.
    for session in house.server.sessions._by_id.values():
        session.checked -= 100
    assert (await browser.ask("GET", "/")).status == 200
    await house.server.sessions.sweep()
    assert (await browser.ask("GET", "/")).status == 200
    await house.portal.start()
    house.server._oauth._look = None
    await house.login()


async def test_section_5_a_portal_that_answers_500_is_no_500_here(house):
    browser, location = await begin(house)
    back = house.portal.visit(location)
    house.portal.fail_with = 500
    assert (await come_back(browser, back)).status == 503


async def test_row_10_a_session_that_the_portal_ended_is_over(house):
    browser = await house.login()
    house.portal.active.clear()
    assert (await browser.ask("GET", "/")).status == 200  # asked about a moment ago
    for session in house.server.sessions._by_id.values():
        session.checked -= 60
    assert (await browser.ask("GET", "/")).status == 401
    assert house.portal.introspections == 1


async def test_row_10_what_an_ended_session_has_open_is_cut(raw_house):
    asked, cut = asyncio.Event(), asyncio.Event()

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        asked.set()
        await reader.read()
        cut.set()

    async with raw_house(script) as (house, _):
        browser = await house.login()
        browser.send("GET", "/stream")
        await browser.head()
        await asyncio.wait_for(asked.wait(), 5)
        house.portal.active.clear()
        for session in house.server.sessions._by_id.values():
            session.checked -= 45
        await house.server.sessions.sweep()
        async with asyncio.timeout(5):
            await cut.wait()
            try:
                rest = await browser.reader.read()
            except ConnectionError:
                rest = b""
        assert b"0\r\n\r\n" not in rest


# ---- sessions by themselves, on a clock of their own


class World:
    def __init__(self):
        self.now, self.answer, self.asked = 1000.0, True, []
        self.sessions = AppSessions(self.is_active, clock=lambda: self.now)

    async def is_active(self, token):
        self.asked.append(token)
        return self.answer


class Stream:
    was_cut = False

    def cut(self):
        self.was_cut = True


async def test_a_session_ends_with_its_token_and_after_12_hours():
    world = World()
    short, lifetime = world.sessions.start("ada", "t", 100)
    assert lifetime == 100
    long, lifetime = world.sessions.start("ada", "t", 10**6)
    assert lifetime == MAX_LIFETIME_S
    stream = Stream()
    world.sessions.find(short).open.add(stream)
    world.now += 100
    await world.sessions.sweep()
    assert stream.was_cut and world.sessions.find(short) is None
    assert world.sessions.find(long) is not None
    world.now += MAX_LIFETIME_S
    assert world.sessions.find(long) is None and len(world.sessions) == 0


async def test_sessions_in_use_are_asked_about_and_others_are_not():
    world = World()
    used, _ = world.sessions.start("ada", "used", 10**6)
    world.sessions.start("ada", "idle", 10**6)
    streaming, _ = world.sessions.start("ada", "streaming", 10**6)
    world.sessions.find(streaming).open.add(Stream())
    for _ in range(30):
        world.now += 5
        world.sessions.find(used)
        await world.sessions.sweep()
        assert world.sessions.is_fresh(world.sessions.find(used))  # no request ever waits
    assert world.asked.count("used") == world.asked.count("streaming") == 4
    assert world.asked.count("idle") == 1  # soon after it began


async def test_a_silent_portal_ends_nothing_and_is_not_asked_by_each():
    world = World()
    world.answer = None
    values = [world.sessions.start("ada", "t", 10**6)[0] for _ in range(50)]
    world.now += 70
    for value in values:
        assert await world.sessions.confirm(world.sessions.find(value))
    assert len(world.asked) == 1
    world.now += 45
    world.answer = False
    for value in values:
        session = world.sessions.find(value)
        assert session is None or not await world.sessions.confirm(session)
    assert len(world.sessions) == 0


async def test_section_5_portal_down_5_min_sessions_in_use_go_on():
    world = World()
    value, _ = world.sessions.start("ada", "t", 10**6)
    world.answer = None
    for _ in range(60):
        world.now += 5
        assert await world.sessions.confirm(world.sessions.find(value))
        await world.sessions.sweep()
    assert 1 <= len(world.asked) < 60, "it is asked again, and not by each request"
    world.answer = True
    world.now += 60
    assert await world.sessions.confirm(world.sessions.find(value))


async def test_asked_once_for_all_who_wait():
    world = World()
    value, _ = world.sessions.start("ada", "t", 10**6)
    world.now += 70
    session = world.sessions.find(value)
    answers = await asyncio.gather(*(world.sessions.confirm(session) for _ in range(20)))
    assert answers == [True] * 20 and len(world.asked) == 1


async def test_sessions_are_capped():
    world = World()
    values = []
    for _ in range(MAX_SESSIONS + 5):
        world.now += 1
        values.append(world.sessions.start("ada", "t", 10**6)[0])
    assert len(world.sessions) == MAX_SESSIONS
    assert world.sessions.find(values[4]) is None and world.sessions.find(values[5]) is not None


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"a":', b"[" * 60_000, b"9" * 60_000])
def test_an_answer_that_is_no_object_says_nothing(body):
    assert _json_of_oauth_body(body) == {}
