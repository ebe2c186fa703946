"""What security.md promises of the auth helper; each test is named after its row."""

import asyncio

import pytest
from lib.http_probes import CHUNKS, HEADS, SMUGGLED, Probe, Said, filled, head, read_all
from systems.auth_helper import HOST, ORIGIN

HIDDEN_LENGTH = Probe(
    "RFC 9110 7.6.1",
    head(b"Connection: content-length", b"Content-Length: 1", line=b"POST / HTTP/1.1"),
)


async def answers(browser) -> Said:
    """What is said until the end of the connection."""
    said, ended = await read_all(browser.reader, 10)
    return Said.of(said, ended)


async def test_section_4_heads_are_rejected(house):
    login = await house.login()
    cookie = "; ".join(f"{k}={v}" for k, v in login.jar.items()).encode()
    seen = len(house.app.requests)
    failed = {}
    for name, probe in {**HEADS, "hidden length": HIDDEN_LENGTH}.items():
        data = probe.to(HOST.encode()) + filled(SMUGGLED, HOST.encode())
        browser = await house.browser()
        browser.writer.write(data.replace(b"\r\nHost", b"\r\nCookie: " + cookie + b"\r\nHost"))
        said = await answers(browser)
        if not said.rejected or said.statuses not in ((), (probe.status,)):
            failed[name] = said.statuses
    assert failed == {}
    assert len(house.app.requests) == seen


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "when the app reads"])
async def test_section_4_chunks_are_rejected(house, begun):
    login = await house.login()
    failed = {}
    for name, (_, data) in CHUNKS.items():
        browser = await house.browser()
        browser.jar = dict(login.jar)
        seen = len(house.app.requests)
        browser.send("POST", "/", f"Origin: {ORIGIN}", "Transfer-Encoding: chunked")
        if begun:
            browser.writer.write(b"2\r\nab\r\n")
            async with asyncio.timeout(5):
                while len(house.app.requests) == seen:
                    await asyncio.sleep(0.01)
        browser.writer.write(data + filled(SMUGGLED, HOST.encode()))
        said = await answers(browser)
        if not said.rejected or said.statuses != (400,):
            failed[name] = said.statuses
    assert failed == {}
    assert all(request.path == "/" for request in house.app.requests)


async def test_row_anonymous_web_no_byte_reaches_an_app_before_its_user_is_known(house):
    browser = await house.browser()
    for method, accept, status in (
        ("GET", "text/html", 303),
        ("GET", "*/*", 401),
        ("HEAD", "text/html", 401),
        ("OPTIONS", "*/*", 401),
    ):
        assert (await browser.ask(method, "/", f"Accept: {accept}")).status == status
    browser.jar.clear()
    for cookie in ("x", "", "a" * 4000, "\udcff"):
        fields = [f"Cookie: __Host-dit4c-instance={cookie}".encode("utf-8", "replace").decode()]
        assert (await browser.ask("GET", "/", *fields)).status == 401
    reply = await browser.ask("POST", "/", body=b"x")
    assert reply.status == 401
    assert reply.head.get(b"content-type") == b"application/problem+json"
    assert house.app.requests == []


async def test_row_9_wrong_host_on_a_live_connection_gets_421(house):
    browser = await house.login()
    assert (await browser.ask("GET", "/")).status == 200
    for host in ("abc.localhost", "other.localhost:8081", f"{HOST}1", "127.0.0.1:8081"):
        again = await house.browser()
        again.jar = dict(browser.jar)
        assert (await again.ask("GET", "/")).status == 200
        assert (await again.ask("GET", "/", host=host)).status == 421
        assert await again.at_end()
    assert (await browser.ask("GET", "/", host=HOST.upper())).status == 200


async def test_row_9_forwarding_fields_are_stripped_and_set_anew(house):
    browser = await house.login()
    lies = [
        "Forwarded: for=1.1.1.1",
        "X-Forwarded-For: 1.1.1.1",
        "x-forwarded-host: evil",
        "X_Forwarded_Proto: https",
        "X_FORWARDED_FOR: 1.1.1.1",
        "X-Forwarded-User: root",
        "X_Forwarded-User: root",
        "X-Real-IP: 1.1.1.1",
        "X_Real_IP: 1.1.1.1",
        "X-Scheme: https",
        "X.Forwarded.For: 1.1.1.1",
        "X-Forwarded: for=1.1.1.1",
        "Forwarded-For: 1.1.1.1",
        "Forwarded_Host: evil",
        "X-Client-IP: 1.1.1.1",
        "X_Client.IP: 1.1.1.1",
        "True-Client-IP: 1.1.1.1",
        "X-Originating-IP: 1.1.1.1",
        "X-Remote-IP: 1.1.1.1",
        "X-Remote-Addr: 1.1.1.1",
        "X-Cluster-Client-IP: 1.1.1.1",
        "CF-Connecting-IP: 1.1.1.1",
        "X-Url-Scheme: https",
        "Front-End-Https: on",
        "X-Script-Name: /admin",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "Remote-User: root",
        "Remote_User: root",
        "X-Remote-User: root",
        "X-DIT4C-User: root",
        "X_Dit4c_User: root",
        "Content_Length: 7",
        "Content.Length: 7",
        "Proxy: http://evil",
        "TE: trailers",
        "Keep-Alive: timeout=5",
        "X-Hop: 1",
        "Connection: keep-alive, X-Hop, X-DIT4C-User",
    ]
    await browser.ask("GET", "/", *lies, "X-Kept: yes", "x_kept_too: yes")
    headers = house.app.requests[-1].headers
    assert {name: value for name, value in headers.items() if name not in ("Cookie",)} == {
        "Host": HOST,
        "X-Kept": "yes",
        "x_kept_too": "yes",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": HOST,
        "X-Real-IP": "203.0.113.7",
        "X-DIT4C-User": "admin",
    }


