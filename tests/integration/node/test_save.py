"""A stopped app's files, saved at a registry and had again on another node, byte for byte."""

from dataclasses import replace

import pytest
from systems.pods import app_of, docker, ensure_image, pods_of, run_start
from systems.saving import (
    CHANGES,
    PATHS,
    key_of,
    listing,
    save_and_upload,
    shell,
)

from dit4c_p2p.messages.node import ImageUploaded, PodSaved, Progress
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.errors import NoSuchPod, NotSaved, UnknownImage
from dit4c_p2p.node.uploads.pods import UploadPods

pytestmark = pytest.mark.engine


async def test_a_saved_image_starts_with_its_files(house, app, engine, instance, tmp_path_factory):
    config, pods, portal = house
    await run_start(pods, instance, app)
    portal.keys[instance] = key_of(config, instance)
    shell(app_of(instance), CHANGES)
    before = listing(app_of(instance), *PATHS)

    records = await save_and_upload(pods, instance)
    assert isinstance(records[0], PodSaved)
    uploaded = records[-1]
    assert isinstance(uploaded, ImageUploaded)
    assert any(isinstance(one, Progress) and one.fraction == 1.0 for one in records)
    assert [put.digest for put in portal.puts] == [uploaded.digest]
    assert await UploadPods(engine, str(config.data_folder)).instances() == set()
    assert docker("ps", "-aq", "--filter", f"label=dit4c.upload-of={instance}") == ""

    # Tried once more, it is the same image: the portal takes one for each save.
    assert (await save_and_upload(pods, instance))[-1].digest == uploaded.digest

    # Its container is there until it is discarded; then another node has it all again.
    assert docker("ps", "-aq", "--filter", f"name={app_of(instance)}")
    await pods.discard(instance)
    other_folder = tmp_path_factory.mktemp("other")
    other = pods_of(replace(config, data_folder=other_folder), engine)
    reference = saved_reference(repository_of(instance), uploaded.digest)
    derived = f"{instance}d"
    try:
        await ensure_image(other, reference)
        await run_start(other, derived, reference)
        assert listing(app_of(derived), *PATHS) == before
        assert shell(app_of(derived), "ls -A /mnt") == ""
        assert shell(app_of(derived), "[ ! -e /doomed ] && echo gone") == "gone\n"
        inspected = docker("inspect", "-f", "{{json .Config.Labels}}", app_of(derived))
        assert '"kept":"yes"' in inspected

        # What is derived can be saved in its turn: only its own change is a layer more.
        portal.keys[derived] = key_of(replace(config, data_folder=other_folder), derived)
        shell(app_of(derived), "echo more > /work/more; rm -r /work/deep")
        again = (await save_and_upload(other, derived, "s2"))[-1]
        assert portal.puts[-1].manifest.count("layer.v1.tar") == 3
        assert portal.puts[-1].layer_bytes < 9 << 20
        third = f"{instance}e"
        reference = saved_reference(repository_of(derived), again.digest)
        await ensure_image(other, reference)
        await run_start(other, third, reference)
        kept = [line for line in before if "/work/deep" not in line]
        assert [one for one in listing(app_of(third), *PATHS) if "/work/more" not in one] == kept
    finally:
        await remove_everything_of_node(other_folder)
        for one in (instance, derived):
            assert docker("images", "-q", f"dit4c-saved/{one}") == ""


async def test_saves_that_are_refused(house, images, instance):
    config, pods, portal = house
    with pytest.raises(NoSuchPod):
        await pods.save(instance)
    await run_start(pods, instance, images.app)
    portal.keys[instance] = key_of(config, instance)
    shell(app_of(instance), "echo x > /.wh.something")
    with pytest.raises(NotSaved, match=r"\.wh\."):
        await save_and_upload(pods, instance)
    # It is as it was: started again, the file that is in the way can be removed.
    await run_start(pods, instance, images.app, run=2, kept=True)
    shell(app_of(instance), "rm /.wh.something")


async def test_without_the_portals_word_nothing_is_derived(house, images, instance, tmp_path):
    config, pods, portal = house
    await run_start(pods, instance, images.app)
    portal.keys[instance] = key_of(config, instance)
    uploaded = (await save_and_upload(pods, instance))[-1]
    from dit4c_p2p.identity.keys import generate, public_line
    from dit4c_p2p.messages.public import PortalInfo

    stranger = PortalInfo(name="portal-main", url=config.portal.url, key=public_line(generate()))
    other = pods_of(replace(config, portal=stranger, data_folder=tmp_path / "other"), pods._engine)
    reference = saved_reference(repository_of(instance), uploaded.digest)
    with pytest.raises(UnknownImage, match="has not signed"):
        await ensure_image(other, reference)
