"""A real portal and a real file server: keys, grants and the file page, end to end."""

import asyncio
import io
import os
import re
import zipfile
from urllib.parse import quote

import asyncssh
import pytest
from systems.all_in_one import free_ports
from systems.portal import Client
from systems.portal_storage import StorageAtWork

from dit4c_p2p.fileserver import FileServer, FileServerConfig
from dit4c_p2p.identity.keys import fingerprint, generate, public_line, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import FileServerInfo
from dit4c_p2p.portal.models import Instance

# Something taken away is gone within 5 s, and this machine may be busy.
GONE_S = 10


@pytest.fixture
async def site(tmp_path):
    """A portal, its file server, Ada with an SSH key and a browser."""

    class Site:
        pass

    site = Site()
    (port,) = free_ports(1)
    work = site.work = StorageAtWork(tmp_path)
    info = FileServerInfo(name="fileserver-first", url=f"sftp://127.0.0.1:{port}")
    work.with_config(fileservers=(info,))
    async with work:
        key = work.keys["fileserver-first"]
        server = FileServer(
            FileServerConfig(
                name=PeerName.parse("fileserver-first"),
                key=key,
                ssh=(("127.0.0.1", port),),
                portal=work.portal.info,
                data_folder=tmp_path / "data",
                files_folder=tmp_path / "trees",
            )
        )
        await server.start()
        try:
            for person in ("ada", "eve"):
                await work.person(person)
            async with work.browser() as browser, work.api() as api:
                await browser.log_in(await work.login_link("ada"))
                site.browser, site.api, site.csrf = browser, api, await browser.csrf()
                site.server, site.trees = server, tmp_path / "trees"
                site.key = generate()
                site.sftp = lambda person="ada", key=None: asyncssh.connect(
                    "127.0.0.1",
                    port,
                    username=f"user-{person}",
                    client_keys=[key or site.key],
                    known_hosts=([work.keys["fileserver-first"].convert_to_public()], [], []),
                    config=None,
                    agent_path=None,
                )
                yield site
        finally:
            await server.stop()


async def add_key(site, person="ada", key=None):
    line = public_line((key or site.key).convert_to_public(), "laptop")
    added = await site.api.post(f"people/{person}/ssh-keys", json={"line": line})
    assert added.status == 201, added.text


async def state_of(site, person="ada"):
    (key,) = (await site.api.get(f"people/{person}/ssh-keys")).json
    return key["state"]


async def gone(connection):
    """Wait until the file server has cut a connection."""
    async with asyncio.timeout(GONE_S):
        await connection.wait_closed()


async def put(site, to, data, folder="private"):
    headers = {
        "Origin": site.work.url,
        "X-CSRF-Token": site.csrf,
        "Accept": "application/json",
    }
    return await site.browser.request(
        "PUT", f"/files/upload/{folder}?to={quote(quote(to))}", data=data, headers=headers
    )


async def test_a_first_login_proves_a_key_and_removing_it_cuts_the_session(site):
    with pytest.raises(asyncssh.PermissionDenied):
        await site.sftp()
    await add_key(site, "eve")
    await add_key(site)
    assert await state_of(site) == "pending"
    async with await site.sftp() as connection:
        async with connection.start_sftp_client() as sftp:
            assert "private" in await sftp.listdir("/")
            assert await state_of(site) == "proved"
            assert (await site.api.get("people/eve/ssh-keys")).json == [], "Ada was first"
            print_ = fingerprint(site.key.convert_to_public())
            await site.api.post(f"people/ada/ssh-keys/{print_}/remove")
            await gone(connection)
    with pytest.raises(asyncssh.PermissionDenied):
        await site.sftp("eve")