async def test_row_9_the_address_is_the_routers_word(house):
    browser = await house.login()
    for client, shown in (
        (("2001:db8::7", 1), "2001:db8::7"),
        (("::ffff:198.51.100.9", 1), "198.51.100.9"),
        (("", 0), None),
        (("some-name", 1), None),
    ):
        other = await house.browser(client)
        other.jar = dict(browser.jar)
        await other.ask("GET", "/", "X-Forwarded-For: 1.1.1.1")
        headers = house.app.requests[-1].headers
        assert headers.get("X-Forwarded-For") == headers.get("X-Real-IP") == shown
        assert "Forwarded" not in headers


async def test_row_10_the_session_cookie(house):
    browser = await house.browser()
    first = await browser.ask("GET", "/lab", "Accept: text/html")
    back = house.portal.visit(first.head.get(b"location").decode())
    reply = await browser.ask("GET", back.removeprefix(ORIGIN), "Accept: text/html")
    for answer, names in ((first, (b"login-", b"login=")), (reply, (b"instance=", b"login-"))):
        cookies = answer.head.get_all(b"set-cookie")
        assert len(cookies) == len(names)
        for cookie, name in zip(cookies, names, strict=True):
            assert cookie.startswith(b"__Host-dit4c-" + name)
            attributes = {part.strip() for part in cookie.split(b";")[1:]}
            assert {b"Path=/", b"Secure", b"HttpOnly", b"SameSite=Lax"} < attributes
            assert not any(part.lower().startswith(b"domain") for part in attributes)
    given = cookies[0].split(b"; ")
    max_age = next(part for part in given if part.startswith(b"Max-Age="))
    assert 0 < int(max_age.removeprefix(b"Max-Age=")) <= 12 * 3600
    assert answer.head.get(b"cache-control") == b"no-store"


async def test_row_10_our_cookies_never_reach_the_app(house):
    browser = await house.login()
    browser.jar = {"a": "1", **browser.jar, "b": "2"}
    await browser.ask("GET", "/", "Cookie: __host-dit4c-instance=x; c=3", "Cookie: d=4")
    seen = house.app.requests[-1].headers.getall("Cookie")
    assert seen == ["c=3", "d=4", "a=1; b=2"]
    browser.jar = {k: v for k, v in browser.jar.items() if k.startswith("__Host")}
    await browser.ask("GET", "/")
    assert "Cookie" not in house.app.requests[-1].headers


async def test_row_17_no_cookie_of_the_app_reaches_siblings_or_ours(raw_house):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
            b"Set-Cookie: a=1; Domain=localhost; Path=/\r\n"
            b"Set-Cookie: b=2; DOMAIN = .localhost\r\n"
            b"Set-Cookie: c=3; Path=/; HttpOnly\r\n"
            b"Set-Cookie: __Host-dit4c-instance=evil; Secure; Path=/\r\n"
            b"Set-Cookie: __HOST-DIT4C-login=evil; Secure; Path=/\r\n"
            b"Set-Cookie: =__Host-dit4c-instance=evil; Secure; Path=/\r\n"
            b"\r\n"
        )

    async with raw_house(script) as (house, _):
        browser = await house.login()
        reply = await browser.ask("GET", "/")
        assert reply.head.get_all(b"set-cookie") == [
            b"a=1; Path=/",
            b"b=2",
            b"c=3; Path=/; HttpOnly",
        ]


async def test_row_17_the_app_can_not_take_siblings_cookies_away(raw_house):
    """Of all hosts below a domain, for a browser that is told by one of them."""

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
            b'Clear-Site-Data: "cookies"\r\nclear-site-data: "*"\r\nX-Mine: 1\r\n\r\n'
        )

    async with raw_house(script) as (house, _):
        reply = await (await house.login()).ask("GET", "/")
        assert reply.head.get(b"clear-site-data") is None
        assert reply.head.get(b"x-mine") == b"1"


async def test_row_10_logout_ends_it(house):
    browser = await house.login()
    other = await house.login()
    reply = await browser.ask("GET", "/.dit4c/logout")
    assert (reply.status, reply.head.get(b"allow")) == (405, b"POST")
    reply = await browser.ask("POST", "/.dit4c/logout", "Origin: http://evil.localhost:8081")
    assert reply.status == 403
    assert len(house.server.sessions) == 2
    browser = await house.browser()
    browser.jar = dict(other.jar)
    reply = await browser.ask("POST", "/.dit4c/logout", f"Origin: {ORIGIN}")
    assert reply.status == 303 and reply.head.get(b"location").decode() == f"{house.portal.url}/"
    assert browser.jar["__Host-dit4c-instance"] == ""
    assert (await other.ask("GET", "/")).status == 401
    assert len(house.server.sessions) == 0


