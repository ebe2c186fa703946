"""What the agent keeps of an instance on disk, in ``<data>/node/instances/<id>/``, mode 0700.

- ``key``: the instance's private key, made here and nowhere else, gone with the pod;
- ``published``: there once the instance has been reachable, so that its app's files may hold a
  user's work: from then on its pod is never made anew;
- ``reason``: why the agent itself stopped the pod, as a sentence.
"""

import shutil
from pathlib import Path

import asyncssh

from dit4c_p2p.identity.keys import load_or_create


class InstanceFolder:
    """One instance's. ``instance`` is a checked id, so the path can't lead anywhere else."""

    def __init__(self, node_folder: Path, instance: str) -> None:
        self._path = node_folder / "instances" / instance

    def key(self) -> asyncssh.SSHKey:
        """The instance's key: the same one each time, until :meth:`remove`."""
        return load_or_create(self._path / "key")

    @property
    def published(self) -> bool:
        """Whether the instance was ever reachable."""
        return (self._path / "published").exists()

    def set_published(self) -> None:
        """It is reachable now."""
        self._write("published", "")

    @property
    def reason(self) -> str:
        """Why the agent stopped the pod; empty if it did not."""
        path = self._path / "reason"
        return path.read_text() if path.exists() else ""

    def set_reason(self, reason: str) -> None:
        """Write down why, before the pod is stopped; empty: it is not to be stopped any more."""
        if reason:
            self._write("reason", reason)
        else:
            (self._path / "reason").unlink(missing_ok=True)

    def remove(self) -> None:
        """Nothing of the instance is left on disk."""
        if self._path.exists():
            shutil.rmtree(self._path)

    def _write(self, name: str, text: str) -> None:
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = self._path / f"{name}.partial"
        partial.write_text(text)
        partial.replace(self._path / name)


def instances_kept(node_folder: Path) -> set[str]:
    """The ids of all instances that something is kept of."""
    folder = node_folder / "instances"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
