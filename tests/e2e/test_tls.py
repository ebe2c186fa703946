"""By HTTPS from end to end: portal and instances under different parents, and under one.

security.md 2.17: siblings under one parent domain are same-site; exact Origin, ``__Host-``, no
``Domain=`` let through.
"""

import asyncio
import re

import pytest
from lib.notebook import run_a_cell
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright
from systems.all_in_one import log_in
from systems.tls_installation import Image, TlsHouse

pytestmark = pytest.mark.engine

_TRIES = 5
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--host-resolver-rules=MAP *.test 127.0.0.1"]

# Sets every sort of cookie that it should not, and says what it was told.
APP = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        parts = self.headers["Host"].partition(":")[0].split(".")
        body = json.dumps({k.lower(): v for k, v in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        for cookie in (
            "own=1; Path=/",
            "wide=1; Path=/; Domain=" + ".".join(parts[1:]),
            "wider=1; Path=/; domain=." + ".".join(parts[-2:]),
            "__Host-dit4c-instance=forged; Path=/; Secure",
            "__HOST-dit4c-instance=forged; Path=/; Secure",
        ):
            self.send_header("Set-Cookie", cookie)
        self.send_header("Strict-Transport-Security", "max-age=0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""


def make(folder, portal_host, user_domain, tools):
    house = TlsHouse(folder, portal_host, user_domain)
    house.write_portal(tools(house))
    house.write_peers(house.run("portal", "key", "--config", house.file("portal")))
    house.run("portal", "init", "--config", house.file("portal"))
    house.begin()
    return house


async def in_chromium(house, visit):
    """``visit(page)`` after a login; runs in a thread, for Playwright's own loop."""
    for _ in range(_TRIES):
        try:
            return await asyncio.to_thread(_in_chromium, house, house.login_link(), visit)
        except PlaywrightError as error:
            # Networks of other pods come and go on this machine, and Chromium starts anew then.
            if "ERR_NETWORK_CHANGED" not in str(error):
                raise
    raise AssertionError("the machine's networks never stay the same")


def _in_chromium(house, link, visit):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        # The authority is the test's own; that its certificates are right, Python checks.
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.goto(link)
        page.get_by_role("button", name=re.compile("log in", re.I)).click()
        page.wait_for_url(f"{house.url}/")
        try:
            return visit(page)
        finally:
            browser.close()


@pytest.mark.browser
async def test_different_parents_to_a_cell(tmp_path):
    """``portal.test`` and ``*.apps.example.test``, as an installation should be."""
    tools = ("images", "build", "--tools", "jupyterlab")
    house = await asyncio.to_thread(
        make, tmp_path, "portal.test", "apps.example.test", lambda house: house.run(*tools)
    )
    try:
        async with house.api() as api:
            instance = await api.start()
            running = await api.wait_for(instance, "running", url=True)
            assert running["url"] == house.user_url(instance)
            async with house.session(headers={"Accept": "text/html"}) as browser:
                await log_in(browser, house.login_link())
                async with browser.get(running["url"]) as page:
                    assert page.status == 200 and "JupyterLab" in await page.text()
                    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
                plain = f"http://{instance}.{house.user_domain}:{house.router_redirect}/lab?a=b"
                async with browser.get(plain, allow_redirects=False) as page:
                    assert page.status == 308
                    assert page.headers["Location"] == running["url"] + "lab?a=b"
                plain = f"http://{house.portal_host}:{house.portal_redirect}/"
                async with browser.get(plain) as page:
                    assert page.status == 200 and str(page.url) == f"{house.url}/"

            def a_cell(page):
                page.goto(running["url"])
                run_a_cell(page)

            await in_chromium(house, a_cell)
            await api.discard(instance)
    finally:
        await asyncio.to_thread(house.end)


# In a page of an instance: what its scripts may try with cookies, and with the portal's forms.
_SET = """([hosts, port]) => {
  const portal = "__Host-dit4c", instance = "__Host-dit4c-instance";
  for (const host of hosts)
    for (const name of [portal, `${portal}-${port}`, instance, "__Host-dit4c-login"])
      document.cookie = `${name}=forged; Domain=${host}; Path=/; Secure`;
  return document.cookie;
}"""
_POST = """async ([url, fields]) => {
  const frame = document.createElement("iframe");
  frame.name = "target";
  document.body.append(frame);
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: url, target: "target"});
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement("input");
    Object.assign(input, {type: "hidden", name, value});
    form.append(input);
  }
  document.body.append(form);
  form.submit();
  await fetch(url, {method: "POST", mode: "no-cors", credentials: "include", body: "x=1"})
    .catch(error => String(error));
}"""
_FETCH = """url => fetch(url, {credentials: "include"}).then(r => r.text(), e => "refused")"""
_SOCKET = """url => new Promise(done => {
  const socket = new WebSocket(url);
  socket.onopen = () => done("open");
  socket.onerror = () => done("refused");
})"""


@pytest.mark.browser
async def test_one_parent_for_portal_and_siblings(tmp_path):
    """``portal.example.test`` and ``*.apps.example.test``: all are same-site to a browser."""
    with Image(APP) as image:

        def tools(house):
            return f'[[tools]]\nname = "app"\ntitle = "App"\nimage = "{image}"\n'

        house = await asyncio.to_thread(
            make, tmp_path, "portal.example.test", "apps.example.test", tools
        )
        try:
            async with house.api() as api:
                ids = [await api.start("app") for _ in range(2)]
                one, two = [(await api.wait_for(id, "running", url=True))["url"] for id in ids]
                seen = await in_chromium(house, lambda page: _attack(house, page, one, two))
                _check(house, seen, one, two)
                for id in ids:
                    assert (await api.call("GET", f"instances/{id}"))["state"] == "running"
                    await api.discard(id)
        finally:
            await asyncio.to_thread(house.end)


def _attack(house, page, one, two):
    seen = {"answers": []}
    page.on(
        "response",
        lambda r: seen["answers"].append((r.request.method, r.url, r.status)),
    )
    page.goto(two)
    page.goto(one)
    answer = page.reload()  # its cookies are all there by now
    seen["headers"] = answer.headers
    seen["told"] = page.locator("body").inner_text()
    hosts = [house.portal_host, "example.test", house.user_domain, "test"]
    seen["script"] = page.evaluate(_SET, [hosts, house.portal_port])
    seen["cookies"] = page.context.cookies()
    id = one.removeprefix("https://").partition(".")[0]
    for url in (
        f"{house.url}/logout",
        f"{house.url}/instances/{id}/discard",
        f"{house.url}/instances",
        two,
        f"{two}.dit4c/logout",
    ):
        page.evaluate(_POST, [url, {"csrf": "x", "image": "app"}])
        page.wait_for_load_state("networkidle")
    for url in (f"{house.url}/", f"{house.url}/api/v1/instances", two):
        seen[url] = page.evaluate(_FETCH, url)
    wss = two.replace("https:", "wss:")
    seen["socket"] = page.evaluate(_SOCKET, wss)
    page.goto(two)
    seen["two still"] = page.locator("body").inner_text()
    page.goto(f"{house.url}/")
    seen["portal still"] = (page.url, page.locator("[data-instance]").count())
    return seen


def _check(house, seen, one, two):
    # What the app said: nothing for others, nothing of ours; and nothing of ours came to it.
    names = {(c["name"], c["domain"]) for c in seen["cookies"]}
    hosts = [url.removeprefix("https://").partition(":")[0] for url in (one, two)]
    assert not any(domain.startswith(".") for _, domain in names), names
    assert {domain for name, domain in names if name == "own"} == set(hosts)
    assert {domain for name, domain in names if name == "wide"} == set(hosts)
    values = [c["value"] for c in seen["cookies"]]
    assert "forged" not in values
    ours = {(n, d) for n, d in names if n.startswith("__Host-dit4c")}
    assert house.portal_host in {domain for _, domain in ours}
    assert {("__Host-dit4c-instance", host) for host in hosts} <= ours
    assert all(c["secure"] and c["httpOnly"] for c in seen["cookies"] if c["name"].startswith("__"))
    assert "__Host" not in seen["script"], "HttpOnly: no script reads them"
    assert "__Host" not in seen["told"] and "__HOST" not in seen["told"]
    assert seen["headers"]["strict-transport-security"] == "max-age=31536000"

    # What it asked for in its user's name.
    posts = [(url, status) for method, url, status in seen["answers"] if method == "POST"]
    asked = {url for url, _ in posts}
    assert {f"{house.url}/logout", two, f"{two}.dit4c/logout"} <= asked, asked
    assert all(status in (403, 404) for _, status in posts), posts
    for url in (f"{house.url}/", f"{house.url}/api/v1/instances", two):
        assert seen[url] == "refused", url
    assert seen["socket"] == "refused"
    assert "x-dit4c-user" in seen["two still"], "still logged in there"
    assert seen["portal still"] == (f"{house.url}/", 2), "still logged in, both are still there"
