"""A save as people ask for it, as an instance tells of it, and what the scheduler is sent."""

import json

import pytest
from systems.portal import IMAGE, Client, PortalAtWork, running_instance

from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import generate, parse_public
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import ConfirmUpload, SaveInstance, StartInstance
from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.messages.saved_images import (
    COUNTERSIGNATURE_NAMESPACE,
    IMAGE_NAMESPACE,
    ImageRecord,
    ImageUploaded,
    image_statement,
    repository_of,
    saved_reference,
)
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.manifest import MediaType
from dit4c_p2p.portal.config import KnownImageServer, Limits
from dit4c_p2p.portal.models import ImageSave, SshKey


@pytest.fixture
async def work(tmp_path):
    made = PortalAtWork(tmp_path, Limits(saved_bytes_per_person=5000))
    server = ImageServerInfo(name="imageserver-main", url="http://localhost:1")
    made.config = made.config.__class__(
        **{**made.config.__dict__, "imageservers": (KnownImageServer(server),)}
    )
    async with made:
        yield made


def manifest(*, layers: int = 2, layer_type: str = MediaType.LAYER, size: int = 1000) -> bytes:
    blob = {"mediaType": layer_type, "digest": str(Digest.of(b"layer")), "size": size}
    config = {"mediaType": MediaType.CONFIG, "digest": str(Digest.of(b"{}")), "size": 2}
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.MANIFEST,
            "config": config,
            "layers": [blob] * layers,
        }
    ).encode()


def said(instance: str, save: str, key, body: bytes = b"", **changes) -> bytes:
    """The body of PUT /images/, with what is to be wrong about it."""
    body = body or manifest()
    digest = changes.pop("digest", str(Digest.of(body)))
    statement = image_statement(repository_of(changes.pop("of", instance)), digest, save)
    signature = sshsig.sign(changes.pop("signer", key), statement, IMAGE_NAMESPACE)
    uploaded = ImageUploaded(
        save=save, digest=digest, manifest=body.decode(), signature=signature, layer_bytes=900
    )
    return encode(uploaded)


async def put(work, instance: str, key, body: bytes):
    token = work.jwt(f"instance-{instance}", key=key)
    async with Client(work.url) as client:
        headers = {"Authorization": f"Bearer {token}"}
        return await client.request("PUT", "/images/", data=body, headers=headers)


async def asked(work, api, scheduler):
    """An instance that runs and is to be saved: its id, its key and the save's id."""
    instance, key = await running_instance(work, scheduler)
    answer = await api.post(f"instances/{instance}/save")
    assert (answer.status, answer.json["info"]) == (202, "Asked to be saved.")
    order = await scheduler.message(SaveInstance)
    assert (order.instance, order.after) == (instance, scheduler.sequence[instance])
    return instance, key, order.save


