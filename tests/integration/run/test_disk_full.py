"""security.md section 5, disk full, at each component as a process: a clear error, nothing corrupt,
and on when there is room, without a restart where it runs already."""

import asyncio
import sqlite3

import aiohttp
import pytest
from systems.all_in_one import dit4c
from systems.four_processes import UP, House
from systems.pods import docker, drop_images, make_images
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.audit import verify

pytestmark = ONLY_ROOT

NO_ROOM = "No space left on device. Make room on its disk, and try again"
IMAGE = f"sha256:{'0' * 64}"
TOOL = """
[[tools]]
name = "tool"
title = "A tool"
description = "It does what is asked."
image = "{image}"
icon = "T"
"""


class FullHouse(House):
    """On loopback; one component has its data on a disk that can be filled."""

    def __init__(self, folder, disk):
        super().__init__(folder)
        self.disk = disk
        self.write(
            "portal",
            f"""
url = "{self.url}"
listen = ["127.0.0.1:{self.portal_port}"]
user_url = "http://{{id}}.localhost:{self.router_port}/"
[[routers]]
id = "r1"
ssh = ["127.0.0.1:{self.ssh_port}"]
http = ["127.0.0.1:{self.router_port}"]
{TOOL.format(image=IMAGE)}""",
        )

    def write_peers(self, key):
        portal = f'[portal]\nurl = "{self.url}"\nkey = "{key}"\n'
        self.write("scheduler", f'nodes = ["home"]\n{portal}')
        self.write(
            "router",
            f'id = "r1"\nlisten = ["127.0.0.1:{self.router_port}"]\n'
            f'listen_ssh = ["127.0.0.1:{self.ssh_port}"]\n{portal}',
        )

    def key(self, kind):
        return self.run(kind, "key", "--config", self.file(kind))

    def begin(self):
        """The portal runs, and everybody's key is published."""
        self.write_peers(self.key("portal"))
        self.run("portal", "init", "--config", self.file("portal"))
        self.start("portal")
        self.wait_said("portal", UP)

    def refuses(self, kind):
        """What a component says that ends at once."""
        before = len(self.log(kind).read_text()) if self.log(kind).exists() else 0
        self.start(kind)
        assert self.ended(kind) == 1
        said = self.log(kind).read_text()[before:]
        assert "Traceback" not in said
        return said.splitlines()[-1]

    def is_sound(self, kind):
        """Its database, which no process has open."""
        connection = sqlite3.connect(self.data(kind) / f"{kind}.sqlite3")
        try:
            return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            connection.close()


@pytest.fixture
def house(tmp_path, request):
    """``request.param`` says whose disk is small."""
    with SmallDisk(tmp_path / request.param, size="4m") as disk:
        house = FullHouse(tmp_path, disk)
        yield house
        house.stop_all()
        for kind in ("portal", "scheduler", "router"):
            log = house.log(kind)
            assert not log.exists() or "Traceback" not in log.read_text()


def small(kind):
    return pytest.mark.parametrize("house", [kind], indirect=True)


async def until_refused(house):
    """Start instances until the portal refuses one as it should; those that it has started.

    A file may have room left that is its own already.
    """
    made = []
    headers = {"Authorization": f"Bearer {house.token}"}
    async with aiohttp.ClientSession(f"{house.url}/api/v1/", headers=headers) as session:
        while True:
            wanted = {"image": "tool", "name": "x" * 100}
            async with session.post("instances", json=wanted) as answer:
                body = await answer.json()
            if answer.status == 503:
                return made
            assert answer.status == 201, body
            made.append(body["id"])


async def listed(api):
    return sorted(one["id"] for one in await api.call("GET", "instances?limit=100"))


@small("portal")
async def test_a_portal_refuses_and_goes_on(house):
    house.begin()
    async with house.api() as api:
        before = await api.start("tool")
        house.disk.fill()
        made = [before, *await until_refused(house)]
        assert await listed(api) == sorted(made), "all of an instance, or nothing"
        house.disk.make_room()
        made.append(await api.start("tool"))
        assert await listed(api) == sorted(made)
    said = house.log("portal").read_text()
    assert "can't be written: instance.create" in said or "the database does not work" in said
    assert house.stop("portal") == 0
    assert house.is_sound("portal")
    verify(house.data("portal") / "audit.jsonl")

    house.disk.fill()
    assert "dit4c: no room for the portal's database" in house.refuses("portal")
    house.disk.make_room()
    house.start("portal")
    house.wait_said("portal", UP, times=2)
    async with house.api() as api:
        assert await listed(api) == sorted(made)