async def test_row_17_a_sibling_cannot_act_through_our_cookie(house):
    browser = await house.login()
    sibling = "http://other.localhost:8081"
    for fields in (
        [f"Origin: {sibling}"],
        [f"Origin: {sibling}", "Sec-Fetch-Site: same-site"],
        [f"Origin: {sibling}", "Sec-Fetch-Site: same-origin"],
        ["Origin: null"],
        ["Origin: null", "Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
        ["Sec-Fetch-Site: cross-site"],
        [f"Origin: {ORIGIN}", f"Origin: {sibling}"],
        [f"Origin: {ORIGIN}.evil"],
        ["Origin: https://abc.localhost:8081"],
    ):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            again = await house.browser()
            again.jar = dict(browser.jar)
            assert (await again.ask(method, "/", *fields)).status == 403, fields
    assert house.app.requests == []
    for fields in (
        [f"Origin: {sibling}", "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors"],
        ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"],
        [f"Origin: {sibling}"],
    ):
        assert (await browser.ask("GET", "/", *fields)).status == 403, fields
    assert house.app.requests == []
    for site in ("same-site", "cross-site", "none", "same-origin"):  # a link may be followed
        fields = [f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
        assert (await browser.ask("GET", "/", *fields)).status == 200
    for fields in (
        [f"Origin: {ORIGIN}"],
        [f"Origin: {ORIGIN}", "Sec-Fetch-Site: same-origin"],
        ["Origin: null", "Sec-Fetch-Site: same-origin"],
        ["Sec-Fetch-Site: same-origin"],
        [],
    ):
        for method in ("GET", "POST"):
            assert (await browser.ask(method, "/", *fields)).status == 200, fields


async def test_row_17_a_sibling_cannot_show_the_app_inside_its_own_page(house):
    browser = await house.login()
    for site in ("same-site", "cross-site"):
        for dest in ("iframe", "frame", "embed", "object", ""):
            fields = [f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate"]
            fields += [f"Sec-Fetch-Dest: {dest}"] if dest else []
            assert (await browser.ask("GET", "/", *fields)).status == 403, (site, dest)
    assert house.app.requests == []
    own = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"]
    assert (await browser.ask("GET", "/", *own)).status == 200, "the app may frame itself"


async def test_section_4_strangers_keep_no_connection(house):
    for method, path, fields, status in (
        ("GET", "/.dit4c/alive", (), 200),
        ("GET", "/.dit4c/none", (), 404),
        ("GET", "/.dit4c/logout", (), 405),
        ("GET", "/.dit4c/callback?code=x", (), 400),
        ("GET", "/", ("Accept: text/html",), 303),
        ("GET", "/", (), 401),
        ("GET", "/", ("Expect: x",), 417),
        ("POST", "/.dit4c/logout", ("Origin: http://other.localhost:8081",), 403),
    ):
        stranger = await house.browser()
        reply = await stranger.ask(method, path, *fields)
        assert reply.status == status
        assert reply.head.get(b"connection") == b"close", path
        assert await stranger.at_end()
    assert (await (await house.browser()).ask("GET", "/", host="x.localhost")).status == 421
    known = await house.login()
    assert (await known.ask("GET", "/")).head.keep_alive
    assert (await known.ask("GET", "/")).status == 200, "on the same connection"


async def test_headers_that_trickle_in_are_cut(house, monkeypatch):
    monkeypatch.setattr("dit4c_p2p.helpers.auth.connection.HEAD_LIMIT_S", 0.3)
    browser = await house.browser()
    browser.writer.write(b"GET / HTTP/1.1\r\n")
    async with asyncio.timeout(5):
        while not browser.reader._buffer:
            browser.writer.write(b"X: y\r\n")
            await asyncio.sleep(0.05)
    assert (await browser.reply()).status == 408
    silent = await house.browser()
    assert await silent.at_end()


async def test_only_our_own_pages_below_our_prefix(house):
    browser = await house.login()
    for path in ("/.dit4c/", "/.dit4c/x", "/.dit4c/alive/", "/.dit4c/callback/x"):
        assert (await browser.ask("GET", path)).status == 404
    assert house.app.requests == []
    stranger = await house.browser()
    reply = await stranger.ask("GET", "/.dit4c/alive?x=y")
    assert (reply.status, reply.body) == (200, b"alive\n")


async def test_pages_of_ours_are_locked_down(house):
    browser = await house.browser()
    reply = await browser.ask("POST", "/", "Accept: text/html", body=b"x")
    assert reply.status == 401
    policy = reply.head.get(b"content-security-policy")
    assert b"default-src 'none'" in policy and b"frame-ancestors 'none'" in policy
    assert reply.head.get(b"x-content-type-options") == b"nosniff"
    assert b"<script" not in reply.body