async def test_the_file_page_and_sftp_show_the_same_files(site):
    await add_key(site)
    data = os.urandom(2_000_000)
    done = await put(site, "data/größe 1.bin", data)
    assert done.status == 201, done.text
    async with await site.sftp() as connection, connection.start_sftp_client() as sftp:
        async with sftp.open("/private/data/größe 1.bin", "rb") as file:
            assert await file.read() == data
        async with sftp.open("/private/data/from-sftp", "w") as file:
            await file.write("hello")
    page = await site.browser.get("/files/browse/private/data")
    assert "größe 1.bin" in page.text
    assert "from-sftp" in page.text
    answer = await site.browser.get("/files/download/private/data/from-sftp")
    assert answer.body == b"hello"
    whole = await site.browser.get("/files/download/private/data")
    archive = zipfile.ZipFile(io.BytesIO(whole.body))
    assert archive.testzip() is None
    assert archive.read("data/größe 1.bin") == data
    again = await put(site, "data/from-sftp", b"other")
    assert (again.status, "already" in again.json["detail"]) == (409, True)
    for fields in (
        {"do": "rename", "old": "from-sftp", "name": "renamed"},
        {"do": "mkdir", "name": "folder"},
    ):
        form = await site.browser.submit("/files/browse/private/data", csrf=site.csrf, **fields)
        assert form.status == 303, form.text
    form = await site.browser.submit(
        "/files/browse/private", csrf=site.csrf, do="delete", old="data"
    )
    assert form.status == 303, form.text
    async with await site.sftp() as connection, connection.start_sftp_client() as sftp:
        assert not await sftp.exists("/private/data")