async def test_from_the_wish_to_a_copy(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key, save = await asked(work, api, scheduler)
        path = f"instances/{instance}"
        assert (await api.post(f"{path}/save")).status == 202
        assert await ImageSave.all().count() == 1, "asked again it is the same save"
        early = await api.post("instances", json={"from": instance})
        assert (early.status, "still being uploaded" in early.json["detail"]) == (409, True)

        await scheduler.report(instance, State.UPLOADING, "1 of 2 MiB", progress=0.5)
        answer = await put(work, instance, key, said(instance, save, key))
        assert answer.status == 200
        portal_key = parse_public(work.portal.info.key)
        record = answer.json["record"].encode()
        sshsig.verify(record, answer.json["signature"], COUNTERSIGNATURE_NAMESPACE, [portal_key])
        kept = decode(record, ImageRecord)
        assert (kept.repository, kept.base, kept.parent, kept.creator) == (
            f"instances/{instance}",
            IMAGE,
            "",
            "admin",
        )
        confirmed = await scheduler.message(ConfirmUpload)
        assert (confirmed.save, confirmed.digest) == (save, kept.digest)
        again = await put(work, instance, key, said(instance, save, key))
        assert again.json == answer.json

        await scheduler.report(instance, State.UPLOADED, "Preserved")
        assert not await SshKey.exists(name=f"instance-{instance}", revoked_at=None)
        shown = (await api.get(path)).json
        assert (shown["state"], shown["actions"]) == ("uploaded", ["copy", "discard"])
        made = await api.post("instances", json={"from": instance, "name": "On from there"})
        assert made.status == 201
        start = await scheduler.message(StartInstance)
        assert (start.instance, start.image) == (
            made.json["id"],
            saved_reference(f"instances/{instance}", kept.digest),
        )
        assert made.json["image"] == "jupyterlab"


async def test_what_can_not_be_had_ends_the_save(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key, save = await asked(work, api, scheduler)
        await scheduler.report(instance, State.EXITED, "Not saved", failed_save="another")
        assert (await ImageSave.get(id=save)).ended_at is None
        await scheduler.report(instance, State.EXITED, "Not saved", failed_save=save)
        assert (await ImageSave.get(id=save)).ended_at is not None
        late = await put(work, instance, key, said(instance, save, key))
        assert (late.status, "given up" in late.json["detail"]) == (409, True)
        # Its user may try again.
        assert (await api.post(f"instances/{instance}/save")).status == 202
        assert (await scheduler.message(SaveInstance)).save != save
        await scheduler.report(instance, State.DISCARDING)
        assert await ImageSave.filter(ended_at=None).count() == 0


@pytest.mark.parametrize(
    ("wrong", "status", "word"),
    [
        ({"signer": generate()}, 400, "signed"),
        ({"of": "another"}, 400, "signed"),
        ({"digest": str(Digest.of(b"another"))}, 400, "digest"),
        ({"body": manifest(layers=200)}, 400, "layers"),
        ({"body": manifest(size=21 * 1024**3)}, 400, "GiB"),
        ({"body": manifest(layer_type=MediaType.LAYER_GZIP)}, 400, "uncompressed"),
        ({"body": b"{}"}, 400, "manifest"),
        ({"save": "nosuch"}, 409, "not asked"),
    ],
)
async def test_what_an_instance_may_not_say(work, wrong, status, word):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key, save = await asked(work, api, scheduler)
        body = said(
            instance,
            wrong.get("save", save),
            key,
            **{name: value for name, value in wrong.items() if name != "save"},
        )
        answer = await put(work, instance, key, body)
        assert answer.status == status, answer.text
        assert word in answer.json["detail"]
        assert (await ImageSave.get(id=save)).digest is None


async def test_another_instance_can_not_speak_for_it(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _, save = await asked(work, api, scheduler)
        other, other_key = await running_instance(work, scheduler)
        answer = await put(work, other, other_key, said(instance, save, other_key))
        assert answer.status == 409


async def test_who_may_ask_for_what(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        async with work.api(await work.person("eve")) as stranger:
            assert (await stranger.post(f"instances/{instance}/save")).status == 404
            made = await stranger.post("instances", json={"from": instance})
            assert made.status == 404
        nothing = await api.post("instances", json={"from": instance})
        assert (nothing.status, "save it first" in nothing.json["detail"].lower()) == (409, True)
        for body in ({}, {"image": "jupyterlab", "from": instance}):
            assert (await api.post("instances", json=body)).status == 400
        new = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        assert (await api.post(f"instances/{new}/save")).status == 409


async def test_a_quota_that_is_used_up(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, key, save = await asked(work, api, scheduler)
        await put(work, instance, key, said(instance, save, key))
        await ImageSave.filter(id=save).update(layer_bytes=5000)
        other, _ = await running_instance(work, scheduler)
        refused = await api.post(f"instances/{other}/save")
        assert (refused.status, "discard one" in refused.json["detail"].lower()) == (409, True)


async def test_the_buttons_without_a_script(work):
    async with work.scheduler() as scheduler, work.browser() as browser:
        instance, key = await running_instance(work, scheduler)
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        assert (await browser.submit(f"/instances/{instance}/save")).status == 403
        assert (await browser.submit(f"/instances/{instance}/save", csrf=csrf)).status in (200, 303)
        save = (await scheduler.message(SaveInstance)).save
        early = await browser.submit(f"/instances/{instance}/copy", csrf=csrf)
        assert (early.status, "still being uploaded" in early.text) == (409, True)
        await put(work, instance, key, said(instance, save, key))
        await scheduler.report(instance, State.UPLOADED, "Preserved")
        page = await browser.get("/")
        assert "Start a copy from here" in page.text
        assert (await browser.submit(f"/instances/{instance}/copy", csrf=csrf)).status in (200, 303)
        assert f"instances/{instance}@" in (await scheduler.message(StartInstance)).image
