"""What was saved: exported, shared, shown as a tree and deleted, at a real image server."""

import io
import json
import tarfile
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from systems.all_in_one import free_ports
from systems.pods import docker
from systems.portal import Client, PortalAtWork, running_instance

from dit4c_p2p.helpers.upload.push import manifest_of
from dit4c_p2p.helpers.upload.stream_upload import Blob
from dit4c_p2p.identity import sshsig, tokens
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.imageserver.app import ImageServer
from dit4c_p2p.imageserver.config import ImageServerConfig
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.image_access import RepositoryVerb, image_token_claims
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import SaveInstance, StartInstance
from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.messages.saved_images import IMAGE_NAMESPACE, ImageUploaded, image_statement
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.manifest import MediaType
from dit4c_p2p.oci.registry_client import NoSuchBlob, RegistryClient
from dit4c_p2p.portal.config import KnownImageServer
from dit4c_p2p.portal.models import ImageSave

SERVER = "imageserver-main"


@pytest.fixture
async def house(tmp_path):
    """A portal and its image server; both with an instance that is preserved."""
    (port,) = free_ports(1)
    info = ImageServerInfo(
        name=SERVER, url=f"http://localhost:{port}", connect=[f"127.0.0.1:{port}"]
    )
    work = PortalAtWork(tmp_path / "portal")
    work.config = replace(work.config, imageservers=(KnownImageServer(info),))
    async with work:
        await work.enrol(SERVER)
        server = ImageServer(
            ImageServerConfig(
                name=PeerName.parse(SERVER),
                key=work.keys[SERVER],
                url=info.url,
                portal=work.portal.info,
                data_folder=tmp_path / "images",
                addresses=(("127.0.0.1", port),),
            )
        )
        await server.start()
        try:
            async with work.scheduler() as scheduler, work.api() as api:
                made = SimpleNamespace(work=work, info=info, scheduler=scheduler, api=api)
                made.instance, made.digest = await preserved(made, "v1")
                yield made
        finally:
            await server.stop()


def layer(text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("note")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


async def preserved(house, text: str) -> tuple[str, str]:
    """An instance that was saved; its id and the image's digest."""
    work, scheduler = house.work, house.scheduler
    instance, key = await running_instance(work, scheduler)
    await house.api.post(f"instances/{instance}/save")
    save = (await scheduler.message(SaveInstance)).save
    name, repository = PeerName.parse(f"instance-{instance}"), f"instances/{instance}"

    def token(wanted: str) -> str:
        about = image_token_claims(wanted, (RepositoryVerb.PULL, RepositoryVerb.PUSH))
        return tokens.issue(key, name, SERVER, now=time.time(), claims=about)

    content = layer(text)
    blob = Blob(str(Digest.of(content)), len(content))
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": [blob.digest]},
        }
    ).encode()
    manifest = manifest_of(config, [blob])
    digest = str(Digest.of(manifest))
    async with RegistryClient(house.info.url, connect=house.info.connect, token=token) as client:
        await client.put_blob(repository, blob.digest, content)
        await client.put_blob(repository, str(Digest.of(config)), config)
        await client.put_manifest(repository, digest, manifest, MediaType.MANIFEST)
    statement = image_statement(repository, digest, save)
    body = ImageUploaded(
        save=save,
        digest=digest,
        manifest=manifest.decode(),
        signature=sshsig.sign(key, statement, IMAGE_NAMESPACE),
        layer_bytes=len(content),
    )
    async with Client(work.url) as plain:
        headers = {"Authorization": f"Bearer {work.jwt(str(name), key=key)}"}
        put = await plain.request("PUT", "/images/", data=encode(body), headers=headers)
        assert put.status == 200, put.text
    await scheduler.report(instance, State.UPLOADED, "Preserved")
    return instance, digest