async def test_stock_sftp_knows_the_server_by_the_portals_known_hosts(site, tmp_path):
    await add_key(site)
    async with Client(site.work.url) as web:
        (tmp_path / "known_hosts").write_bytes((await web.get("/known_hosts")).body)
    write_private(tmp_path / "key", site.key)
    page = (await site.browser.get("/account")).text
    host_key = site.work.keys["fileserver-first"].convert_to_public()
    assert host_key.get_fingerprint() in page
    command = re.search(r">(sftp [^<]+)</pre>", page)[1].split()
    options = {
        "UserKnownHostsFile": tmp_path / "known_hosts",
        "StrictHostKeyChecking": "yes",
        "IdentityFile": tmp_path / "key",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    sftp = await asyncio.create_subprocess_exec(
        *(command[0], *flags, "-b", "-", *command[1:]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        said, _ = await sftp.communicate(b"mkdir /private/by-sftp\nls /private\n")
    assert sftp.returncode == 0, said
    assert b"/private/by-sftp" in said


async def test_a_full_quota_is_said_in_words_and_leaves_nothing(site):
    await site.api.request("PATCH", "people/ada/storage", json={"quota_bytes": 1_000_000})
    refused = await put(site, "big", os.urandom(3_000_000))
    assert refused.status == 409
    assert "quota" in refused.json["detail"]
    assert 'data-name="big"' not in (await site.browser.get("/files/browse/private")).text
    assert (await put(site, "small", b"x" * 1000)).status == 201


async def test_a_group_is_shared_as_granted_and_taken_away_within_seconds(site):
    eve_key = generate()
    await add_key(site)
    await add_key(site, "eve", eve_key)
    await site.api.post("groups", json={"title": "Soil", "id": "soil"})
    for person, write in (("ada", True), ("eve", False)):
        body = {"person": person, "write": write}
        await site.api.post("groups/soil/members", json=body)
    assert (await put(site, "plan", b"v1", "shared/soil")).status == 201
    async with await site.sftp("eve", eve_key) as connection:
        async with connection.start_sftp_client() as sftp:
            async with sftp.open("/shared/soil/plan", "rb") as file:
                assert await file.read() == b"v1"
            with pytest.raises(asyncssh.SFTPError):
                async with sftp.open("/shared/soil/plan", "wb") as file:
                    await file.write(b"v2")
            await site.api.post("groups/soil/members/eve/remove")
            async with asyncio.timeout(GONE_S):
                while await sftp.exists("/shared/soil"):
                    await asyncio.sleep(0.05)
            with pytest.raises(asyncssh.SFTPError):
                await sftp.stat("/shared/soil/plan")


async def test_a_disabled_person_is_cut_off(site):
    await add_key(site)
    async with await site.sftp() as connection:
        async with connection.start_sftp_client() as sftp:
            await sftp.listdir("/")
            await site.api.request("PATCH", "people/ada", json={"disabled": True})
            await gone(connection)
    with pytest.raises(asyncssh.PermissionDenied):
        await site.sftp()


async def test_another_persons_files_are_not_there(site):
    eve_key = generate()
    await add_key(site, "eve", eve_key)
    await put(site, "secret", b"x")
    async with await site.sftp("eve", eve_key) as connection:
        async with connection.start_sftp_client() as sftp:
            for path in (
                "/private/secret",
                "/../user-ada/files/private/secret",
                "/user-ada",
                "/private/../../ada",
            ):
                assert not await sftp.exists(path)


async def test_what_was_lost_is_restored_from_a_snapshot_on_the_file_page(site):
    home = site.trees / "user-ada" / "files" / "private"
    assert (await put(site, "album/a.txt", b"first")).status == 201
    assert (await put(site, "album/big", b"x" * 3_000_000)).status == 201
    (home / "album" / "link").symlink_to("a.txt")
    (home / "album" / "a.txt").chmod(0o640)
    await site.server.housekeeping.round()
    await put(site, "new.txt", b"y" * 100_000)
    (home / "album" / "a.txt").write_bytes(b"spoiled")
    (home / "album" / "big").unlink()

    versions = (await site.browser.get("/files/earlier/private/album")).text
    (past,) = re.findall(r"/files/browse/(private/\.snapshots/[^/]+/album)", versions)
    assert "Restore" in (await site.browser.get(f"/files/browse/{past}")).text
    path = f"/files/restore/{past}"
    assert (await site.browser.submit(f"{path}/big", csrf=site.csrf)).status == 303
    assert (home / "album" / "big").stat().st_size == 3_000_000
    assert (await site.browser.submit(path, csrf=site.csrf)).status == 409
    assert (await site.browser.submit(path, csrf=site.csrf, replace="1")).status == 303
    assert (home / "album" / "a.txt").read_bytes() == b"first"
    assert (home / "album" / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (home / "album" / "link").readlink().name == "a.txt"
    assert sorted(one.name for one in home.iterdir()) == ["album", "new.txt"]


async def test_what_is_stored_is_shown_beside_the_quota(site):
    await site.api.request("PATCH", "people/ada/storage", json={"quota_bytes": 4 * 1024**2})
    await put(site, "half", b"x" * (2 * 1024**2))
    said = await site.browser.get("/files/usage", headers={"Accept": "application/json"})
    assert said.status == 200
    assert said.json["text"].endswith("of 4 MiB")
    assert 0.4 < said.json["fraction"] < 0.7
    assert "of 4 MiB used" in (await site.browser.get("/files")).text


async def test_a_discarded_instances_files_are_removed_after_their_time_and_no_others(site):
    async with site.work.api(await site.work.person("ada")) as api:
        old, new, live = [
            (await api.post("instances", json={"image": "jupyterlab"})).json["id"] for _ in range(3)
        ]
    for id in (old, new, live):
        assert (await put(site, "deep/file", b"x" * 50_000, f"instances/{id}")).status == 201
    instances = site.trees / "user-ada" / "files" / "instances"
    (instances / old / "link").symlink_to(instances / live)
    (instances / "unknown").mkdir()
    discarded = site.work.clock() - 31 * 24 * 3600
    await Instance.filter(id=old).update(state="discarded", changed_at=discarded)
    await Instance.filter(id=new).update(state="discarded", changed_at=site.work.clock())
    await site.server.expired.look()
    assert sorted(one.name for one in instances.iterdir()) == sorted([new, live, "unknown"])
    assert (instances / live / "deep" / "file").exists(), "links are not followed"
    await site.work.stop()
    await Instance.filter(id=new).update(changed_at=discarded)
    await Instance.filter(id=live).delete()
    await site.server.expired.look()
    assert (instances / live).exists(), "silence is no reason"
    await site.work.start()
    await site.server.expired.look()
    assert sorted(one.name for one in instances.iterdir()) == sorted([live, "unknown"])
