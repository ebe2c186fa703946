"""Docker, skopeo and podman use the image server as any other registry."""

import asyncio
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio
from systems.image_server import ImageServerAtWork
from systems.pods import docker

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

REPOSITORY = "instances/stock"
# The user "all" may do everything, and its password is its name.
LOGIN = "all:all"


async def run(*command: str, **environment: str) -> str:
    """What a program has printed.

    :raises AssertionError: it failed; with what it said.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry(tmp_path_factory):
    """An image server with an image that docker has pushed, and a folder with docker's login."""
    folder = tmp_path_factory.mktemp("stock")
    archive = folder / "layer.tar"
    (folder / "file").write_bytes(os.urandom(3_000_000))
    with tarfile.open(archive, "w") as tar:
        tar.add(folder / "file", "file")
    async with ImageServerAtWork(folder / "server") as work:
        tag = f"{work.address}/{REPOSITORY}:v1"
        await run("docker", "import", str(archive), tag)
        work.login = {"DOCKER_CONFIG": str(folder / "docker")}
        try:
            await run("docker", "login", "-u", "all", "-p", "all", work.address, **work.login)
            await run("docker", "push", "--quiet", tag, **work.login)
        finally:
            await asyncio.to_thread(docker, "rmi", tag)
        work.tag = tag
        yield work


async def test_docker_pulls_what_it_pushed(registry):
    await run("docker", "pull", "--quiet", registry.tag, **registry.login)
    try:
        shown = json.loads(await run("docker", "inspect", registry.tag))[0]
    finally:
        await asyncio.to_thread(docker, "rmi", registry.tag)
    async with registry.api() as api:
        found = await api.ask("GET", f"/v2/{REPOSITORY}/manifests/v1")
    assert found.json["config"]["digest"] == shown["Id"]


async def test_docker_is_told_that_a_login_is_wrong(registry, tmp_path):
    with pytest.raises(AssertionError, match=r"unauthorized|401"):
        await run("docker", "login", "-u", "eve", "-p", "all", registry.address,
                  DOCKER_CONFIG=str(tmp_path))  # fmt: skip


async def test_skopeo_inspects_and_copies(registry, tmp_path):
    source = f"docker://{registry.tag}"
    options = ("--tls-verify=false", "--creds", LOGIN)
    shown = json.loads(await run("skopeo", "inspect", *options, source))
    assert shown["RepoTags"] == ["v1"]
    target = f"docker://{registry.address}/instances/copied:v2"
    await run("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
              "--src-creds", LOGIN, "--dest-creds", LOGIN, source, target)  # fmt: skip
    copied = json.loads(await run("skopeo", "inspect", *options, target))
    assert copied["Layers"] == shown["Layers"]
    await run("skopeo", "copy", "--src-tls-verify=false", "--src-creds", LOGIN, target,
              f"oci:{tmp_path / 'oci'}:v2")  # fmt: skip
    assert (tmp_path / "oci" / "index.json").exists()


@pytest.fixture
def short_folder():
    """Podman wants paths of 50 characters at the most."""
    with tempfile.TemporaryDirectory(prefix="podman") as folder:
        yield Path(folder)


async def test_podman_pulls_and_pushes(registry, short_folder):
    assert shutil.which("podman"), "the tests need Debian's podman"
    places = ("--root", str(short_folder / "root"), "--runroot", str(short_folder / "run"))
    podman = ("podman", *places, "--storage-driver", "vfs")
    options = ("--tls-verify=false", "--creds", LOGIN, "--quiet")
    await run(*podman, "pull", *options, registry.tag)
    target = f"{registry.address}/instances/podman:v3"
    await run(*podman, "push", *options, registry.tag, target)
    async with registry.api() as api:
        assert (await api.ask("GET", "/v2/instances/podman/tags/list")).json["tags"] == ["v3"]
