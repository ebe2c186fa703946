"""A real engine, the images on it, and containers that are gone after each test."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import aiodocker
import aiohttp
import pytest
from aiodocker.containers import DockerContainer

from dit4c_p2p.images import Images, default_cache_folder, ensure_images

Run = Callable[..., Awaitable[DockerContainer]]


@pytest.fixture(scope="session")
def images() -> Images:
    """Everything built; quick if nothing has changed."""
    return asyncio.run(ensure_images(lambda step, detail: None, default_cache_folder()))


@pytest.fixture
async def docker() -> AsyncIterator[aiodocker.Docker]:
    """The engine's client."""
    async with aiodocker.Docker(timeout=aiohttp.ClientTimeout(total=60)) as client:
        yield client


@pytest.fixture
async def run(docker: aiodocker.Docker) -> AsyncIterator[Run]:
    """Start a container: ``await run(image, HostConfig={…}, Cmd=[…], …)``."""
    started: list[DockerContainer] = []

    async def start(image: str, **config: object) -> DockerContainer:
        container = await docker.containers.create(
            {"Image": image, **config}, name=f"dit4c-test-{uuid.uuid4().hex[:12]}"
        )
        started.append(container)
        await container.start()
        return container

    yield start
    for container in started:
        await container.delete(force=True, v=True)


@pytest.fixture
async def repository(docker: aiodocker.Docker) -> AsyncIterator[str]:
    """A name for images of this test alone; they are removed after it."""
    name = f"dit4c-test-{uuid.uuid4().hex[:12]}"
    yield name
    for image in await docker.images.list(filters={"reference": [f"{name}/*"]}):
        for tag in image["RepoTags"]:
            await docker.images.delete(tag, force=True)
