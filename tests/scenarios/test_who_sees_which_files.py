"""Two people, two instances each, one group, one machine lent by a third: who sees which files.

A real portal and a real file server; each peer logs in by SSH with its own key.
"""

import asyncio
import itertools

import asyncssh
import pytest
from systems.all_in_one import free_ports
from systems.portal_storage import StorageAtWork

from dit4c_p2p.fileserver import FileServer, FileServerConfig
from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.link import StartInstance
from dit4c_p2p.messages.public import FileServerInfo

PEOPLE = ("ada", "eve", "lender")
NODES = ("node-main", "node-lent")
GONE_S = 10


class Site:
    """Who there is: ``keys`` by peer name, ``instances`` by person and node."""

    def __init__(self, work, port):
        self.work = work
        self.port = port
        self.keys = {}
        self.instances = {}

    async def connect(self, name, key=None):
        return await asyncssh.connect(
            "127.0.0.1",
            self.port,
            username=name,
            client_keys=[key or self.keys[name]],
            known_hosts=([self.work.keys["fileserver-first"].convert_to_public()], [], []),
            config=None,
            agent_path=None,
        )

    async def sees(self, name):
        """The paths that a peer sees, each with whether it may write there."""
        found = {}
        async with await self.connect(name) as connection:
            async with connection.start_sftp_client() as sftp:
                for top in await sftp.listdir("/"):
                    if top in (".", ".."):
                        continue
                    below = (
                        await sftp.listdir(f"/{top}") if top in ("shared", "instances") else [""]
                    )
                    for folder in below:
                        if folder in (".", ".."):
                            continue
                        path = f"{top}/{folder}".rstrip("/")
                        found[path] = await may_write(sftp, f"/{path}")
        return found

    def instance(self, person, node):
        return f"instance-{self.instances[person, node]}"


async def may_write(sftp, folder):
    try:
        async with sftp.open(f"{folder}/probe", "w") as file:
            await file.write("x")
        await sftp.remove(f"{folder}/probe")
    except asyncssh.SFTPError:
        return False
    return True


@pytest.fixture
async def site(tmp_path):
    (port,) = free_ports(1)
    work = StorageAtWork(tmp_path)
    work.with_config(
        fileservers=(FileServerInfo(name="fileserver-first", url=f"sftp://127.0.0.1:{port}"),)
    )
    async with work, work.scheduler() as scheduler, work.api() as admin:
        site = Site(work, port)
        await work.enrol("node-lent")
        for person in PEOPLE:
            token = await work.person(person)
            key = site.keys[f"user-{person}"] = generate()
            line = public_line(key.convert_to_public())
            await admin.post(f"people/{person}/ssh-keys", json={"line": line})
            async with work.api(token) as api:
                for node in NODES:
                    made = await api.post("instances", json={"image": "jupyterlab"})
                    id = site.instances[person, node] = made.json["id"]
                    start = await scheduler.message(StartInstance)
                    site.keys[f"instance-{id}"] = await scheduler.allocate(start, node=node)
        await admin.request("PATCH", "nodes/lent", json={"owner": "lender"})
        await admin.post("groups", json={"title": "Soil", "id": "soil"})
        for person, write in (("ada", True), ("eve", False)):
            await admin.post("groups/soil/members", json={"person": person, "write": write})
        server = FileServer(
            FileServerConfig(
                name=PeerName.parse("fileserver-first"),
                key=work.keys["fileserver-first"],
                ssh=(("127.0.0.1", port),),
                portal=work.portal.info,
                data_folder=tmp_path / "data",
                files_folder=tmp_path / "trees",
            )
        )
        await server.start()
        try:
            yield site
        finally:
            await server.stop()


EVERYTHING = {
    "ada": {"instance": True, "private": True, "shared/soil": True},
    "eve": {"instance": True, "private": True, "shared/soil": False},
    "lender": {"instance": True, "private": True},
}


async def test_each_pair_of_a_peer_and_a_folder(site):
    for person, node in itertools.product(PEOPLE, NODES):
        lent = node == "node-lent" and person != "lender"
        expected = {"instance": True} if lent else EVERYTHING[person]
        assert await site.sees(site.instance(person, node)) == expected, (person, node)
    for person in PEOPLE:
        folders = {f"instances/{site.instances[person, node]}": True for node in NODES}
        shared = {path: w for path, w in EVERYTHING[person].items() if path != "instance"}
        assert await site.sees(f"user-{person}") == folders | shared, person


async def test_what_one_writes_another_reads_only_where_both_may(site):
    for peer in (site.instance("ada", "node-main"), site.instance("eve", "node-main")):
        async with await site.connect(peer) as connection:
            async with connection.start_sftp_client() as sftp:
                for folder in ("instance", "private"):
                    async with sftp.open(f"/{folder}/of-{peer}", "w") as file:
                        await file.write(peer)
    ada, eve = site.instance("ada", "node-main"), site.instance("eve", "node-main")
    async with await site.connect("user-ada") as connection:
        async with connection.start_sftp_client() as sftp:
            assert await sftp.exists(f"/private/of-{ada}")
            assert await sftp.exists(f"/instances/{ada.removeprefix('instance-')}/of-{ada}")
            assert not await sftp.exists(f"/private/of-{eve}")
            assert not await sftp.exists(f"/instances/{eve.removeprefix('instance-')}")
            async with sftp.open("/shared/soil/plan", "w") as file:
                await file.write("v1")
    async with await site.connect(eve) as connection:
        async with connection.start_sftp_client() as sftp:
            async with sftp.open("/shared/soil/plan") as file:
                assert await file.read() == "v1"
            with pytest.raises(asyncssh.SFTPError):
                await sftp.remove("/shared/soil/plan")
            with pytest.raises(asyncssh.SFTPError):
                await sftp.rename("/shared/soil/plan", "/private/plan")


async def test_consent_opens_the_lent_machine_for_one_person_and_is_taken_back(site):
    ada, eve = site.instance("ada", "node-lent"), site.instance("eve", "node-lent")
    async with site.work.api(await site.work.person("ada")) as api:
        given = await api.post("people/ada/consents", json={"owner": "lender"})
        assert given.status == 200, given.text
        assert await site.sees(ada) == EVERYTHING["ada"]
        assert await site.sees(eve) == {"instance": True}
        async with await site.connect(ada) as connection:
            async with connection.start_sftp_client() as sftp:
                await sftp.listdir("/private")
                await api.post("people/ada/consents/lender/withdraw")
                async with asyncio.timeout(GONE_S):
                    while await sftp.exists("/private"):
                        await asyncio.sleep(0.05)
                assert await sftp.exists("/instance")


async def test_a_key_is_good_for_its_own_name_only(site):
    ada, eve = site.instance("ada", "node-main"), site.instance("eve", "node-main")
    # Few: refusals slow an address down.
    for name, other in ((ada, eve), ("user-ada", ada), (ada, "user-lender")):
        with pytest.raises(asyncssh.PermissionDenied):
            await site.connect(name, site.keys[other])
    revoked = ada
    async with await site.connect(revoked) as connection, site.work.api() as admin:
        await admin.post(f"keys/{fingerprint(site.keys[revoked].convert_to_public())}/revoke")
        async with asyncio.timeout(GONE_S):
            await connection.wait_closed()
    with pytest.raises((asyncssh.PermissionDenied, asyncssh.ConnectionLost)):
        await site.connect(revoked)
