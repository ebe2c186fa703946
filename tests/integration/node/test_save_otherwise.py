"""Saves where the writable layer is not read as it is: committed, or made one with all below it."""

from dataclasses import replace

import pytest
from systems.pods import app_of, docker, ensure_image, run_start
from systems.saving import CHANGES, PATHS, key_of, listing, save_and_upload, shell

from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.node.agent import remove_everything
from dit4c_p2p.node.pods.manager import PodManager

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
    other = PodManager(replace(config, data_folder=tmp_path / "other"), pods._engine)
    reference = saved_reference(repository_of(instance), uploaded.digest)
    try:
        await ensure_image(other, reference)
        await run_start(other, f"{instance}d", reference)
        assert listing(app_of(f"{instance}d"), *PATHS) == before
    finally:
        await remove_everything(tmp_path / "other")
        docker("rmi", "-f", f"dit4c-saved/{instance}:{uploaded.digest[7:19]}", check=False)


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
    other = PodManager(replace(config, data_folder=tmp_path / "other"), pods._engine)
    reference = saved_reference(repository_of(instance), uploaded.digest)
    try:
        await ensure_image(other, reference)
        await run_start(other, f"{instance}d", reference)
        assert listing(app_of(f"{instance}d"), *PATHS) == before
        assert shell(app_of(f"{instance}d"), "[ ! -e /doomed ] && echo gone") == "gone\n"
    finally:
        await remove_everything(tmp_path / "other")
        docker("rmi", "-f", f"dit4c-saved/{instance}:{uploaded.digest[7:19]}", check=False)