async def test_an_export_is_what_docker_loads_and_can_be_resumed(house):
    path = f"instances/{house.instance}/export"
    whole = await house.api.get(path)
    assert (whole.status, whole.headers["Content-Type"]) == (200, "application/x-tar")
    archive = whole.body
    assert int(whole.headers["Content-Length"]) == len(archive)
    tag = whole.headers["ETag"]
    for start, end in ((0, 99), (700, 5000), (len(archive) - 10, "")):
        part = await house.api.get(path, headers={"Range": f"bytes={start}-{end}"})
        last = len(archive) - 1 if end == "" else end
        assert part.status == 206
        assert part.body == archive[start : last + 1]
        assert part.headers["Content-Range"] == f"bytes {start}-{last}/{len(archive)}"
    changed = await house.api.get(path, headers={"Range": "bytes=5-9", "If-Range": '"other"'})
    assert (changed.status, changed.body) == (200, archive)
    same = await house.api.get(path, headers={"Range": "bytes=5-9", "If-Range": tag})
    assert same.status == 206
    beyond = await house.api.get(path, headers={"Range": f"bytes={len(archive)}-"})
    assert beyond.status == 416
    loaded = docker("load", data=archive)
    name = f"dit4c-{house.instance}:saved"
    try:
        assert name in loaded
        assert docker("inspect", "-f", "{{json .Config.Cmd}}", name) == '["/none"]'
    finally:
        docker("rmi", "-f", name, check=False)


async def test_a_link_gives_others_a_copy_and_nothing_else(house):
    work, api, instance = house.work, house.api, house.instance
    made = await api.post(f"instances/{instance}/share", json={"days": 3})
    assert made.status == 201
    secret = made.json["url"].rpartition("/")[2]
    assert made.json["url"] == f"{work.url}/shared/{secret}"
    async with work.api(await work.person("eve")) as eve:
        # The instance itself stays where it is.
        for what in ("", "/export", "/lineage", "/shares"):
            assert (await eve.get(f"instances/{instance}{what}")).status == 404
        assert (await eve.post(f"instances/{instance}/share", json={})).status == 404
        copy = await eve.post(f"shared/{secret}", json={"name": "Mine"})
        assert (copy.status, copy.json["name"]) == (201, "Mine")
        start = await house.scheduler.message(StartInstance)
        assert start.image.endswith(f"instances/{instance}@{house.digest}")
        assert (await eve.post(f"shared/{secret}", json={})).status == 201, "twice is two copies"
        tree = (await eve.get(f"instances/{copy.json['id']}/lineage")).json
        assert [(one["name"], one["depth"]) for one in tree][:2] == [("", 0), ("Mine", 1)]

        (link,) = (await api.get(f"instances/{instance}/shares")).json
        assert [(use["person"], use["what"]) for use in link["uses"]] == [("eve", "copy")] * 2
        assert (await eve.post(f"shares/{link['id']}/revoke")).status == 404
        assert (await api.post(f"shares/{link['id']}/revoke")).json["revoked"]
        gone = await eve.post(f"shared/{secret}", json={})
        assert (gone.status, "leads nowhere" in gone.json["detail"]) == (404, True)


async def test_a_link_has_an_end_and_its_maker_may_use_it(house):
    work, api, instance = house.work, house.api, house.instance
    for days in (0, 366):
        assert (await api.post(f"instances/{instance}/share", json={"days": days})).status == 400
    made = (await api.post(f"instances/{instance}/share", json={"days": 1})).json
    secret = made["url"].rpartition("/")[2]
    assert (await api.post(f"shared/{secret}", json={})).status == 201
    work.clock.ahead = 25 * 3600
    assert (await api.post(f"shared/{secret}", json={})).status == 404


