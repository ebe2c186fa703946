"""The plain Debian 12 image: pulled if a registry answers, else made by debootstrap."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiodocker
import aiohttp

from dit4c_p2p.engine_api import request
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.command import CommandFailed, run_command
from dit4c_p2p.imagebuild.disk import DiskFull, says_disk_full
from dit4c_p2p.imagebuild.docker_daemon import install_packages, on_debian
from dit4c_p2p.imagebuild.progress import Progress

log = logging.getLogger(__name__)

SUITE = "bookworm"
PULLED = f"debian:{SUITE}-slim"
STEP = "Debian image"

# A registry that is there answers at once, and then keeps sending.
_PULL_SILENCE_S = 15.0
_DEBOOTSTRAP_S = 1800.0
_IMPORT_S = 600.0

# What is left out of the image; the base image tells dpkg the same for what is installed later.
_LEFT_OUT = (
    "./var/cache/*",
    "./var/lib/apt/lists/*",
    "./var/log/*.log",
    "./usr/share/doc/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
)

_DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class DebianMirrors:
    """Debian servers of this machine. ``archive`` is empty if it is unknown."""

    archive: str
    sources_list: str


async def ensure_debian(
    docker: aiodocker.Docker,
    tag: str,
    architecture: str,
    work_folder: Path,
    progress: Progress,
) -> str:
    """Return the id of the image ``tag`` (``name:version``); make it if it is missing.

    ``work_folder`` has to allow devices and programs, as most folders but ``/tmp`` do; it needs
    400 MB for a while.

    :raises ConfigError: it can be neither pulled nor made; the hint says what to do.
    :raises DiskFull: there is no room for it.
    """
    image_id = await debian_image_id(docker, tag)
    if image_id is None:
        image_id = await _pull_debian(docker, progress)
        if image_id is None:
            image_id = await _bootstrap_debian(docker, architecture, work_folder, progress)
        repository, _, version = tag.rpartition(":")
        await docker.images.tag(image_id, repository, tag=version)
        progress(STEP, "ready")
    return image_id


async def debian_image_id(docker: aiodocker.Docker, reference: str) -> str | None:
    """Return the id (``sha256:…``) of an image that the engine has, or None."""
    try:
        return str((await docker.images.inspect(reference))["Id"])
    except aiodocker.DockerError as error:
        if error.status == 404:
            return None
        raise


async def _pull_debian(docker: aiodocker.Docker, progress: Progress) -> str | None:
    """Return the id of :data:`PULLED` if the engine has it or can pull it, else None."""
    image_id = await debian_image_id(docker, PULLED)
    if image_id is not None:
        return image_id
    progress(STEP, f"pulling {PULLED}")
    items = docker.images.pull(PULLED, stream=True)
    try:
        while True:
            async with asyncio.timeout(_PULL_SILENCE_S):
                item = await anext(items, None)
            if item is None:
                break
            progress(STEP, f"pulling {PULLED}: {item.get('status', '')}")
    except (aiodocker.DockerError, aiohttp.ClientError, TimeoutError) as error:
        log.info("%s can't be pulled (%s); making it with debootstrap", PULLED, error)
        return None
    return await debian_image_id(docker, PULLED)


async def _bootstrap_debian(
    docker: aiodocker.Docker, architecture: str, work_folder: Path, progress: Progress
) -> str:
    """Make Debian by debootstrap and import it; return the new image's id."""
    if os.geteuid() != 0:
        raise ConfigError(
            f"{PULLED} can't be pulled, and only root can make a Debian image",
            hint=f"Run once as root, or bring the image along: docker load < {SUITE}-slim.tar.",
        )
    if shutil.which("debootstrap") is None:
        if not on_debian():
            raise ConfigError(
                f"{PULLED} can't be pulled, and debootstrap is not installed",
                hint="Install debootstrap, or see that the engine reaches its registry.",
            )
        await install_packages(("debootstrap",), progress, STEP)
    mirrors = await _debian_mirrors()
    with tempfile.TemporaryDirectory(
        prefix="debian-", dir=work_folder, ignore_cleanup_errors=True
    ) as folder:
        root = Path(folder) / "root"
        await _debootstrap(root, architecture, mirrors, progress)
        if mirrors.sources_list:
            (root / "etc/apt/sources.list").write_text(mirrors.sources_list)
        progress(STEP, "importing")
        return await _import_debian(docker, root)


