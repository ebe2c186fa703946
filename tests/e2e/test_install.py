"""docs/install.md followed line by line, on three machines with names, TLS and a NAT between."""

import json
import re
import shlex
import time
from typing import Any

import pytest
from lib.install_guide import PAGE, sections
from lib.install_steps import CA, OFFLINE, Newcomer
from lib.notebook import run_a_cell
from playwright.sync_api import expect, sync_playwright
from systems.machine import Machine, missing
from systems.three_machines import ThreeMachines

pytestmark = [
    pytest.mark.engine,
    pytest.mark.browser,
    pytest.mark.root,
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def machines(tmp_path):
    zone = sections()["DNS"].plain[0]
    with ThreeMachines(tmp_path, zone) as machines:
        for machine in (machines.portal, machines.router, machines.home):
            machine.environment.update(OFFLINE)
        yield machines
        for machine in (machines.portal, machines.router, machines.home):
            for log in sorted(machine.root.glob("var/log/*.log")):
                print(f"==== {machine.name}: {log.name}\n{log.read_text()[-4000:]}")
        machines.home.run("dit4c down --yes --data-dir /var/lib/dit4c-node", check=False)


def follow(machines: ThreeMachines) -> tuple[Newcomer, str]:
    """All steps up to 8; who has done it, and the link that logs the first admin in."""
    newcomer = Newcomer(machines, machines.portal)
    portal, router, home = machines.portal, machines.router, machines.home
    page = newcomer.page
    for machine in (portal, router, home):
        newcomer.type(machine, page["DNS"].commands)
        newcomer.install(machine)
    # Commands that speak to the portal have no file that names the authority.
    portal.environment["SSL_CERT_FILE"] = CA
    assert "SSL_CERT_FILE" in PAGE.read_text() and f'ca_file = "{CA}"' in PAGE.read_text()

    machines.issue(portal, "portal.example.org")
    newcomer.type(portal, page["Certificates"].commands)
    machines.issue(router, "*.example.net")
    newcomer.type(
        router,
        page["Certificates"].commands,
        **{
            "-d portal.example.org": "-d '*.example.net'",
            "dit4c-portal": "dit4c-router",
            "live/portal.example.org": "live/example.net",
        },
    )

    newcomer.edit(portal, "The portal", "/etc/dit4c/portal.toml")
    *before, key = page["The portal"].commands
    said = ""
    for one in before:
        said += newcomer.type(portal, [one])
    link = re.search(r"https://portal\.example\.org/login/\S+", said)[0]
    portal.wait_said("dit4c-portal", "portal-main is up")
    newcomer.portal_key = re.search("^ssh-ed25519 .*$", newcomer.type(portal, [key]), re.M)[0]

    newcomer.edit(router, "The routing server", "/etc/dit4c/router.toml")
    newcomer.type(router, page["The routing server"].commands)
    newcomer.publish(router, "router", "r1")

    newcomer.edit(portal, "The scheduler", "/etc/dit4c/scheduler.toml")
    newcomer.type(portal, page["The scheduler"].commands)
    newcomer.publish(portal, "scheduler", "main")

    docker, build, *start = page["The first node"].commands
    newcomer.type(home, [docker])
    machines.carry_images()
    printed = newcomer.type(home, [build])
    tools = printed[printed.index("[[tools]]") :].partition("Put these")[0]
    file = portal.root / "etc/dit4c/portal.toml"
    file.write_text(f"{file.read_text()}\n{tools}")
    portal.run("systemctl restart dit4c-portal")
    newcomer.edit(home, "The first node", "/etc/dit4c/node.toml")
    newcomer.type(home, start)
    newcomer.publish(home, "node", "home")
    return newcomer, link


def test_from_empty_machines_to_a_cell(machines, tmp_path, shots):
    newcomer, link = follow(machines)
    machines.trust_in_browser()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=machines.browser(tmp_path),
            headless=True,
            args=FLAGS,
            env={"HOME": "/root", "PATH": "/usr/bin:/bin:/usr/sbin"},
        )
        context.set_default_timeout(60_000)
        page = context.pages[0]
        page.goto(link)
        page.get_by_role("button", name=re.compile("log in", re.I)).click()
        page.wait_for_url("https://portal.example.org/")
        page.locator('[data-action="start"][data-image="jupyterlab"]').click()
        row = page.locator("[data-instance]").first
        expect(row).to_have_attribute("data-state", "running", timeout=60_000)
        url = row.locator('[data-action="open"]').get_attribute("href")
        assert re.fullmatch(r"https://[a-z][a-z0-9]+\.example\.net/", url)

        lab = context.new_page()
        lab.goto(url)
        run_a_cell(lab)
        lab.screenshot(path=shots / "install-cell.png")

        row.locator('[data-action="discard"]').click()
        page.locator('dialog[open] [data-action="confirm-discard"]').click()
        expect(page.locator("[data-instance]")).to_have_count(0, timeout=60_000)
        context.close()
    look_at_the_machines(machines)
    later(newcomer, machines)


