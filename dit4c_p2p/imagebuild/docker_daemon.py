"""Find the Docker engine of this machine, or install and start it.

This is the one place that starts an engine; ``python -m dit4c_p2p.imagebuild engine`` calls it from
scripts.
"""

import asyncio
import logging
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import aiodocker
import aiohttp

from dit4c_p2p.engine_address import USUAL, engine_address
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.command import CommandFailed, run_command
from dit4c_p2p.imagebuild.progress import Progress

log = logging.getLogger(__name__)

STEP = "Docker engine"
DAEMON_LOG = Path("/var/log/dit4c-dockerd.log")

# What an engine of a Linux distribution calls a machine, and what wheels and Debian's tools do.
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}

_ANSWER_S = 5.0
_INSTALL_S = 1200.0
# A first start makes its storage; seconds as a rule.
_START_S = 60.0
_POLL_S = 0.2

# apparmor: where the kernel has it on, the engine refuses to start a container without its parser.
# cgroupfs-mount: only does something where no systemd has mounted the control groups.
_PACKAGES = ("docker.io", "apparmor", "cgroupfs-mount")


@dataclass(frozen=True)
class DockerDaemon:
    """An engine that answers. ``architecture`` is ``x86_64`` or ``aarch64``.

    ``url`` is None where this user's environment says where it is, or nothing does.
    ``started_pid`` is the daemon's process id if :func:`ensure_engine` started it itself just now.
    """

    version: str
    architecture: str
    url: str | None = None
    started_pid: int | None = None

    @property
    def address(self) -> str:
        """The engine's address, for other programs that have to use the same engine."""
        return self.url or engine_address()

    def client(self, *, call_s: float | None = None) -> aiodocker.Docker:
        """Return a client for use as ``async with``; each call may take ``call_s`` seconds."""
        return _docker_client(self.url, call_s)


async def ensure_engine(progress: Progress, url: str | None = None) -> DockerDaemon:
    """Return the engine at ``url``; None means the environment's, or else this machine's own.

    This machine's own engine is started if necessary; the daemon outlives this process.

    :raises ConfigError: no engine answers and none can be started; the hint says what to do.
    """
    engine = await find_engine(url)
    if engine is None:
        engine = await _start_engine(progress, url)
    progress(STEP, f"{engine.version}, ready")
    return engine


