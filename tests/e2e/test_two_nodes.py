"""A person's files, from a tool on one node to a tool on another, and on the file page between."""

import asyncio
import re
import subprocess
import sys
import time

import pytest
from lib.notebook import run_a_cell
from playwright.sync_api import expect
from systems.all_in_one import free_ports
from systems.four_processes import UP, House, bridge
from systems.second_engine import SecondEngine

from dit4c_p2p.imagebuild import default_cache_folder, ensure_images
from dit4c_p2p.node.agent import remove_everything_of_node

pytestmark = [pytest.mark.engine, pytest.mark.browser, pytest.mark.root]

HELPERS = ("infra", "listener", "auth", "storage")
NOTE = "written in the lab"
# A first snapshot is made some seconds after the file server's start.
SNAPSHOT_S = 60


class TwoNodes(House):
    """A house with a file server and a second node, ``lab``, whose engine is its own."""

    def __init__(self, folder, engine, images):
        super().__init__(folder)
        self.engine, self.images = engine, images
        self.files_port, self._observed["files"], self._observed["lab"] = free_ports(3)
        folder.mkdir()

    def write_all(self):
        here = bridge()
        tools = "".join(
            f'[[tools]]\nname = "{one.name}"\ntitle = "{one.title}"\nimage = "{one.image}"\n'
            for one in self.images.catalogue
        )
        address = f"{here}:{self.files_port}"
        servers = f'[[fileservers]]\nid = "main"\nurl = "sftp://{address}"\n'
        self.write_portal(tools + servers)
        self.write_peers(self.run("portal", "key", "--config", self.file("portal")))
        self.write("scheduler", f'nodes = ["home", "lab"]\n{self.portal_table}')
        helpers = [f'{role} = "{getattr(self.images, role)}"' for role in HELPERS]
        table = "\n".join(["[images]", *helpers, ""])
        self.write("node", f'id = "home"\n{self.portal_table}{table}')
        pods = '[pods]\nnetwork_range = "10.219.0.0/16"\n'
        top = f'id = "lab"\nengine = "{self.engine.url}"\n'
        self.write_as("lab", "node", f"{top}{self.portal_table}{table}{pods}")
        listen = f'id = "main"\nlisten_ssh = ["{address}"]\n'
        self.write_as("files", "fileserver", listen + self.portal_table)

    def write_as(self, name, kind, text):
        self.write(name, text)
        written = self.file(name).read_text()
        self.file(name).write_text(written.replace(f'kind = "{name}"', f'kind = "{kind}"', 1))

    def start_as(self, name, kind):
        """Start a process whose file has another name than its kind."""
        with self.log(name).open("ab") as log:
            command = [sys.executable, "-m", "dit4c_p2p", kind, "run", "--config"]
            self.processes[name] = subprocess.Popen(
                [*command, str(self.file(name))], stdout=log, stderr=log
            )

    def enrol_as(self, name, kind, id):
        portal = ("--config", self.file("portal"))
        nonce = self.run("key", "challenge", kind, id, *portal)
        proof = self.run(kind, "prove", nonce, "--config", self.file(name))
        self.run("key", "add", kind, id, "--proof", proof, *portal)

    def end(self):
        try:
            self.stop_all()
        finally:
            asyncio.run(remove_everything_of_node(self.data("node")))
            asyncio.run(remove_everything_of_node(self.data("lab"), self.engine.url))


@pytest.fixture
def house(tmp_path_factory):
    """Everything but the second node runs."""
    folder = tmp_path_factory.mktemp("two")
    images = asyncio.run(
        ensure_images(lambda *said: None, default_cache_folder(), tools=("jupyterlab", "terminal"))
    )
    terminal = next(one.image for one in images.catalogue if one.name == "terminal")
    with SecondEngine(folder / "engine", size="3g", networks="10.219.") as engine:
        engine.copy(terminal, *(getattr(images, role) for role in HELPERS))
        house = TwoNodes(folder / "house", engine, images)
        house.write_all()
        house.run("portal", "init", "--config", house.file("portal"))
        try:
            house.start("portal")
            house.wait_said("portal", "portal-main is up")
            for name, kind, id in (
                ("router", "router", "r1"),
                ("scheduler", "scheduler", "main"),
                ("files", "fileserver", "main"),
                ("node", "node", "home"),
                ("lab", "node", "lab"),
            ):
                if name != "lab":
                    house.start_as(name, kind)
                house.enrol_as(name, kind, id)
            for name in ("router", "scheduler", "files", "node"):
                house.wait_said(name, UP)
            yield house
        finally:
            house.end()