def look_at_the_machines(machines: ThreeMachines) -> None:
    """What the page's table says of each: open ports; and who runs what."""
    opened = {}
    for machine in (machines.portal, machines.router, machines.home):
        listening = machine.run("ss -Hltn").splitlines()
        opened[machine.name] = {int(line.split()[3].rpartition(":")[2]) for line in listening}
    assert opened == {"portal": {80, 443}, "router": {80, 443, 8022}, "home": set()}
    for machine, kind in (
        (machines.portal, "portal"),
        (machines.portal, "scheduler"),
        (machines.router, "router"),
        (machines.home, "node"),
    ):
        who = machine.run(f"ps -o user:20= -C dit4c; stat -c '%U %a' /var/lib/dit4c-{kind}")
        assert {f"dit4c-{kind}", f"dit4c-{kind} 700"} <= set(who.splitlines()), who
        log = machine.run(shlex.join(["journalctl", "-u", f"dit4c-{kind}"]))
        assert "Traceback" not in log and "ERROR" not in log, log


class Api:
    """The portal's API, asked on the portal's own machine."""

    def __init__(self, portal: Machine, token: str) -> None:
        self._portal = portal
        self._token = token

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call; the decoded answer."""
        data = "None" if body is None else f"b{json.dumps(body)!r}"
        self._portal.write(
            "/root/call.py",
            f"""
import time, urllib.error
from urllib.request import Request, urlopen
headers = {{"Authorization": "Bearer {self._token}", "Content-Type": "application/json"}}
url = "https://portal.example.org/api/v1/{path}"
while True:
    try:
        print(urlopen(Request(url, {data}, headers, method="{method}"), timeout=30).read().decode())
        break
    except urllib.error.HTTPError:
        raise
    except OSError:
        time.sleep(0.1)  # it is being restarted
""",
        )
        return json.loads(self._portal.run("python3 /root/call.py"))

    def wait_for(self, instance: str, *states: str, timeout: float = 90) -> None:
        """Until the instance is in one of these states."""
        end = time.monotonic() + timeout
        while (found := self.call("GET", f"instances/{instance}"))["state"] not in states:
            assert time.monotonic() < end, found
            time.sleep(0.3)


def later(newcomer: Newcomer, machines: ThreeMachines) -> None:
    """What the page says of the time after: backup, upgrade, an end. An instance lives on."""
    portal, router, home = machines.portal, machines.router, machines.home
    backup, restore, upgrade, remove = newcomer.page["Later"].consoles
    token = "runuser -u dit4c-portal -- dit4c token {} --config /etc/dit4c/portal.toml"

    def restart_others() -> None:
        for machine, kind in ((router, "router"), (home, "node")):
            machine.run(f"systemctl restart dit4c-{kind}")

    api = Api(portal, portal.run(token.format("create admin --admin --label before")).strip())
    one = api.call("POST", "instances", {"image": "jupyterlab"})["id"]
    api.wait_for(one, "running")
    container = home.run("docker ps -q --filter label=dit4c.role=app").strip()

    newcomer.type(portal, backup)
    portal.run(token.format("create admin --label after"))
    newcomer.type(portal, restore)
    restart_others()
    assert "before" in portal.run(token.format("list admin"))
    assert "after" not in portal.run(token.format("list admin"))

    changed = machines.source / "dit4c_p2p/portal/__init__.py"
    changed.write_text(f'{changed.read_text()}\nRELEASE = "the next one"\n')
    newcomer.type(portal, upgrade)
    said = portal.run("/opt/dit4c/bin/python -c 'import dit4c_p2p.portal as p; print(p.RELEASE)'")
    assert said == "the next one\n"
    portal.run("systemctl restart dit4c-portal dit4c-scheduler")
    restart_others()
    api.wait_for(one, "running")
    assert home.run("docker ps -q --filter label=dit4c.role=app").strip() == container
    two = api.call("POST", "instances", {"image": "jupyterlab"})["id"]
    api.wait_for(two, "running")
    api.call("POST", f"instances/{two}/discard")
    api.wait_for(two, "discarded")

    (key,) = (key for key in api.call("GET", "keys") if key["name"] == "node-home")
    api.call("POST", f"keys/{key['fingerprint']}/revoke")
    newcomer.type(home, remove)
    assert home.run("docker ps -aq; docker network ls -q --filter label=dit4c.data-dir") == ""
