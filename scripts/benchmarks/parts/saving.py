"""A node that saves to our image server, beside the engine that commits and pushes to a peer."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from systems.docker_registry import ImageRegistry
from systems.image_server_process import ImageServerProcess
from systems.pods import (
    Images,
    app_of,
    docker,
    drop_images,
    make_images,
    pods_of,
    run_start,
)
from systems.saving import BRIDGE, CountersigningPortal, key_of, saving_config, upload_image

from dit4c_p2p.identity.keys import generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.node import CheckpointPod, ImageUploaded, UploadImage
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.node.pods.manager import PodManager
from dit4c_p2p.settings.node import PodSettings
from scripts.benchmarks.parts.line import Line, line

_MIB = 1024**2
# Half of what is written compresses, in files of 1 MB.
_WRITE = """
import os, random, sys
folder, size, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.makedirs(folder, exist_ok=True)
source = random.Random(seed)
words = [b"%d lorem ipsum " % n for n in range(5000)]
for number in range(size):
    text = b"".join(source.choices(words, k=40000))[:500000]
    with open(f"{folder}/{number}", "wb") as file:
        file.write(source.randbytes(500000) + text)
"""


class Saver:
    """A node, both registries with a line to each, and a folder for what they keep."""

    def __init__(self, folder: Path, images: Images) -> None:
        self._folder = folder
        self.images = images
        self.portal = CountersigningPortal()
        self.tag = f"dit4c-bench-{uuid.uuid4().hex[:8]}"
        self.line: Line
        self.peer_line: Line
        self.server: ImageServerProcess
        self.config: NodeConfig
        self.pods: PodManager

    async def open(self, stack: AsyncExitStack) -> None:
        """Start everything."""
        for name in ("ours", "peer", "node"):
            (self._folder / name).mkdir()
        self.engine = await stack.enter_async_context(Engine("unix:///var/run/docker.sock"))
        await stack.enter_async_context(self.portal.running())
        self.server = ImageServerProcess(self._folder / "ours", keep_free="0 B")
        self.server.portal.bearer = "all"
        await stack.enter_async_context(self.server)
        await self.server.up()
        registry = await stack.enter_async_context(ImageRegistry(self._folder / "peer"))
        self.line = stack.enter_context(line(BRIDGE, self.server.port))
        behind = int(registry.behind.rpartition(":")[2])
        self.peer_line = stack.enter_context(line("127.0.0.1", behind))
        router = RouterInfo(name="router-main", ssh=[f"{BRIDGE}:1"], http=[f"{BRIDGE}:1"])
        plain = NodeConfig(
            name=PeerName.parse("node-main"),
            key=generate(),
            data_folder=self._folder / "node",
            scheduler=PeerName.parse("scheduler-main"),
            images=self.images.helpers,
            portal=self.portal.info,
            routers=(router,),
            user_url="http://{id}.localhost:1/",
            policy=Policy(memory_bytes=512 * _MIB, cpus=2.0),
            pods=PodSettings(network_range=IPv4Network("10.219.0.0/16"), answers_s=60, stop_s=1),
        )
        address = f"{BRIDGE}:{self.line.port}"
        self.config = saving_config(plain, self.portal, address, await upload_image())
        self.pods = pods_of(self.config, self.engine)

    def other_node(self, name: str) -> PodManager:
        """A node that has the tool's image, and no chunk."""
        return pods_of(replace(self.config, data_folder=self._folder / name), self.engine)

    # ---- apps

    async def start(self, instance: str) -> None:
        """An app that runs."""
        await run_start(self.pods, instance, self.images.python)
        self.portal.keys[instance] = key_of(self.config, instance)

    def write(self, instance: str, folder: str, mb: int, seed: int) -> None:
        """Files of 1 MB in the app."""
        python = ("/usr/bin/python3.11", "-c", _WRITE, folder, str(mb), str(seed))
        docker("exec", app_of(instance), *python)

    def one_file(self, instance: str, mb: int) -> None:
        """A single large file."""
        script = (
            f"import os;f=open('/large','wb');[f.write(os.urandom(10**6)) for _ in range({mb})]"
        )
        docker("exec", app_of(instance), "/usr/bin/python3.11", "-c", script)

    def one_byte(self, instance: str, at: int) -> None:
        """Change a byte of that file."""
        script = f"f=open('/large','r+b');f.seek({at});f.write(b'!')"
        docker("exec", app_of(instance), "/usr/bin/python3.11", "-c", script)

    # ---- ours

    async def save(self, instance: str, name: str) -> str:
        """A stopped app's files, uploaded; the manifest's digest."""
        request = UploadImage(instance=instance, save=name)
        return await _last(self.pods.upload(request))

    async def checkpoint(self, instance: str, name: str) -> str:
        """A running app's files, uploaded; the manifest's digest."""
        return await _last(self.pods.checkpoint(CheckpointPod(instance=instance, save=name)))

    async def fetch(self, pods: PodManager, instance: str, digest: str) -> None:
        """A node has the image."""
        async for _ in pods.ensure_image(saved_reference(repository_of(instance), digest)):
            pass

    # ---- the peer

    def peer_name(self, tag: str) -> str:
        """What the peer's image is called at the engine."""
        return f"127.0.0.1:{self.peer_line.port}/{self.tag}:{tag}"

    async def commit(self, instance: str, tag: str) -> None:
        """``docker commit``, which pauses the app."""
        await asyncio.to_thread(docker_long, "commit", app_of(instance), self.peer_name(tag))

    async def push(self, tag: str) -> None:
        """``docker push``."""
        await asyncio.to_thread(docker_long, "push", self.peer_name(tag))

    async def pull(self, tag: str) -> None:
        """``docker pull`` of an image that the engine has no more."""
        await asyncio.to_thread(docker_long, "rmi", self.peer_name(tag))
        await asyncio.to_thread(docker_long, "pull", self.peer_name(tag))

    def remove_images(self) -> None:
        """What has been committed and pulled."""
        names = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        for name in names:
            if f"/{self.tag}:" in name:
                docker("rmi", "-f", name, check=False)


async def _last(replies) -> str:
    uploaded = [reply async for reply in replies][-1]
    if not isinstance(uploaded, ImageUploaded):
        raise RuntimeError(f"not uploaded: {uploaded}")
    return uploaded.digest


def docker_long(*arguments: str) -> str:
    """A command of the engine's own client that may take minutes."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=1200)
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]}: {done.stderr}")
    return done.stdout


def pauses_ms(instance: str, since: float) -> float:
    """How long an app has been paused since then, by the engine's events."""
    said = docker(
        "events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}",
        "--filter", f"container={app_of(instance)}", "--format", "{{json .}}",
    )  # fmt: skip
    at: dict[str, int] = {}
    for text in said.splitlines():
        event = json.loads(text)
        if event["Action"] in ("pause", "unpause"):
            at[event["Action"]] = int(event["timeNano"])
    return (at["unpause"] - at["pause"]) / 1e6


@asynccontextmanager
async def saver() -> AsyncIterator[Saver]:
    """Everything, and nothing of it left at the end."""
    images = make_images()
    try:
        with tempfile.TemporaryDirectory(prefix="dit4c-bench-") as name:
            folder = Path(name)
            async with AsyncExitStack() as stack:
                made = Saver(folder, images)
                await made.open(stack)
                try:
                    yield made
                finally:
                    for path in folder.iterdir():
                        await remove_everything_of_node(path)
                    made.remove_images()
    finally:
        drop_images(images)
