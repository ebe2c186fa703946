"""docs/install.md followed line by line, on three machines with names, TLS and a NAT between."""

import re
import shlex

import pytest
from playwright.sync_api import expect, sync_playwright
from support.guide import PAGE, sections
from support.machine import missing
from support.newcomer import CA, OFFLINE, Newcomer
from support.three_machines import ThreeMachines

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
        machines.home.run("dit4c down --data-dir /var/lib/dit4c-node", check=False)


def follow(machines: ThreeMachines) -> str:
    """All steps up to 8; the link that logs the first admin in."""
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
    return link


def test_from_empty_machines_to_a_cell(machines, tmp_path, shots):
    link = follow(machines)
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
        lab.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
        lab.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
        idle = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
        lab.locator(idle).wait_for(state="attached")
        lab.keyboard.type("sum(range(1000)) * 7")
        lab.keyboard.press("Shift+Enter")
        output = lab.locator(".jp-OutputArea-output").first
        expect(output).to_have_text(re.compile(r"^\s*3496500\s*$"))
        lab.screenshot(path=shots / "install-cell.png")

        row.locator('[data-action="discard"]').click()
        page.locator('dialog[open] [data-action="confirm-discard"]').click()
        expect(page.locator("[data-instance]")).to_have_count(0, timeout=60_000)
        context.close()
    look_at_the_machines(machines)


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
