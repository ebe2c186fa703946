"""A new app from what another has left on this node, with its volumes, and saved in its turn."""

from dataclasses import replace

import pytest
from systems.pods import app_of, docker, ensure_image, pods_of, run_start
from systems.saving import CHANGES, PATHS, key_of, listing, save_and_upload, shell

from dit4c_p2p.messages.kept_files import kept_reference
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.errors import EngineError, PolicyRefused, UnknownImage

pytestmark = pytest.mark.engine


async def test_a_copy_of_what_was_kept(house, app, instance, tmp_path):
    config, pods, portal = house
    reference = kept_reference(instance, str(config.name))
    with pytest.raises(UnknownImage, match="not here any more"):
        await ensure_image(pods, reference)
    await run_start(pods, instance, app)
    shell(app_of(instance), CHANGES)
    before = listing(app_of(instance), *PATHS)
    with pytest.raises(EngineError, match="not stopped yet"):
        await ensure_image(pods, reference)
    await pods.stop(instance)
    with pytest.raises(UnknownImage):
        await ensure_image(pods, kept_reference(instance, "node-other"))
    strict = replace(config, policy=replace(config.policy, images=frozenset({app})))
    with pytest.raises(PolicyRefused):
        await ensure_image(pods_of(strict, pods._engine), reference)

    copy, other_folder = f"{instance}c", tmp_path / "other"
    try:
        await ensure_image(pods, reference)
        await ensure_image(pods, reference)
        await run_start(pods, copy, reference)
        assert listing(app_of(copy), *PATHS) == before
        assert docker("ps", "-aq", "--filter", f"name=^{app_of(instance)}$"), "it is kept as it was"

        # The copy is on its own: what was kept may go, and its own files stay through a stop.
        await pods.discard(instance)
        shell(app_of(copy), "echo more > /data/more")
        await pods.stop(copy)
        await run_start(pods, copy, reference, run=2, kept=True)
        assert shell(app_of(copy), "cat /data/more") == "more\n"

        portal.keys[copy] = key_of(config, copy)
        uploaded = (await save_and_upload(pods, copy))[-1]
        await pods.discard(copy)
        other = pods_of(replace(config, data_folder=other_folder), pods._engine)
        saved = saved_reference(repository_of(copy), uploaded.digest)
        await ensure_image(other, saved)
        await run_start(other, f"{copy}d", saved)
        found = listing(app_of(f"{copy}d"), *PATHS)
        assert [one for one in found if "/data/more" not in one] == before
        labels = docker("inspect", "-f", "{{json .Config.Labels}}", app_of(f"{copy}d"))
        assert f'"{instance}"' not in labels
    finally:
        await remove_everything_of_node(other_folder)
