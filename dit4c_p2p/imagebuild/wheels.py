"""Wheels for the images, downloaded by this machine's pip and cached.

A build can't reach the package index; it installs the wheels that are copied into it.
"""

import hashlib
import importlib.util
import sys
import tempfile
from pathlib import Path

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild.command import CommandFailed, run_command
from dit4c_p2p.imagebuild.disk import DiskFull, says_disk_full
from dit4c_p2p.imagebuild.progress import Progress

# Debian 12's. What is downloaded has to fit it, whatever Python runs here.
PYTHON_VERSION = "3.11.2"
_GLIBC_MINOR = 36
# The oldest C library that wheels name in this way (manylinux2014).
_GLIBC_MINOR_OLDEST = 17

_DOWNLOAD_S = 1800.0


def platform_tags(architecture: str) -> tuple[str, ...]:
    """Return the wheel platforms of Debian 12 on ``x86_64`` or ``aarch64``, newest first."""
    minors = range(_GLIBC_MINOR, _GLIBC_MINOR_OLDEST - 1, -1)
    newer = (f"manylinux_2_{minor}_{architecture}" for minor in minors)
    return (*newer, f"manylinux2014_{architecture}", "any")


async def ensure_wheels(
    requirements: Path, architecture: str, cache_folder: Path, progress: Progress, step: str
) -> Path:
    """Return the folder of wheels for the file ``requirements``; download them if they are missing.

    The folder is below ``cache_folder``, named after the requirements; it appears when it is whole.

    :raises ConfigError: pip is missing, or a wheel is not available; the hint says what to do.
    :raises DiskFull: there is no room for them.
    """
    wanted = f"{PYTHON_VERSION} {architecture}\n{requirements.read_text()}"
    name = f"{architecture}-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    folder = cache_folder / "wheels" / name
    if folder.is_dir():
        return folder
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(
            "pip is missing from this Python, and the images need wheels",
            hint=f"Run: {sys.executable} -m ensurepip.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=folder.parent) as partial:
        whole = Path(partial) / "wheels"
        await _download(requirements, architecture, whole, progress, step)
        whole.rename(folder)
    return folder


async def _download(
    requirements: Path, architecture: str, folder: Path, progress: Progress, step: str
) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--no-input", "--progress-bar=off"]
    argv += [f"--dest={folder}", f"--requirement={requirements}"]
    argv += [f"--python-version={PYTHON_VERSION}", "--implementation=cp", "--only-binary=:all:"]
    argv += [f"--platform={tag}" for tag in platform_tags(architecture)]

    def on_line(line: str) -> None:
        if line.startswith(("Collecting ", "Downloading ", "Saved ")):
            progress(step, line)

    progress(step, "downloading wheels")
    try:
        await run_command(argv, on_line=on_line, timeout_s=_DOWNLOAD_S)
    except CommandFailed as error:
        if says_disk_full(error.tail):
            doing = f"wheels for the {requirements.parent.name} image could not be downloaded"
            raise DiskFull(doing) from error
        errors = [line for line in error.tail if line.startswith("ERROR: ")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else str(error)
        raise ConfigError(
            f"wheels for the {requirements.parent.name} image can't be downloaded: {reason}",
            hint="See that pip can reach a package index from here, and try again.",
        ) from error
