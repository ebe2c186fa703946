"""A checkpoint: a running app's files of one moment, had again elsewhere; the app goes on."""

import asyncio
from dataclasses import replace

import pytest
from systems.pods import app_of, docker, ensure_image, inspect, pods_of, run_start, until_at_engine
from systems.saving import CHANGES, PATHS, key_of, listing, shell

from dit4c_p2p.messages.node import CheckpointPod, ImageUploaded, Progress
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.errors import NoSuchPod, NotSaved
from dit4c_p2p.node.pods.manager import PodManager
from dit4c_p2p.node.uploads.copies import AppPauser

pytestmark = pytest.mark.engine

# One line in each of two files, always the first file first: a copy of one moment never has a line
# in the second that the first lacks.
WRITER = "n=0; while true; do n=$((n+1)); echo $n >> /work/one; echo $n >> /data/two; done"


async def checkpoint(pods: PodManager, instance: str, save: str = "c1") -> list:
    async with asyncio.timeout(60):
        request = CheckpointPod(instance=instance, save=save)
        return [reply async for reply in pods.checkpoint(request)]


@pytest.mark.parametrize("how", ["folder", "commit", "flat"])
async def test_one_moment_of_a_running_app(house, app, instance, tmp_path, monkeypatch, how):
    config, pods, portal = house
    if how == "commit":
        for module in ("uploads.uploader", "saved_images.fetcher"):
            monkeypatch.setattr(f"dit4c_p2p.node.{module}.has_layer_folder", lambda info: False)
    elif how == "flat":
        monkeypatch.setattr("dit4c_p2p.node.uploads.uploader.MAX_LAYERS_BELOW", 0)
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    shell(app_of(instance), CHANGES)
    before = listing(app_of(instance), *PATHS)
    docker("exec", "-d", app_of(instance), "sh", "-c", WRITER)
    started = inspect(app_of(instance))["State"]["StartedAt"]

    records = await checkpoint(pods, instance)
    uploaded = records[-1]
    assert isinstance(uploaded, ImageUploaded)
    assert any(isinstance(one, Progress) and "Copying" in one.info for one in records)
    state = inspect(app_of(instance))["State"]
    assert (state["Status"], state["StartedAt"]) == ("running", started)
    assert docker("ps", "-aq", "--filter", f"label=dit4c.upload-of={instance}") == ""
    assert docker("volume", "ls", "-q", "--filter", f"label=dit4c.upload-of={instance}") == ""
    assert docker("images", "-q", f"dit4c-upload:{instance}") == ""
    shell(app_of(instance), "echo later > /work/later")

    other = pods_of(replace(config, data_folder=tmp_path / "other"), pods._engine)
    reference = saved_reference(repository_of(instance), uploaded.digest)
    derived = f"{instance}d"
    try:
        await ensure_image(other, reference)
        await run_start(other, derived, reference)
        found = listing(app_of(derived), *PATHS)
        mine = [one for one in found if "/work/one " not in one and "/data/two " not in one]
        assert [one for one in mine if "/work/later" not in one] == before
        assert shell(app_of(derived), "[ ! -e /work/later ] && [ ! -e /doomed ] && echo so")
        assert shell(app_of(derived), "ls -A /mnt") == ""
        lengths = [
            len(shell(app_of(derived), f"cat {path}").splitlines())
            for path in ("/work/one", "/data/two")
        ]
        assert lengths[0] - lengths[1] in (0, 1), lengths
        assert lengths[0] > 0
    finally:
        await remove_everything_of_node(tmp_path / "other")


async def test_a_stop_does_not_wait_for_a_checkpoint(house, app, instance):
    """Its upload goes on from the copy, and what is stopped can be saved afterwards."""
    config, pods, portal = house
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    portal.status = 503
    running = asyncio.create_task(checkpoint(pods, instance))
    name = f"dit4c-{instance}-upload-push"
    await until_at_engine(lambda: "portal" in docker("logs", name, check=False))
    async with asyncio.timeout(20):
        await pods.stop(instance)
    portal.status = 200
    assert isinstance((await running)[-1], ImageUploaded)
    assert len(portal.puts) == 1


async def test_an_agent_that_comes_back_makes_another_copy(house, app, instance):
    """The agent is gone while the app is paused: the next one lets it go on."""
    config, pods, portal = house
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    docker("pause", app_of(instance))
    pauser = AppPauser(pods._engine, str(config.data_folder))
    held = inspect(app_of(instance))["Id"]
    pauser._paused.add(held)
    await pauser.unpause_all()
    assert inspect(app_of(instance))["State"]["Paused"], "somebody keeps it paused"
    await pods_of(config, pods._engine).uploads.pauser.unpause_all()
    assert not inspect(app_of(instance))["State"]["Paused"]
    # A scanner that waits for a pause in vain is replaced.
    first = asyncio.create_task(checkpoint(pods, instance))
    name = f"dit4c-{instance}-upload-scan"
    await until_at_engine(lambda: bool(docker("ps", "-q", "--filter", f"name={name}")))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    other = pods_of(config, pods._engine)
    assert isinstance((await checkpoint(other, instance))[-1], ImageUploaded)


async def test_checkpoints_that_are_refused(house, images, instance):
    config, pods, portal = house
    with pytest.raises(NoSuchPod):
        await checkpoint(pods, instance)
    await run_start(pods, instance, images.app)
    portal.keys[instance] = key_of(config, instance)
    shell(app_of(instance), "echo x > /.wh.something")
    with pytest.raises(NotSaved, match=r"\.wh\."):
        await checkpoint(pods, instance)
    assert docker("ps", "-aq", "--filter", f"label=dit4c.upload-of={instance}") == ""
    assert not inspect(app_of(instance))["State"]["Paused"]
