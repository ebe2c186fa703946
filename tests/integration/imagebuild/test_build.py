"""An image is built when it has to be, and only then."""

import asyncio
from pathlib import Path

import aiodocker
import pytest

from dit4c_p2p.engine_address import USUAL
from dit4c_p2p.imagebuild import DiskFull, DockerDaemon, Images
from dit4c_p2p.imagebuild.build import BUILD_LABEL, BuildFailed, ImageBuilder
from dit4c_p2p.imagebuild.recipes import ImageRecipe

pytestmark = pytest.mark.engine

GIZMO = ImageRecipe("gizmo", "base")
DOCKERFILE = "ARG PARENT\nFROM ${PARENT}\nCOPY data /data\n"


class Workshop:
    """A builder with a folder of sources, and what it told."""

    def __init__(
        self, docker: aiodocker.Docker, folder: Path, repository: str, *, url: str | None = None
    ) -> None:
        self.cache_folder = folder / "cache"
        self.cache_folder.mkdir()
        self.source = folder / "sources" / GIZMO.name
        self.source.mkdir(parents=True)
        self.write(DOCKERFILE, data="1")
        self.told: list[str] = []
        self.building = asyncio.Event()
        self.builder = ImageBuilder(
            docker,
            DockerDaemon(version="", architecture="x86_64", url=url),
            self.cache_folder,
            self._tell,
            repository=repository,
            sources=folder / "sources",
            packages=folder,
        )

    def write(self, dockerfile: str, **files: str) -> None:
        (self.source / "Dockerfile").write_text(dockerfile)
        for name, text in files.items():
            (self.source / name).write_text(text)

    def _tell(self, step: str, detail: str) -> None:
        assert step == "gizmo image"
        self.told.append(detail)
        if detail.startswith("RUNNING"):
            self.building.set()


@pytest.fixture
async def workshop(docker: aiodocker.Docker, tmp_path: Path, repository: str) -> Workshop:
    return Workshop(docker, tmp_path, repository)


async def test_built_once_and_again_when_its_sources_change(
    workshop: Workshop, images: Images, docker: aiodocker.Docker
) -> None:
    first = await workshop.builder.ensure(GIZMO, images.infra)
    assert workshop.told[-1] == "built"
    workshop.told.clear()
    assert await workshop.builder.ensure(GIZMO, images.infra) == first
    assert workshop.told == ["up to date"]

    workshop.write(DOCKERFILE, data="2")
    second = await workshop.builder.ensure(GIZMO, images.infra)
    assert second != first
    # Pods may still run from the old one.
    assert (await docker.images.inspect(first))["Id"] == first
    labels = (await docker.images.inspect(second))["Config"]["Labels"]
    assert len(labels[BUILD_LABEL]) == 64
    await docker.images.delete(first)


async def test_built_at_the_engine_that_is_named(
    docker: aiodocker.Docker,
    images: Images,
    tmp_path: Path,
    repository: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    workshop = Workshop(docker, tmp_path, repository, url=USUAL)
    made = await workshop.builder.ensure(GIZMO, images.infra)
    assert (await docker.images.inspect(workshop.builder.tag("gizmo")))["Id"] == made


async def test_built_again_upon_another_parent(workshop: Workshop, images: Images) -> None:
    first = await workshop.builder.ensure(GIZMO, images.infra)
    second = await workshop.builder.ensure(GIZMO, images.auth)
    assert second != first


async def test_a_program_that_changes_makes_another_image(
    workshop: Workshop, images: Images, tmp_path: Path
) -> None:
    recipe = ImageRecipe("gizmo", "base", program="tiny.tool")
    workshop.write("ARG PARENT\nFROM ${PARENT}\nCOPY app /app\n")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/__init__.py").touch()
    (tmp_path / "tiny/tool.py").write_text("VERSION = 1\n")
    (tmp_path / "tiny/other.py").write_text("VERSION = 1\n")
    first = await workshop.builder.ensure(recipe, images.infra)
    (tmp_path / "tiny/other.py").write_text("VERSION = 2\n")
    assert await workshop.builder.ensure(recipe, images.infra) == first
    (tmp_path / "tiny/tool.py").write_text("VERSION = 2\n")
    assert await workshop.builder.ensure(recipe, images.infra) != first


async def test_a_step_that_fails_says_why_and_where_the_rest_is(
    workshop: Workshop, images: Images
) -> None:
    workshop.write(f"{DOCKERFILE}RUN echo all the details; echo the reason; exit 3\n")
    with pytest.raises(BuildFailed, match="gizmo image could not be built: the reason") as failed:
        await workshop.builder.ensure(GIZMO, images.infra)
    path = workshop.cache_folder / "build-gizmo.log"
    assert str(path) in failed.value.hint
    assert "all the details" in path.read_text()


async def test_a_full_disk_is_called_so(workshop: Workshop, images: Images) -> None:
    workshop.write(f"{DOCKERFILE}RUN head -c 1G /dev/zero > /dev/shm/much\n")
    with pytest.raises(DiskFull, match="the disk is full") as failed:
        await workshop.builder.ensure(GIZMO, images.infra)
    assert "docker system df" in failed.value.hint


async def test_a_parent_that_is_gone_is_a_clear_error(workshop: Workshop) -> None:
    with pytest.raises(BuildFailed, match="gizmo image could not be built"):
        await workshop.builder.ensure(GIZMO, f"sha256:{'0' * 64}")


async def test_a_build_that_is_cancelled_leaves_nothing(
    workshop: Workshop, images: Images, docker: aiodocker.Docker
) -> None:
    workshop.write(f"{DOCKERFILE}RUN echo RUNNING $0 && sleep 1000\n")
    async with asyncio.timeout(60):
        task = asyncio.create_task(workshop.builder.ensure(GIZMO, images.infra))
        await workshop.building.wait()
        before = await running_sleepers(docker)
        assert len(before) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        container = docker.containers.container(before[0])
        with pytest.raises(aiodocker.DockerError):
            # Answers when the engine has ended it, or says that there is none any more.
            await container.wait(condition="removed")
            await container.show()
    assert list(workshop.cache_folder.iterdir()) == []


async def running_sleepers(docker: aiodocker.Docker) -> list[str]:
    """The build containers that run the step of the test above."""
    found = await docker.containers.list(all=True)
    return [
        str(it.id) for it in found if "sleep 1000" in it["Command"] and "RUNNING" in it["Command"]
    ]
