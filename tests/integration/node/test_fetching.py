"""Images by digest from a real registry, to an engine of our own, whose disk is small."""

import asyncio
import os
from contextlib import aclosing
from dataclasses import replace

import pytest
from systems.docker_registry import NAME, PASSWORD, ImageRegistry
from systems.pods import docker, ensure_image, make_image, pods_of
from systems.second_engine import SecondEngine

from dit4c_p2p.messages.node import ImageReady, Progress
from dit4c_p2p.node.config import Limits
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import DiskFull, EngineError, PolicyRefused, RegistryError, UnknownImage

pytestmark = [pytest.mark.engine, pytest.mark.root]

MIB = 1024**2


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    with SecondEngine(tmp_path_factory.mktemp("engine"), size="120m") as engine:
        yield engine


@pytest.fixture
async def registry(tmp_path):
    async with ImageRegistry(tmp_path) as registry:
        yield registry


@pytest.fixture
async def node(second, config):
    """The verbs of an agent on the second engine, whose owner lets it ask registries here."""
    open_to_all = replace(config.policy, local_registries=None)
    async with Engine(second.url) as engine:
        yield pods_of(replace(config, engine_url=second.url, policy=open_to_all), engine)


@pytest.fixture
def made():
    """Makes images with so many bytes that can't be compressed; they are gone after the test."""
    ids = []

    def make(size: int) -> str:
        files = {"weight": os.urandom(size)}
        ids.append(make_image(files, 'CMD ["httpd","-f","-p","8080"]', "EXPOSE 8080/tcp"))
        return ids[-1]

    yield make
    for id in ids:
        docker("rmi", "-f", id, check=False)


async def test_fetched_by_digest_with_progress_over_its_layers(node, registry, made, second):
    reference = await registry.push(made(12 * MIB), "tools/web")
    registry.rate = 8 * MIB
    said = await ensure_image(node, reference)
    assert said[-1] == ImageReady(image=reference, port=8080)
    told = [one for one in said if isinstance(one, Progress)]
    fractions = [one.fraction for one in told if one.fraction is not None]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= 3
    assert any(one.info.startswith("Fetching the image: ") and "MiB" in one.info for one in told)
    assert reference in second.docker(
        "images", "--digests", "--format", "{{.Repository}}@{{.Digest}}"
    )
    await registry.close()
    assert await ensure_image(node, reference) == [ImageReady(image=reference, port=8080)]
    loaded = second.docker("inspect", "-f", "{{.Id}}", reference)
    assert (await ensure_image(node, loaded))[-1].port == 8080


async def test_a_tag_is_resolved_fetched_and_said_by_its_digest(node, registry, made):
    reference = await registry.push(made(MIB), "tools/web")
    repository = reference.partition("@")[0]

    async def resolved(text):
        async with aclosing(node.resolve_image(text)) as said:
            return [one async for one in said][-1]

    ready = ImageReady(image=reference, port=8080)
    assert await resolved(f"{repository}:latest") == ready
    assert await resolved(reference) == ready
    with pytest.raises(UnknownImage, match="has no image"):
        await resolved(f"{repository}:older")
    with pytest.raises(PolicyRefused, match="not an image digest"):
        await resolved("no image")


async def test_a_registry_that_does_not_serve_everybody(second, config, made, tmp_path):
    """The login is read anew each time: one that was given, or mended, needs no restart."""
    async with ImageRegistry(tmp_path, closed=True) as registry, Engine(second.url) as engine:
        reference = await registry.push(made(1024), "tools/private")
        open_to_all = replace(config.policy, local_registries=None)
        stranger = pods_of(replace(config, engine_url=second.url, policy=open_to_all), engine)
        with pytest.raises(RegistryError) as caught:
            await ensure_image(stranger, reference)
        assert "has to give it a login" in caught.value.hint
        known = replace(
            config,
            engine_url=second.url,
            registry_logins=registry.logins,
            policy=open_to_all,
        )
        for said, wrong in {"does not serve": ("node", "wrong"), "can't read": None}.items():
            if wrong is None:
                registry.logins.write_text("{")
            else:
                registry.log_in(*wrong)
            with pytest.raises(RegistryError, match=said):
                await ensure_image(pods_of(known, engine), reference)
        registry.log_in(NAME, PASSWORD)
        assert (await ensure_image(pods_of(known, engine), reference))[-1].port == 8080


