"""The agent's files of an instance, in ``<data>/node/instances/<id>/``, mode 0700.

- ``key``: the instance's private key, made here and nowhere else, gone with the pod;
- ``published``: there once the instance has been reachable, so that its app's files may hold a
  user's work: from then on its pod is never made anew;
- ``reason``: how its app ended or why the agent stopped it, as a sentence: it is to stay down;
- ``notice``: what its user is told while it runs;
- ``run``: which run of the app is wanted, and when the one before it began.

Whatever is done with it raises :class:`FilesFailed` where the disk is full or does not work, and
leaves each file as it was.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from dit4c_p2p.atomic_file import NotWritten, write_whole
from dit4c_p2p.identity.keys import load_or_create
from dit4c_p2p.node.errors import FilesFailed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppRun:
    """One run of an app: from a start by its user, or after an interruption, to its end.

    ``number`` is that of ``StartPod``. ``before`` is the time, as the engine writes it, when the
    app's container had been started last before this run; empty in the first. As long as the
    container still says so, it has not been started in this run.
    """

    number: int = 1
    before: str = ""


class InstanceFolder:
    """One instance's. ``instance`` is a checked id, so the path can't lead anywhere else."""

    def __init__(self, node_folder: Path, instance: str) -> None:
        self._path = node_folder / "instances" / instance

    def key(self) -> asyncssh.SSHKey:
        """The instance's key: the same one each time, until it is replaced or removed."""
        with _kept_files_error():
            return load_or_create(self._path / "key")

    @property
    def key_run(self) -> int:
        """How often the key was replaced, see ``StartPod``."""
        return int(self._read("key_run") or 0)

    def replace_key(self, key_run: int) -> None:
        """Have :meth:`key` make another; the key of before is gone."""
        with _kept_files_error():
            (self._path / "key").unlink(missing_ok=True)
        self._write("key_run", str(key_run))

    @property
    def published(self) -> bool:
        """Whether the instance has ever been reachable."""
        with _kept_files_error():
            return (self._path / "published").exists()

    def set_published(self) -> None:
        """Note that the instance is reachable."""
        self._write("published", "")

    @property
    def run(self) -> AppRun:
        """Return the run that is wanted now."""
        number, _, before = self._read("run").partition(" ")
        return AppRun(int(number), before) if number else AppRun()

    def begin(self, run: AppRun) -> None:
        """That run is wanted from now on, whatever had ended the one before."""
        self._write("run", f"{run.number} {run.before}")
        self.set_reason("")
        self.set_notice("")

    @property
    def notice(self) -> str:
        """What its user is told while it runs; may be empty."""
        return self._read("notice")

    def set_notice(self, notice: str) -> None:
        """Tell its user something from now on; empty: nothing any more."""
        self._set("notice", notice)

    @property
    def reason(self) -> str:
        """Why the pod is to stay down; empty if it is not."""
        return self._read("reason")

    def set_reason(self, reason: str) -> None:
        """Write down why, before the pod is stopped; empty: it is not to be stopped any more."""
        self._set("reason", reason)

    def remove(self) -> None:
        """Remove all files of the instance."""
        with _kept_files_error():
            if self._path.exists():
                shutil.rmtree(self._path)

    def _read(self, name: str) -> str:
        path = self._path / name
        with _kept_files_error():
            return path.read_text() if path.exists() else ""

    def _set(self, name: str, text: str) -> None:
        if text:
            self._write(name, text)
        else:
            with _kept_files_error():
                (self._path / name).unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        with _kept_files_error():
            write_whole(self._path / name, text.encode())


def instances_with_files(node_folder: Path) -> set[str]:
    """Return the ids of all instances that have files."""
    folder = node_folder / "instances"
    with _kept_files_error():
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@contextmanager
def _kept_files_error() -> Iterator[None]:
    """Which file it is about is for the machine's owner, in the log; users are told the rest."""
    try:
        yield
    except NotWritten as error:
        _log.error("%s", error.one_line())
        raise FilesFailed(error.error) from None
    except OSError as error:
        _log.error("the files of a pod: %s", error)
        raise FilesFailed(error) from None