async def test_the_pages(house):
    work, instance = house.work, house.instance
    async with work.browser() as owner, work.browser() as other:
        await owner.log_in(await work.login_link())
        page = await owner.get(f"/instances/{instance}/saved")
        assert (page.status, "Where it comes from" in page.text) == (200, True)
        csrf = await owner.csrf()
        answer = await owner.submit(f"/instances/{instance}/share", csrf=csrf, days="7")
        assert answer.status == 200
        link = answer.text.partition(f'value="{work.url}/shared/')[2].partition('"')[0]
        assert len(link) > 30
        await work.person("eve")
        assert (await other.get(f"/shared/{link}")).status == 401
        await other.log_in(await work.login_link("eve"))
        shown = await other.get(f"/shared/{link}")
        assert (shown.status, "Start my own copy" in shown.text) == (200, True)
        # To nobody else; with "no-referrer" a browser's form would have no Origin either.
        assert shown.headers["Referrer-Policy"] == "same-origin"
        assert (await other.get(f"/instances/{instance}/saved")).status == 404
        started = await other.submit(f"/shared/{link}", csrf=await other.csrf())
        assert started.status in (200, 303)
        archive = await other.get(f"/shared/{link}/export")
        assert archive.status == 200
        used = await owner.get(f"/instances/{instance}/saved")
        assert "eve</bdi> (copy)" in used.text
        assert "eve</bdi> (export)" in used.text


async def test_secrets_to_pull_with_are_made_listed_and_revoked(house):
    work, path = house.work, f"/instances/{house.instance}"
    async with work.browser() as owner, work.api(await work.person("eve")) as stranger:
        await owner.log_in(await work.login_link())
        csrf = await owner.csrf()
        refused = await owner.submit(f"{path}/pull-secrets", csrf=csrf, hours="7")
        assert refused.status == 400
        made = await owner.submit(f"{path}/pull-secrets", csrf=csrf, hours="24")
        assert (made.status, "docker login --username admin" in made.text) == (200, True)
        assert f"/instances/{house.instance}@{house.digest}" in made.text
        secret = (
            made.text.partition('id="pull-secret"')[2].partition('value="')[2].partition('"')[0]
        )
        access = work.portal._services.image_access
        assert await access.find_secret("admin", secret) is not None

        (listed,) = (await house.api.get(f"{path[1:]}/pull-secrets")).json
        assert (listed["used"] is not None, secret in str(listed)) == (True, False)
        assert (await stranger.get(f"{path[1:]}/pull-secrets")).status == 404
        revoke = f"{path[1:]}/pull-secrets/{listed['id']}/revoke"
        assert (await stranger.post(revoke)).status == 404
        assert (await house.api.post(f"{path[1:]}/pull-secrets/nothing/revoke")).status == 404
        assert f'data-secret="{listed["id"]}"' in (await owner.get(f"{path}/saved")).text
        ended = await owner.submit(f"/{revoke}", csrf=csrf)
        assert ended.status in (200, 303)
        assert await access.find_secret("admin", secret) is None
        assert (await house.api.post(revoke)).json == []


async def test_a_tree_of_copies(house):
    api, scheduler = house.api, house.scheduler
    first = house.instance
    second = (await api.post("instances", json={"from": first, "name": "second"})).json["id"]
    third = (await api.post("instances", json={"from": first, "name": "third"})).json["id"]
    await scheduler.message(StartInstance)
    tree = (await api.get(f"instances/{third}/lineage")).json
    assert [(one["id"], one["parent"], one["depth"]) for one in tree] == [
        (first, "", 0),
        (second, first, 1),
        (third, first, 1),
    ]
    assert tree[0]["new_bytes"] > 0
    assert tree[1]["saved"] is None


async def test_discarded_it_is_deleted_at_the_image_server_too(house):
    api, work, instance = house.api, house.work, house.instance
    other, _ = await preserved(house, "v2")
    assert (await api.request("DELETE", f"instances/{instance}")).status == 202
    await house.scheduler.report(instance, State.DISCARDED)
    from dit4c_p2p.portal.instances import saves

    store = work.portal._services.image_store
    await saves.purge_discarded_saves(store, time.time())
    assert (await ImageSave.get(instance_id=instance)).purged_at is not None
    with pytest.raises(NoSuchBlob):
        async with store._client() as client:
            await client.manifest(f"instances/{instance}", house.digest)
    assert (await api.get(f"instances/{other}/export")).status == 200