async def test_two_at_once_fetch_it_once(node, registry, made):
    reference = await registry.push(made(2 * MIB), "tools/twice")
    both = await asyncio.gather(ensure_image(node, reference), ensure_image(node, reference))
    assert [said[-1].port for said in both] == [8080, 8080]


async def test_a_cancelled_pull_is_cancelled_at_the_engine_and_resumes_later(node, registry, made):
    reference = await registry.push(made(12 * MIB), "tools/slow")
    registry.rate = 256 * 1024
    async with aclosing(node.ensure_image(reference)) as said:
        async for one in said:
            if isinstance(one, Progress) and one.fraction:
                break
    async with asyncio.timeout(20):
        while registry.open:
            await asyncio.sleep(0.1)
    registry.rate = None
    assert (await ensure_image(node, reference))[-1].port == 8080


async def test_a_missing_image(node, registry, made):
    reference = await registry.push(made(1024), "tools/there")
    name, _, _ = reference.partition("@")
    for wrong in (f"{name}@sha256:{'0' * 64}", f"{registry.address}/none@sha256:{'0' * 64}"):
        with pytest.raises(UnknownImage, match=f"the registry {registry.address} has no image"):
            await ensure_image(node, wrong)


async def test_a_registry_that_does_not_answer(node, registry):
    await registry.close()
    with pytest.raises(RegistryError, match=f"{registry.address} does not serve.*refused"):
        await ensure_image(node, f"{registry.address}/tool@sha256:{'0' * 64}")


async def test_a_registry_that_falls_silent(second, config, registry, made):
    reference = await registry.push(made(12 * MIB), "tools/silent")
    registry.rate = 1
    open_to_all = replace(config.policy, local_registries=None)
    limits = Limits(pull_silence_s=2)
    hurried = replace(config, engine_url=second.url, policy=open_to_all, limits=limits)
    async with Engine(second.url) as engine:
        with pytest.raises(RegistryError, match="too slow, or silent"):
            await ensure_image(pods_of(hurried, engine), reference)


async def test_a_full_disk_is_called_so_and_nothing_stays_of_it(node, registry, made, second):
    reference = await registry.push(made(130 * MIB), "tools/large")
    with pytest.raises(DiskFull, match="disk of the machine"):
        await ensure_image(node, reference)
    small = await registry.push(made(1 * MIB), "tools/small")
    assert (await ensure_image(node, small))[-1].port == 8080


async def test_an_engine_that_is_away_is_no_fault_of_the_registry(config, tmp_path):
    url = f"unix://{tmp_path}/none.sock"
    async with Engine(url) as engine:
        with pytest.raises(EngineError):
            await ensure_image(pods_of(config, engine), f"tool@sha256:{'0' * 64}")


async def test_a_registry_inside_the_owners_network_is_not_asked(config, second, registry):
    """Unless the owner opens it: whoever names an image is outside."""
    image = f"{registry.address}/tool@sha256:{'0' * 64}"
    async with Engine(second.url) as engine:
        closed = pods_of(replace(config, engine_url=second.url), engine)
        with pytest.raises(PolicyRefused, match="does not allow images from 127"):
            await ensure_image(closed, image)
        named = replace(config.policy, local_registries=(registry.address,))
        opened = pods_of(replace(config, engine_url=second.url, policy=named), engine)
        with pytest.raises(UnknownImage):
            await ensure_image(opened, image)
