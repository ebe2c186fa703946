"""The contestants of the storage benchmark: each mounts a folder of a server of its own."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from systems.storage_mount import Mount, OwnServer, StockServer

_MOUNTED_S = 20.0


class Contestant(Protocol):
    """One way to mount; ``stored`` is the folder at the server, ``path`` where it is mounted."""

    name: str
    stored: Path
    path: Path

    def mount(self) -> None:
        """Mount with cold caches."""

    def unmount(self) -> None:
        """Unmount."""


@dataclass
class At:
    """A server behind a proxy."""

    port: int
    user: str
    folder: Path


class Ours:
    """The storage helper's file system on a file server of ours."""

    name = "ours"

    def __init__(self, server: OwnServer, port: int, path: Path) -> None:
        self.stored, self.path = server.stored, path
        self._at, self._shown = At(port, server.user, server.folder), server.shown
        self._mount: Mount | None = None

    def mount(self) -> None:
        """Mount with cold caches."""
        drop_caches()
        self._mount = Mount(self._at, self._shown, self.path, 600)
        # The other programs connect before they mount; this one answers when it has connected.
        self.path.stat()

    def unmount(self) -> None:
        """Unmount."""
        if self._mount is not None:
            self._mount.drain()  # as a pod's helper is told to end: its leases go back at once
            self._mount.end()
            self._mount = None


class Program:
    """A stock program that mounts, on a stock server."""

    def __init__(self, name: str, server: StockServer, stored: Path, port: int, path: Path) -> None:
        self.name, self.stored, self.path = name, stored, path
        self._port, self._keys = port, server.folder
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        key, hosts = self._keys / "user", self._keys / "known_hosts"
        public = (self._keys / "host.pub").read_text().split()
        hosts.write_text(f"[127.0.0.1]:{self._port} {public[0]} {public[1]}\n")
        if self.name == "sshfs":
            options = (
                f"IdentityFile={key},UserKnownHostsFile={hosts},StrictHostKeyChecking=yes,"
                "Ciphers=aes128-gcm@openssh.com,compression=no,kernel_cache,dir_cache=yes,"
                "max_conns=4"
            )
            where = f"root@127.0.0.1:{self.stored}"
            return ["sshfs", "-f", "-p", str(self._port), "-o", options, where, str(self.path)]
        return [
            *("rclone", "mount", f":sftp:{self.stored}", str(self.path), "--config", "/dev/null"),
            *("--sftp-host", "127.0.0.1", "--sftp-port", str(self._port), "--sftp-user", "root"),
            *("--sftp-key-file", str(key), "--sftp-known-hosts-file", str(hosts)),
            *("--vfs-cache-mode", "off", "--buffer-size", "16M", "--sftp-disable-hashcheck"),
        ]

    def mount(self) -> None:
        """Mount with cold caches."""
        drop_caches()
        self.path.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + _MOUNTED_S
        while not self.path.is_mount():
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not mount")
            time.sleep(0.02)

    def unmount(self) -> None:
        """Unmount."""
        if self._process is None:
            return
        subprocess.run(["umount", str(self.path)], check=False, stderr=subprocess.DEVNULL)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            subprocess.run(["umount", "-l", str(self.path)], check=False)
            self._process.terminate()
            self._process.wait(20)
        self._process = None


def drop_caches() -> None:
    """Have the kernel forget what it can; this needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def clear(folder: Path) -> None:
    """Empty a folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
