"""What is in the helpers' images, and what is not."""

import asyncio
from collections.abc import Awaitable, Callable

import aiodocker
import pytest
from aiodocker.containers import DockerContainer

from dit4c_p2p.imagebuild import Images
from dit4c_p2p.messages.pod import HELPER_UID

pytestmark = pytest.mark.engine

Run = Callable[..., Awaitable[DockerContainer]]

# As in a pod, but for the network.
CONFINED = {
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "ReadonlyRootfs": True,
    "NetworkMode": "none",
}

LOOK = """
import importlib.util, os, sys
import dit4c_p2p.helpers.{name}.__main__
print(os.getuid(), os.getgid())
print(sorted(n for n in {libraries} if importlib.util.find_spec(n)))
print(all(os.path.exists(m.__cached__) for m in list(sys.modules.values())
          if getattr(m, "__cached__", None) and m.__name__.startswith("dit4c_p2p")
          and m.__name__ != "__main__"))
"""
UNWANTED = ["aiodocker", "authlib", "dit4c_p2p.portal", "jinja2", "pip", "setuptools", "tortoise"]


@pytest.fixture(params=["listener", "auth"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def output(container: DockerContainer, **streams: bool) -> list[str]:
    await asyncio.wait_for(container.wait(), 60)
    text = "".join(await container.log(**streams))
    return text.splitlines()


async def test_it_has_its_program_and_nothing_else(run: Run, images: Images, name: str) -> None:
    program = LOOK.format(name=name, libraries=UNWANTED)
    container = await run(
        getattr(images, name),
        Entrypoint=["python3", "-c", program],
        HostConfig=CONFINED,
    )
    lines = await output(container, stdout=True, stderr=True)
    assert lines == [f"{HELPER_UID} {HELPER_UID}", "[]", "True"]


async def test_without_its_pods_folder_it_says_what_is_missing(
    run: Run, images: Images, name: str
) -> None:
    container = await run(getattr(images, name), HostConfig=CONFINED)
    lines = await output(container, stderr=True)
    assert "/run/dit4c" in lines[-1]
    assert "Traceback" not in "".join(lines)


async def test_both_share_their_layers(docker: aiodocker.Docker, images: Images) -> None:
    listener, auth = [
        (await docker.images.inspect(image))["RootFS"]["Layers"]
        for image in (images.listener, images.auth)
    ]
    shared = [a for a, b in zip(listener, auth, strict=True) if a == b]
    # Their own program, and its bytecode.
    assert len(listener) - len(shared) <= 2