async def _debootstrap(
    root: Path, architecture: str, mirrors: DebianMirrors, progress: Progress
) -> None:
    """Unpack Debian into ``root``, which does not exist yet."""
    # Its own mount and process namespaces: however it ends, nothing stays mounted below ``root``.
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += ["debootstrap", "--variant=minbase"]
    argv += [f"--arch={_DEBIAN_ARCHITECTURES[architecture]}", SUITE, str(root)]
    argv += [mirrors.archive] if mirrors.archive else []
    try:
        await run_command(
            argv,
            on_line=lambda line: progress(STEP, line.removeprefix("I: ")),
            timeout_s=_DEBOOTSTRAP_S,
        )
    except CommandFailed as error:
        if says_disk_full(error.tail):
            raise DiskFull("a Debian image could not be made") from error
        reasons = [line[3:] for line in error.tail if line.startswith("E: ")]
        raise ConfigError(
            f"debootstrap failed: {reasons[-1] if reasons else str(error)}",
            hint="See that Debian's package servers can be reached, and try again.",
        ) from error


async def _debian_mirrors() -> DebianMirrors:
    """Return the servers that apt of this machine uses."""
    lines: list[str] = []
    form = "$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)"
    with contextlib.suppress(CommandFailed):
        await run_command(
            ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
            on_line=lines.append,
            timeout_s=30,
        )
    return read_debian_mirrors(lines)


def read_debian_mirrors(lines: list[str]) -> DebianMirrors:
    """Read lines of origin, release, component and address, as ``indextargets`` prints them.

    This machine may run another release of Debian than the images do: the servers are the same.
    """
    archive = ""
    sources: list[str] = []
    for line in lines:
        origin, release, component, address = (line.split(" ") + [""] * 4)[:4]
        if origin != "Debian" or component != "main" or not address:
            continue
        _, dash, pocket = release.partition("-")
        if pocket not in {"", "updates", "security"}:
            continue
        entry = f"deb {address} {SUITE}{dash}{pocket} main\n"
        if entry not in sources:
            sources.append(entry)
        if not pocket and not archive:
            archive = address
    return DebianMirrors(archive, "".join(sources) if archive else "")


async def _import_debian(docker: aiodocker.Docker, root: Path) -> str:
    """Import ``root`` as the only layer of a new image; return the image's id."""
    argv = ["tar", "--create", "--numeric-owner", f"--directory={root}"]
    argv += [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    tar = await asyncio.create_subprocess_exec(
        *argv, ".", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    assert tar.stdout is not None
    try:
        async with request(
            docker,
            "images/create",
            "POST",
            params={"fromSrc": "-"},
            data=_tar_chunks(tar.stdout),
            headers={"Content-Type": "application/x-tar"},
            limit_s=_IMPORT_S,
        ) as response:
            answer = [json.loads(line) async for line in response.content if line.strip()]
        status = await tar.wait()
    finally:
        if tar.returncode is None:
            tar.kill()
            await tar.wait()
    last = answer[-1] if answer else {"error": "no answer"}
    if says_disk_full([str(last.get("error"))]):
        raise DiskFull("the engine did not take the Debian image")
    if status != 0 or "error" in last:
        raise ConfigError(
            f"the engine did not take the Debian image: {last.get('error', 'it was cut short')}",
            hint="Try again.",
        )
    return str(last["status"])


async def _tar_chunks(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await stream.read(1 << 20):
        yield chunk
