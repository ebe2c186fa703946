"""Saves that go otherwise: by a commit, made one layer, with the helper or the agent killed."""

import asyncio
from dataclasses import replace

import pytest
from systems.pods import app_of, docker, ensure_image, inspect, pods_of, run_start, until_at_engine
from systems.saving import CHANGES, PATHS, key_of, listing, save_and_upload, shell

from dit4c_p2p.messages.node import ImageUploaded
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.errors import EngineError

pytestmark = pytest.mark.engine


async def test_an_engine_without_a_layer_folder_commits(
    house, app, instance, monkeypatch, tmp_path
):
    """As with the containerd image store: the writable layer is committed, the volume scanned."""
    config, pods, portal = house
    for module in ("uploads.uploader", "saved_images.fetcher"):
        monkeypatch.setattr(f"dit4c_p2p.node.{module}.has_layer_folder", lambda info: False)
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    shell(app_of(instance), CHANGES)
    before = listing(app_of(instance), *PATHS)
    uploaded = (await save_and_upload(pods, instance))[-1]
    assert portal.puts[-1].manifest.count("layer.v1.tar") == 3, "base, commit and volume"
    assert docker("images", "-q", f"dit4c-upload:{instance}") == ""
    await pods.discard(instance)
    other = pods_of(replace(config, data_folder=tmp_path / "other"), pods._engine)
    reference = saved_reference(repository_of(instance), uploaded.digest)
    try:
        await ensure_image(other, reference)
        await run_start(other, f"{instance}d", reference)
        assert listing(app_of(f"{instance}d"), *PATHS) == before
        assert shell(app_of(f"{instance}d"), "ls -A /mnt") == ""
    finally:
        await remove_everything_of_node(tmp_path / "other")
        assert docker("images", "-q", f"dit4c-saved/{instance}") == ""


async def test_what_was_saved_too_often_becomes_one_layer(
    house, app, instance, monkeypatch, tmp_path
):
    """An engine takes 125 layers: before that the app's whole file system is uploaded as one."""
    config, pods, portal = house
    monkeypatch.setattr("dit4c_p2p.node.uploads.uploader.MAX_LAYERS_BELOW", 0)
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    shell(app_of(instance), CHANGES)
    before = listing(app_of(instance), *PATHS)
    uploaded = (await save_and_upload(pods, instance))[-1]
    assert portal.puts[-1].manifest.count("layer.v1.tar") == 2, "everything, and the volume"
    await pods.discard(instance)
    other = pods_of(replace(config, data_folder=tmp_path / "other"), pods._engine)
    reference = saved_reference(repository_of(instance), uploaded.digest)
    try:
        await ensure_image(other, reference)
        await run_start(other, f"{instance}d", reference)
        assert listing(app_of(f"{instance}d"), *PATHS) == before
        assert shell(app_of(f"{instance}d"), "ls -A /mnt") == ""
        assert shell(app_of(f"{instance}d"), "[ ! -e /doomed ] && echo gone") == "gone\n"
    finally:
        await remove_everything_of_node(tmp_path / "other")
        assert docker("images", "-q", f"dit4c-saved/{instance}") == ""


async def test_a_helper_that_is_killed_goes_on_where_it_was(house, app, instance):
    """``kill -9`` of helper and scanner while the portal is away: asked again, it is done."""
    config, pods, portal = house
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    portal.status = 503
    for victim in ("push", "scan"):
        upload = asyncio.create_task(save_and_upload(pods, instance))
        name = f"dit4c-{instance}-upload-push"
        await until_at_engine(lambda name=name: "portal" in docker("logs", name, check=False))
        docker("kill", f"dit4c-{instance}-upload-{victim}")
        if victim == "push":
            with pytest.raises(EngineError, match="cut off"):
                await upload
        else:
            # The files were sent already: nobody needs the scanner any more.
            portal.status = 200
            assert isinstance((await upload)[-1], ImageUploaded)
    assert docker("ps", "-aq", "--filter", f"name={app_of(instance)}"), "kept until it is confirmed"


async def test_an_agent_that_comes_back_follows_what_runs(house, app, instance):
    """The agent's end does not end an upload; the next one hears of it."""
    config, pods, portal = house
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    portal.status = 503
    upload = asyncio.create_task(save_and_upload(pods, instance))
    name = f"dit4c-{instance}-upload-push"
    await until_at_engine(lambda: "portal" in docker("logs", name, check=False))
    before = inspect(name)["Id"]
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)
    assert inspect(name)["State"]["Running"]
    again = asyncio.create_task(save_and_upload(pods_of(config, pods._engine), instance))
    await asyncio.sleep(0.5)
    assert inspect(name)["Id"] == before
    portal.status = 200
    assert isinstance((await again)[-1], ImageUploaded)
