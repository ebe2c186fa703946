"""A computer of its own, as far as a program can tell: what is done there leaves no trace here.

It has its own network, host name, processes and mounts. ``/etc`` is a copy, and the folders that an
installation writes to are empty ones in memory. The programs of ``stand_ins.py`` come first on its
path. Its end takes along everything that runs in it, a Docker daemon with its containers too.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STAND_INS = Path(__file__).parents[1] / "fakes/debian_commands.py"
STANDING_IN = ("apt-get", "certbot", "git", "journalctl", "systemctl")
COMMAND_S = 120
_BOOT_S = 20

# Its name, the tests' packages, the program's source, the /opt of all machines, stand_ins.py, and
# the names to stand in for.
_BOOT = """set -e
name=$1 packages=$2 source=$3 opt=$4 stand_ins=$5; shift 5
hostname "$name"
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/packages /mnt/source /mnt/etc
mount --bind "$packages" /mnt/packages
mount --bind -o ro "$source" /mnt/source
cp -a /etc/. /mnt/etc
cp "$stand_ins" /mnt/stand_ins.py
chmod 755 /mnt/stand_ins.py
mount --bind /mnt/etc /etc
mount --bind "$opt" /opt
for folder in /root /run /usr/local/bin /usr/local/sbin /usr/src /usr/lib/sysusers.d /var/cache \
    /var/lib /var/log; do
  mount -t tmpfs -o mode=755 tmpfs "$folder"
done
for one; do ln -s /mnt/stand_ins.py "/usr/local/sbin/$one"; done
rm -f /etc/docker/daemon.json /etc/sudoers.d/* /etc/resolv.conf
printf '127.0.0.1 localhost\\n' > /etc/hosts
ip link set lo up
touch /mnt/booted
while sleep 3600; do :; done
"""


class Machine:
    """``with Machine(name, …) as machine``: it is on, without a network yet."""

    def __init__(self, name: str, source: Path, opt: Path) -> None:
        self.name = name
        self.environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        packages = Path(next(path for path in sys.path if path.endswith("-packages")))
        self._boot = [name, packages, source, opt, STAND_INS, *STANDING_IN]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process whose namespaces are the machine's (but for that of its processes)."""
        assert self._process is not None
        return self._process.pid

    @property
    def root(self) -> Path:
        """Its files, seen from here."""
        return Path(f"/proc/{self.pid}/root")

    def __enter__(self) -> "Machine":
        bash = shutil.which("bash", path=PATH)
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child",
             "--mount-proc", "--propagation", "private",
             str(bash), "-c", _BOOT, "boot", *map(str, self._boot)],
            env=self.environment, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + _BOOT_S
        # Before it has mounts of its own, that path is the one of here, where nothing puts it.
        while not (self.root / "mnt/booted").exists():
            assert self._process.poll() is None, f"{self.name} does not boot"
            assert time.monotonic() < end, f"{self.name} does not boot"
            time.sleep(0.02)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process is not None
        # Its first process dies with this one, and the kernel ends all others of the machine.
        self._process.kill()
        self._process.wait()

    def inside(self, *command: str) -> list[str]:
        """The command line, here, that runs a command there."""
        processes = f"--pid=/proc/{self.pid}/ns/pid_for_children"
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", processes,
                "--wdns=/", *command]  # fmt: skip

    def run(self, command: str, *, check: bool = True, timeout: float = COMMAND_S) -> str:
        """A line typed at root's prompt; what it has printed, errors too."""
        done = subprocess.run(
            self.inside("bash", "-c", command),
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{self.name}# {command}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """A file there, as an editor makes it."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)

    def log(self, unit: str) -> str:
        """What a service has written."""
        file = self.root / "var/log" / f"{unit}.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def wait_said(self, unit: str, words: str, *, timeout: float = 60) -> None:
        """Until a service has written these words."""
        end = time.monotonic() + timeout
        while words not in self.log(unit):
            assert time.monotonic() < end, f"{unit} never says {words!r}:\n{self.log(unit)}"
            time.sleep(0.05)

    def network(self, *command: str) -> None:
        """A command of this computer in the machine's network alone; it sees others' processes."""
        line = ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]
        done = subprocess.run(line, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{' '.join(line)}: {done.stderr}"

    def link(self, device: str, other: "Machine", its_device: str) -> None:
        """A cable between two, made inside: no interface comes or goes on this computer."""
        self.network(
            "ip", "link", "add", device, "type", "veth",
            "peer", "name", its_device, "netns", str(other.pid),
        )  # fmt: skip
        self.network("ip", "link", "set", device, "up")
        other.network("ip", "link", "set", its_device, "up")

    def daemon(self, *command: str) -> subprocess.Popen[bytes]:
        """Something that runs there for as long as the machine does."""
        return subprocess.Popen(
            self.inside(*command), env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def missing() -> str:
    """What this computer lacks to be several; empty if nothing. Debian's own Python has to be of
    the tests' release, so that it can use their packages.
    """
    if os.geteuid() != 0:
        return "root"
    for program in ("nft", "nsenter", "setpriv", "systemd-sysusers", "unshare"):
        if shutil.which(program, path=PATH) is None:
            return program
    said = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys, ensurepip; print(sys.version_info[:2])"],
        capture_output=True, text=True, check=False, timeout=30,
    ).stdout.strip()  # fmt: skip
    return "" if said == str(sys.version_info[:2]) else "Debian's Python of the tests' release"