@small("portal")
def test_what_makes_a_portal_names_the_file(house):
    house.disk.fill(files=False)
    for command in ("key", "init"):
        done = dit4c("portal", command, "--config", house.file("portal"))
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert str(house.data("portal")) in done.stderr
        assert "Make room on its disk, and try again" in done.stderr
    house.disk.make_room()
    house.begin()


@small("scheduler")
async def test_a_schedulers_orders_wait_at_the_portal(house):
    house.begin()
    house.key("scheduler")
    house.disk.fill(files=False)
    assert "dit4c: no room for the scheduler's database" in house.refuses("scheduler")
    house.disk.make_room()
    house.start("scheduler")
    house.wait_said("scheduler", UP)
    house.enrol("scheduler", "main")
    house.wait_said("scheduler", "line to the portal is up")
    async with house.api() as api:
        house.disk.fill()
        made = []
        while "the scheduler's database does not work" not in house.log("scheduler").read_text():
            made.append(await api.start("tool"))
        house.disk.make_room()
        for instance in made:
            async with asyncio.timeout(60):
                while "machine" not in (await api.call("GET", f"instances/{instance}"))["info"]:
                    await asyncio.sleep(0.1)
    assert house.stop("scheduler") == 0
    assert house.is_sound("scheduler")


@small("router")
async def test_a_router_serves_without_its_copies(house):
    house.begin()
    house.disk.fill(files=False)
    assert (
        house.refuses("router") == f"dit4c: {house.data('router')}/key can't be written: {NO_ROOM}"
    )
    house.disk.make_room()
    house.key("router")
    house.disk.fill()
    house.start("router")
    house.wait_said("router", UP)
    house.enrol("router", "r1")
    house.wait_said("router", "key events are being heard")
    copy = house.data("router") / "installation.json"
    assert f"the copy of the portal's config.json can't be stored: {copy} can't be written" in (
        house.log("router").read_text()
    )
    house.start("scheduler")
    house.enrol("scheduler", "main")
    house.wait_said("router", "no copy of the keys of scheduler-main is kept")
    house.wait_said("router", "scheduler-main logged in")
    house.disk.make_room()
    assert not list(house.data("router").glob("**/*.partial"))
    assert house.stop("router") == 0
    house.restart("router")
    assert copy.exists()


@pytest.mark.engine
async def test_a_nodes_instance_lives_through_it(tmp_path):
    images = make_images()
    with SmallDisk(tmp_path / "node", size="512k") as disk:
        house = House(tmp_path)
        try:
            house.write_portal(TOOL.format(image=images.app))
            house.write_peers(house.run("portal", "key", "--config", house.file("portal")))
            helpers = "".join(
                f'{name} = "{id}"\n' for name, id in vars(images.helpers).items() if id
            )
            with house.file("node").open("a") as file:
                file.write(f"[images]\n{helpers}")
            house.run("portal", "init", "--config", house.file("portal"))
            for kind in ("portal", "router", "scheduler", "node"):
                house.start(kind)
            house.wait_said("portal", UP)
            for kind, id in (("router", "r1"), ("scheduler", "main"), ("node", "home")):
                await asyncio.to_thread(house.enrol, kind, id)
            house.wait_said("node", UP)
            async with house.api() as api:
                await lives_through_it(house, api, disk)
            assert "Traceback" not in house.log("node").read_text()
        finally:
            house.end()
            drop_images(images)


async def lives_through_it(house, api, disk):
    disk.fill()
    instance = await api.start("tool")
    said = "The disk of the machine it runs on is full. Its owner has to make room; trying again"
    async with asyncio.timeout(60):
        while (found := await api.call("GET", f"instances/{instance}"))["info"] != said:
            assert found["state"] != "errored", found
            await asyncio.sleep(0.05)
    place = f"{house.data('node')}/node/instances/{instance}/key can't be written: {NO_ROOM}"
    assert place in house.log("node").read_text()
    disk.make_room()
    await api.wait_for(instance, "running")
    disk.fill()
    docker("kill", f"dit4c-{instance}-app")
    found = await api.wait_for(instance, "errored")
    assert found["info"] == "The app was ended by force (SIGKILL)"
    await api.discard(instance)
