"""A real engine, the images on it, and containers that are gone after each test."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import aiodocker
import aiohttp
import pytest
from aiodocker.containers import DockerContainer

from dit4c_p2p.imagebuild import Images, default_cache_folder, ensure_images
from dit4c_p2p.node.config import HelperImages
from dit4c_p2p.node.network.firewall import EgressPolicy
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.node.pods import spec as pod

# Where a pod's address would stand.
CANONICAL = "abc.example.org"

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


class Tool:
    """A tool's container, confined as a node confines it, but on a network of its own choice."""

    headers = {"Host": CANONICAL, "Origin": f"https://{CANONICAL}"}

    def __init__(self, container: DockerContainer, port: int) -> None:
        self.container = container
        self.port = port
        self.url = ""

    async def answers(self) -> None:
        """Wait until it does, at the port that its image declares."""
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            ports = (await self.container.show())["NetworkSettings"]["Ports"]
            self.url = f"http://127.0.0.1:{ports[f'{self.port}/tcp'][0]['HostPort']}"
            while True:
                try:
                    async with session.get(self.url, headers=self.headers) as response:
                        response.raise_for_status()
                        return
                except (aiohttp.ClientConnectionError, ConnectionResetError):
                    await asyncio.sleep(0.1)

    async def output(self, *command: str) -> str:
        """What a command prints inside, run as the image's user."""
        run = await self.container.exec(list(command))
        printed = b""
        async with asyncio.timeout(60), run.start() as stream:
            while (message := await stream.read_out()) is not None:
                printed += message.data
        return printed.decode()


@pytest.fixture
async def serve(
    docker: aiodocker.Docker, images: Images, run: Run
) -> Callable[..., Awaitable[Tool]]:
    """Start a tool of the catalogue and wait until it answers: ``await serve("jupyterlab")``."""

    async def start(name: str) -> Tool:
        offered = {offer.name: offer.image for offer in images.catalogue}
        image = pod.read_image(await docker.images.inspect(offered[name]))
        spec = pod.PodSpec(
            instance="test",
            data_folder="/nowhere",
            image=image,
            helpers=HelperImages(images.infra, images.listener, images.auth),
            policy=Policy(),
            machine_cpus=2,
            reach=EgressPolicy(frozenset(), frozenset(), True, frozenset()),
            resolvers=(),
            title="Field data",
            portal_url="https://portal.example.org",
        )
        made = pod.app_definition(spec, "infra")
        confined = made["HostConfig"]
        confined["NetworkMode"] = "default"
        confined["PortBindings"] = {f"{image.port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}
        tool = Tool(await run(image.id, HostConfig=confined, Env=made["Env"]), image.port)
        await tool.answers()
        return tool

    return start
