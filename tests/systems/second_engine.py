"""A container engine of a test's own, to be restarted and cut off: the shared one is left alone.

It has its own folder, socket, bridge and containerd, and touches no packet filter of the machine's.
Its data is on a tmpfs, whose size is also how a full disk is made.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from systems.pods import Images, docker

_UP_S = 60
_DOWN_S = 60
# At the same time; more are left over from tests that were killed.
_MOST_ENGINES = 16


class SecondEngine:
    """``with SecondEngine(folder) as engine``: it runs; ``engine.url`` is where.

    :param networks: how the addresses of its pods begin; what they left behind is removed.
    """

    def __init__(self, folder: Path, *, size: str = "1g", networks: str = "10.216.") -> None:
        self.folder = folder
        self._size = size
        self._networks = networks
        self._bridge = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/engine.sock"

    def __enter__(self) -> "SecondEngine":
        for name in ("data", "exec"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "config.json").write_text("{}")
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", f"{self.folder}/data")
        number = self._add_bridge()
        _run("ip", "address", "add", f"10.217.{number}.1/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.cut_power()
        self._unmount(self.folder)
        subprocess.run(["ip", "link", "delete", self._bridge], check=False)
        for link in self._bridges():
            subprocess.run(["ip", "link", "delete", link], check=False)

    def _add_bridge(self) -> int:
        """Make a bridge that no engine of another test has; its number."""
        for number in range(_MOST_ENGINES):
            self._bridge = f"dit4ctest{number}"
            add = ["ip", "link", "add", self._bridge, "type", "bridge"]
            if subprocess.run(add, capture_output=True).returncode == 0:
                return number
        raise AssertionError(f"{_MOST_ENGINES} engines of tests have a bridge")

    def start(self) -> None:
        """Start it, and return once it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--data-root={self.folder}/data",
                    f"--exec-root={self.folder}/exec",
                    f"--pidfile={self.folder}/pid",
                    f"--host={self.url}",
                    f"--bridge={self._bridge}",
                    "--iptables=false",
                    "--ip-masq=false",
                    f"--config-file={self.folder}/config.json",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + _UP_S
        while subprocess.run(["docker", "-H", self.url, "info"], capture_output=True).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < end, "the second engine does not come up"
            time.sleep(0.2)

    def stop(self) -> None:
        """As an upgrade of the engine, or an orderly shutdown of the machine does."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(_DOWN_S)

    def cut_power(self) -> None:
        """All of its processes, and its containers', are gone at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_DOWN_S)
        # A shim names the engine's folder on its command line; its children are the containers.
        end = time.monotonic() + _DOWN_S
        while found := self._processes():
            assert time.monotonic() < end, "processes of the second engine remain"
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        (self.folder / "pid").unlink(missing_ok=True)
        # What is below /run on a machine does not survive a reboot.
        self._unmount(self.folder / "exec")
        shutil.rmtree(self.folder / "exec", ignore_errors=True)

    def load(self, images: Images) -> None:
        """Copy a test's images."""
        self.copy(*sorted(set(vars(images).values())))

    def copy(self, *names: str) -> None:
        """Copy images from the machine's engine, ids and all."""
        saving = subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "-H", self.url, "load"],
            stdin=saving.stdout,
            check=True,
            capture_output=True,
            timeout=120,
        )
        assert saving.wait(60) == 0

    def another(self, image: str) -> str:
        """The id of an image that does the same, as an upgrade brings."""
        made = self.docker("create", image)
        try:
            return self.docker("commit", "-m", "newer", made)
        finally:
            self.docker("rm", made)

    def docker(self, *arguments: str, check: bool = True) -> str:
        """One command of the engine's own client."""
        return docker("-H", self.url, *arguments, check=check)

    def _unmount(self, folder: Path) -> None:
        """All that is mounted below a folder."""
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)

    def _processes(self) -> set[int]:
        """Those with the folder on their command line, and all that descend from them."""
        parents, ours = {}, set()
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                command = (path / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] == "Z":
                continue
            parents[int(path.name)] = int(fields[1])
            if f"{self.folder}/".encode() in command:
                ours.add(int(path.name))
        grown = True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in ours} - ours
            ours, grown = ours | more, bool(more)
        return ours - {os.getpid()}

    def _bridges(self) -> list[str]:
        """What its networks left behind, by the range that tests take for them."""
        listed = subprocess.run(
            ["ip", "-o", "-4", "address", "show"], capture_output=True, check=True, text=True
        ).stdout
        lines = [line.split() for line in listed.splitlines()]
        return [words[1] for words in lines if words[3].startswith(self._networks)]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
