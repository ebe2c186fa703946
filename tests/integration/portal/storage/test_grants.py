"""What file servers are told: whose files, for whom, and that a grant has changed."""

import asyncio

import pytest
from systems.portal import Client, running_instance
from systems.portal_storage import GrantStream, StorageAtWork

from dit4c_p2p.database import in_transaction
from dit4c_p2p.messages.grants import FolderGrant, TreeQuota
from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.models import Instance

GIB = 1024**3


@pytest.fixture
async def work(tmp_path, engine):
    """A portal with two file servers enrolled, on each kind of database."""
    async with StorageAtWork(tmp_path) as work:
        yield work


async def instance_of(work, person):
    """An instance of a person's on node-main, without a scheduler."""
    token = await work.person(person)
    async with work.api(token) as api:
        made = (await api.post("instances", json={"image": "jupyterlab"})).json
    await Instance.filter(id=made["id"]).update(node="node-main")
    return made["id"]


async def group(work, id, **members):
    """A group; ``members`` are "read", "write" or "manage"."""
    async with work.api() as api:
        made = await api.post("groups", json={"title": id.title(), "id": id})
        assert made.status == 201, made.text
        for person, right in members.items():
            body = {"person": person, "write": right != "read", "manage": right == "manage"}
            put = await api.post(f"groups/{id}/members", json=body)
            assert put.status == 200, put.text


@pytest.mark.both_databases
async def test_an_instance_sees_its_persons_files_its_own_and_the_groups(work):
    id = await instance_of(work, "ada")
    await work.person("eve")
    await group(work, "lab", ada="write")
    await group(work, "course", ada="read")
    await group(work, "others", eve="write")
    async with work.file_server() as server:
        grants = await server.grants("instance", id)
        assert grants.peer == f"instance-{id}"
        assert grants.folders == [
            FolderGrant(path="instance", tree="user-ada", folder=f"instances/{id}", write=True),
            FolderGrant(path="private", tree="user-ada", folder="private", write=True),
            FolderGrant(path="shared/course", tree="group-course", folder="", write=False),
            FolderGrant(path="shared/lab", tree="group-lab", folder="", write=True),
        ]
        assert {quota.tree: quota.bytes for quota in grants.quotas} == {
            "user-ada": 50 * GIB,
            "group-course": 200 * GIB,
            "group-lab": 200 * GIB,
        }
        assert grants.delete_after is None
        creator = await server.ask(f"/instances/{id}/creator")
        assert creator.json == {"instance": f"instance-{id}", "user": "user-ada"}


async def test_a_person_sees_their_files_all_their_instances_and_the_groups(work):
    id = await instance_of(work, "ada")
    await group(work, "lab", ada="read")
    async with work.file_server() as server:
        assert await server.folders("user", "ada") == {
            "private": True,
            f"instances/{id}": True,
            "shared/lab": False,
        }
        assert await server.folders("user", "admin") == {"private": True}


async def test_a_server_is_told_of_its_own_trees_only(work):
    id = await instance_of(work, "ada")
    await group(work, "lab", ada="write")
    async with (
        work.api() as api,
        work.file_server("fileserver-first") as first,
        work.file_server("fileserver-second") as second,
    ):
        for path in ("creator", "grants"):
            assert (await second.ask(f"/instances/{id}/{path}")).status == 404
        assert await second.folders("user", "ada") == {}
        moved = await api.request("PATCH", "groups/lab/storage", json={"server": "second"})
        assert moved.json["server"] == "second"
        assert await second.folders("instance", id) == {"shared/lab": True}
        assert await second.folders("user", "ada") == {"shared/lab": True}
        assert set(await first.folders("instance", id)) == {"instance", "private"}
        assert (await second.grants("instance", id)).quotas == [
            TreeQuota(tree="group-lab", bytes=200 * GIB)
        ]
        unknown = await api.request("PATCH", "groups/lab/storage", json={"server": "third"})
        assert (unknown.status, unknown.json["field"]) == (400, "server")


@pytest.mark.parametrize("path", ["/instances/{id}/creator", "/instances/{id}/grants",
                                  "/users/ada/grants", "/grants/events"])  # fmt: skip
async def test_grants_are_for_file_servers_only(work, path):
    id = await instance_of(work, "ada")
    async with Client(work.url) as web:
        path = path.replace("{id}", id)
        assert (await web.get(path)).status == 401
        for name in ("router-main", "scheduler-main", "node-main"):
            headers = {"Authorization": f"Bearer {work.jwt(name)}"}
            assert (await web.get(path, headers=headers)).status == 403
        person = {"Authorization": f"Bearer {work.token}"}
        assert (await web.get(path, headers=person)).status == 401