async def find_engine(url: str | None = None) -> DockerDaemon | None:
    """Return the engine that answers, or None; for ``url`` see :func:`ensure_engine`.

    :raises ConfigError: the engine can't be used: this user may not access it, a configured address
        does not answer, or its architecture has no images here.
    """
    elsewhere = _engine_elsewhere_error(url)
    try:
        docker = _docker_client(url, _ANSWER_S)
    except (AssertionError, AttributeError, ValueError, aiodocker.DockerError) as error:
        # Without anything set, this is how aiodocker says that there is no socket; and of a pipe of
        # Windows, that there are none here.
        if elsewhere is not None:
            raise elsewhere from error
        return None
    async with docker:
        try:
            version = await docker.version()
        except (aiodocker.DockerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            if _engine_denies_access(error):
                raise ConfigError(
                    "this user may not speak to the Docker engine",
                    hint="Run as root, or: sudo usermod -aG docker $USER, and log in again.",
                ) from error
            if elsewhere is not None:
                raise elsewhere from error
            return None
    architecture = ARCHITECTURES.get(version["Arch"])
    if version["Os"] != "linux" or architecture is None:
        raise ConfigError(
            f"the Docker engine is for {version['Os']} on {version['Arch']}",
            hint="One for Linux on amd64 or arm64 is needed.",
        )
    return DockerDaemon(version=version["Version"], architecture=architecture, url=url)


def on_debian(release: Path = Path("/etc/os-release")) -> bool:
    """Whether this is Debian or a derivative, so that ``apt-get`` installs ``docker.io``."""
    try:
        lines = release.read_text().splitlines()
    except OSError:
        return False
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    words = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
    return "debian" in words and shutil.which("apt-get") is not None


async def install_packages(packages: tuple[str, ...], progress: Progress, step: str) -> None:
    """Run ``apt-get install`` as root, with progress reported as ``step``.

    :raises ConfigError: the installation failed.
    """

    async def apt_get(*arguments: str) -> None:
        await run_command(
            ["apt-get", *arguments],
            on_line=lambda line: progress(step, line),
            timeout_s=_INSTALL_S,
            environment={"DEBIAN_FRONTEND": "noninteractive"},
        )

    try:
        await apt_get("update", "-q")
    except CommandFailed as error:
        # One server of several that is out of order need not matter.
        log.warning("%s; going on with the lists that are there", error)
    try:
        await apt_get("install", "-qy", "--no-install-recommends", *packages)
    except CommandFailed as error:
        raise ConfigError(
            f"installing {packages[0]} failed: {error.tail[-1] if error.tail else error}",
            hint=f"Try it yourself: apt-get update && apt-get install {' '.join(packages)}.",
        ) from error


def _docker_client(url: str | None, call_s: float | None) -> aiodocker.Docker:
    if url is None and os.environ.get("DOCKER_HOST") == "":
        url = USUAL  # to Docker's own command, empty is as good as not set
    return aiodocker.Docker(url=url, timeout=aiohttp.ClientTimeout(total=call_s))


def _engine_elsewhere_error(url: str | None) -> ConfigError | None:
    """Return the error for a configured engine that does not answer; None for the local one."""
    if url == USUAL:
        return None
    address, instead = url, "name another one"
    if url is None:
        address = os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT")
        instead = "unset DOCKER_HOST and DOCKER_CONTEXT"
    if not address:
        return None
    return ConfigError(
        f"the Docker engine at {address} does not answer", hint=f"Start it, or {instead}."
    )


def _engine_denies_access(error: BaseException) -> bool:
    """Whether access was denied; aiodocker hides the operating system's error two levels down."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PermissionError):
            return True
        if isinstance(seen, aiohttp.ClientConnectorError):
            return isinstance(seen.os_error, PermissionError)
        seen = seen.__cause__ or seen.__context__
    return False


async def _start_engine(progress: Progress, url: str | None) -> DockerDaemon:
    if os.geteuid() != 0:
        raise ConfigError(
            "no Docker engine answers and only root can start one",
            hint="Run as root, or: sudo apt-get install docker.io && "
            "sudo usermod -aG docker $USER, and log in again.",
        )
    if shutil.which("dockerd") is None:
        if not on_debian():
            raise ConfigError(
                "no Docker engine is installed", hint="Install Docker, start it, and try again."
            )
        progress(STEP, "installing docker.io")
        await install_packages(_PACKAGES, progress, STEP)
    progress(STEP, "starting")
    if Path("/run/systemd/system").is_dir():
        return await _start_docker_service(url)
    return await _start_docker_daemon(url)


async def _start_docker_service(url: str | None) -> DockerDaemon:
    """Start the engine as a service, on a machine that runs systemd."""
    try:
        await run_command(
            ["systemctl", "start", "docker"], on_line=lambda line: None, timeout_s=_START_S
        )
    except CommandFailed as error:
        raise ConfigError(
            "the Docker engine does not start", hint="See: systemctl status docker."
        ) from error
    engine = await _wait_for_engine(None, url)
    if engine is None:
        raise ConfigError(
            "the Docker engine was started and does not answer",
            hint="See: systemctl status docker.",
        )
    return engine


async def _start_docker_daemon(url: str | None) -> DockerDaemon:
    """Start a daemon in a session of its own, which writes to :data:`DAEMON_LOG`."""
    daemon = _spawn_docker_daemon()
    engine = await _wait_for_engine(daemon, url)
    if engine is None:
        raise ConfigError(
            f"the Docker engine does not start: {_last_line_of_daemon_log(DAEMON_LOG)}",
            hint=f"Its whole log is in {DAEMON_LOG}.",
        )
    return replace(engine, started_pid=daemon.pid)


def _spawn_docker_daemon() -> subprocess.Popen[bytes]:
    # Not asyncio's: its transport would end the daemon together with the event loop.
    with DAEMON_LOG.open("wb") as log:
        return subprocess.Popen(
            ["dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


async def _wait_for_engine(
    daemon: subprocess.Popen[bytes] | None, url: str | None
) -> DockerDaemon | None:
    """Return the engine once it answers; None if its process ends or the time is up."""
    try:
        async with asyncio.timeout(_START_S):
            while daemon is None or daemon.poll() is None:
                engine = await find_engine(url)
                if engine is not None:
                    return engine
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return None
    return None


def _last_line_of_daemon_log(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return str(error.strerror)
    return lines[-1] if lines else "it wrote no log"