def start(page, name, title):
    """Start a tool and open it in a page of its own; that page."""
    page.locator(f'[data-action="start"][data-image="{name}"]').click()
    row = page.locator("[data-instance]").filter(has_text=title)
    expect(row).to_have_attribute("data-state", "running", timeout=60_000)
    opening = row.locator('[data-action="open"]')
    expect(opening).to_be_visible(timeout=60_000)
    tool = page.context.new_page()
    tool.goto(opening.get_attribute("href"))
    return tool


def discard(page):
    page.locator('[data-action="discard"]').click()
    page.locator('dialog[open] [data-action="confirm-discard"]').click()
    expect(page.locator("[data-instance]")).to_have_count(0, timeout=60_000)


def snapshot_with(files, house, name):
    """Open the newest snapshot once it has a file; the link that restores the file."""
    link = files.get_by_role("link", name=f"Restore {name}")
    end = time.monotonic() + SNAPSHOT_S
    while True:
        files.goto(f"{house.url}/files/browse/private")
        files.get_by_role("link", name="Earlier versions").click()
        expect(files.get_by_role("heading", name="Earlier versions")).to_be_visible()
        newest = files.locator("main time").first
        if newest.is_visible():
            newest.click()
            files.wait_for_url("**/.snapshots/*")
            if link.is_visible():
                return link
        assert time.monotonic() < end, "there is no snapshot"
        files.wait_for_timeout(500)


def test_a_file_follows_its_person_to_another_node(house, page, tmp_path):
    page.goto(house.run("login-link", "admin", "--config", house.file("portal")))
    page.get_by_role("button", name=re.compile("log in", re.I)).click()
    page.wait_for_url(house.url + "/")

    lab = start(page, "jupyterlab", "JupyterLab")
    run_a_cell(lab, f"open('/mnt/private/note.txt', 'w').write('{NOTE}')", str(len(NOTE)))
    lab.close()
    discard(page)
    house.stop("node")
    house.stop("files")
    house.start_as("files", "fileserver")
    house.start_as("lab", "node")
    house.wait_said("lab", UP)
    house.wait_said("files", UP, times=2)

    terminal = start(page, "terminal", "Terminal")
    rows = terminal.locator(".xterm-rows")
    expect(rows.get_by_text("$").first).to_be_visible()
    terminal.keyboard.type("clear; cat /mnt/private/note.txt; echo .\n")
    expect(rows).to_contain_text(f"{NOTE}.")

    files = page.context.new_page()
    files.goto(f"{house.url}/files/browse/private")
    upload = tmp_path / "upload.txt"
    upload.write_text("from a laptop")
    files.get_by_label("Files", exact=True).set_input_files(str(upload))
    files.get_by_role("button", name="Upload").click()
    expect(files.get_by_role("link", name="upload.txt , file")).to_be_visible()
    terminal.keyboard.type("clear; cat /mnt/private/upload.txt; echo .\n")
    expect(rows).to_contain_text("from a laptop.")
    with files.expect_download() as download:
        files.get_by_role("link", name="note.txt , file").click()
    assert download.value.path().read_text() == NOTE

    kept = snapshot_with(files, house, "note.txt")
    terminal.keyboard.type("clear; cd /mnt/private; echo spoiled > note.txt; cat note.txt\n")
    expect(rows.get_by_text("spoiled", exact=True)).to_be_visible()
    kept.click()
    files.get_by_role("button", name="Replace").click()
    expect(files.get_by_role("link", name="note.txt , file")).to_be_visible()
    terminal.keyboard.type("clear; cat /mnt/private/note.txt; echo .\n")
    expect(rows).to_contain_text(f"{NOTE}.")
    discard(page)