async def test_unknown_ids_are_404(work):
    async with work.file_server() as server:
        for path in ("/instances/nope/grants", "/instances/nope/creator", "/users/nope/grants"):
            assert (await server.ask(path)).status == 404


async def test_a_discarded_instance_sees_nothing_and_its_folder_is_kept_for_a_month(work):
    async with work.scheduler() as scheduler, work.file_server() as server:
        id, _ = await running_instance(work, scheduler)
        assert "instance" in await server.folders("instance", id)
        await scheduler.report(id, State.DISCARDED)
        grants = await server.grants("instance", id)
        assert grants.folders == []
        assert grants.delete_after == pytest.approx(work.clock() + 30 * 24 * 3600, abs=60)
        assert f"instances/{id}" in await server.folders("user", "admin")
        work.clock.ahead = 31 * 24 * 3600
        assert f"instances/{id}" not in await server.folders("user", "admin")


async def test_a_closed_account_sees_nothing_and_its_instances_go_on(work):
    id = await instance_of(work, "ada")
    async with work.api() as api, work.file_server() as server:
        await api.request("PATCH", "people/ada", json={"disabled": True})
        assert await server.folders("user", "ada") == {}
        assert set(await server.folders("instance", id)) == {"instance", "private"}


async def test_an_account_with_an_end_says_when(work):
    await work.person("ada")
    async with work.api() as api, work.file_server() as server:
        assert (await server.grants("user", "ada")).ends_at is None
        await api.request("PATCH", "people/ada", json={"ends": "2090-01-01T00:00:00Z"})
        assert (await server.grants("user", "ada")).ends_at == 3786912000.0


async def test_changes_are_told_at_once(work):
    id = await instance_of(work, "ada")
    await group(work, "lab")
    async with work.api() as api, work.file_server() as server:
        async with GrantStream(server) as stream:

            async def told(*peers):
                event = await stream.event()
                assert (event.peers, event.all) == (sorted(peers), not peers)

            body = {"person": "ada", "write": True}
            await api.post("groups/lab/members", json=body)
            await told(f"instance-{id}", "user-ada")
            assert "shared/lab" in await server.folders("instance", id)
            await api.post("groups/lab/members/ada/remove")
            await told(f"instance-{id}", "user-ada")
            assert "shared/lab" not in await server.folders("instance", id)
            await api.request("PATCH", "people/ada", json={"disabled": True})
            await told("user-ada")
            await api.request("PATCH", "groups/lab", json={"closed": True})
            await told()
            await api.request("PATCH", "people/ada/storage", json={"quota_bytes": 5})
            await told()
            quotas = (await server.grants("instance", id)).quotas
            assert quotas == [TreeQuota(tree="user-ada", bytes=5)]


async def test_a_new_instance_and_its_end_are_told(work):
    async with work.file_server() as server, work.scheduler() as scheduler:
        async with GrantStream(server) as stream:
            id, _ = await running_instance(work, scheduler)
            mine = [f"instance-{id}", "user-admin"]
            assert (await stream.event()).peers == mine
            assert (await stream.event()).peers == mine, "its machine is known"
            await scheduler.report(id, State.DISCARDED)
            assert (await stream.event()).peers == mine


async def test_the_stream_ends_with_the_servers_key(work):
    async with work.api() as api, work.file_server() as server:
        async with GrantStream(server) as stream:
            keys = (await api.get("keys?kind=fileserver")).json
            (mine,) = [key for key in keys if key["id"] == "first"]
            await api.post(f"keys/{mine['fingerprint']}/revoke")
            await stream.ended()


async def test_a_listener_that_does_not_read_is_cut_off(work):
    events = work.portal._services.grant_events
    with events.listen("first") as queue:
        for number in range(queue.maxsize + 5):
            events.changed([f"user-u{number}"])
        frames = []
        async with asyncio.timeout(5):
            while (frame := await queue.get()) is not None:
                frames.append(frame)
        assert frames == []


@pytest.mark.both_databases
async def test_what_is_rolled_back_is_not_told(work):
    await work.person("ada")
    events = work.portal._services.grant_events
    with events.listen("first") as queue:
        queue.get_nowait()
        async with work.api() as api:
            await api.post("groups/nope/members", json={"person": "ada"})
        async with in_transaction("portal"):
            pass
        told = [queue.get_nowait() for _ in range(queue.qsize())]
        assert not [frame for frame in told if "ada" in frame]


async def test_config_json_lists_the_file_servers(work):
    async with Client(work.url) as web:
        public = (await web.get("/config.json")).json
    assert public["fileservers"] == [
        {"name": "fileserver-first", "url": "sftp://localhost:8023", "connect": []},
        {"name": "fileserver-second", "url": "sftp://files.example.org", "connect": []},
    ]
