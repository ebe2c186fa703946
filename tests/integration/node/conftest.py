"""An agent's pods on the real engine, with tiny images."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from systems.docker_registry import ImageRegistry
from systems.lan import Lan, lan_beside
from systems.pods import MIB, Images, docker, drop_images, make_image, make_images, pods_of
from systems.saving import BRIDGE, CountersigningPortal, saving_config, upload_image

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.node.parts import NodeParts
from dit4c_p2p.node.pods.manager import PodManager
from dit4c_p2p.settings.node import PodSettings


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    """Made once, removed at the end."""
    made = make_images()
    yield made
    drop_images(made)


@pytest.fixture
def data_folder(tmp_path: Path) -> Iterator[Path]:
    """An installation's folder; nothing of it is left at the engine after the test."""
    yield tmp_path
    asyncio.run(remove_everything_of_node(tmp_path))


@pytest.fixture
def config(data_folder: Path, images: Images) -> NodeConfig:
    """An agent's, with little memory for apps and a range of its own."""
    portal = PortalInfo(
        name="portal-main",
        url="http://localhost:8080",
        key=public_line(generate()),
        connect=["172.17.0.1:8080"],
    )
    router = RouterInfo(name="router-main", ssh=["172.17.0.1:8022"], http=["172.17.0.1:8081"])
    return NodeConfig(
        name=PeerName.parse("node-main"),
        key=generate(),
        data_folder=data_folder,
        scheduler=PeerName.parse("scheduler-main"),
        images=images.helpers,
        portal=portal,
        routers=(router,),
        user_url="http://{id}.localhost:8081/",
        policy=Policy(memory_bytes=64 * MIB, cpus=1.0),
        pods=PodSettings(network_range=IPv4Network("10.214.0.0/16"), answers_s=20, stop_s=1),
    )


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("unix:///var/run/docker.sock") as opened:
        yield opened


@pytest.fixture
def parts(config: NodeConfig, engine: Engine) -> NodeParts:
    return NodeParts(config, engine)


@pytest.fixture
def pods(parts: NodeParts) -> PodManager:
    return parts.pods


@pytest.fixture
def lan() -> Iterator[Lan]:
    """The owner's network, played by a namespace."""
    with lan_beside() as beside:
        yield beside


@pytest.fixture
def instance() -> str:
    """An id that no other test run has."""
    return "t" + uuid.uuid4().hex[:9]


@pytest.fixture
async def house(config, engine, tmp_path):
    """A node that can save: its configuration, its pods, and the portal."""
    portal = CountersigningPortal()
    async with portal.running(), ImageRegistry(tmp_path, host=BRIDGE) as registry:
        ready = saving_config(config, portal, registry.address, await upload_image())
        yield ready, pods_of(ready, engine), portal


@pytest.fixture
def app(images):
    """An image with a folder to be replaced."""
    serve = 'CMD ["httpd","-f","-p","8080"]'
    made = make_image(
        {
            "data/kept": b"from the image",
            "index.html": b"hello",
            "doomed": b"x",
            "replaced/old": b"old",
        },
        serve,
        "EXPOSE 8080/tcp",
        "ENV PATH=/bin:/usr/bin:/usr/sbin",
        "VOLUME /data",
        "LABEL kept=yes",
    )
    yield made
    docker("rmi", "-f", made, check=False)
