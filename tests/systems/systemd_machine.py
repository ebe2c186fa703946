"""A Debian with its own systemd as the first process, and PostgreSQL: units run as they are.

It is a container of the tests' engine, whose image is made once, from the one that ours begin with.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lib.install_steps import Luggage
from systems.machine import COMMAND_S, STAND_INS

IMAGE = "dit4c/test-systemd:local"
# What units with a sandbox need of the container around them.
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "NET_ADMIN")
STANDING_IN = ("apt-get", "certbot", "git")
SOCKET = Path("/var/run/docker.sock")
_RECIPE = """
FROM dit4c/debian:local
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -q \
 && apt-get install -yq --no-install-recommends iproute2 postgresql python3-venv systemd \
 && rm -rf /var/lib/apt/lists/*
"""
# Its own control groups are writable to nobody but it.
_BOOT = """
for one in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,rw "$one" 2>/dev/null; done
exec /lib/systemd/systemd
"""
_BUILD_S = 570
_BOOT_S = 30


class SystemdMachine:
    """``with SystemdMachine(name, luggage, hosts) as machine``: it has booted."""

    def __init__(self, name: str, luggage: Luggage, hosts: Mapping[str, str]) -> None:
        self.name = name
        self.environment: dict[str, str] = {}
        packages = next(path for path in sys.path if path.endswith("-packages"))
        mounts = {
            f"{packages}:/mnt/packages:ro",
            f"{luggage.source}:/mnt/source:ro",
            f"{luggage.opt}:/opt",
            f"{STAND_INS}:/mnt/stand_ins.py:ro",
            f"{SOCKET}:/run/docker.sock",
        }
        self._run = [
            "--detach",
            f"--hostname={name}",
            "--cgroupns=private",
            "--env=container=docker",
        ]
        self._run += [f"--security-opt={what}=unconfined" for what in ("seccomp", "apparmor")]
        self._run += [f"--cap-add={capability}" for capability in CAPABILITIES]
        self._run += [f"--tmpfs={folder}" for folder in ("/run", "/run/lock", "/tmp")]
        self._run += [f"--add-host={host}:{address}" for host, address in hosts.items()]
        self._run += [f"--volume={mount}" for mount in sorted(mounts)]
        self._id = ""

    def __enter__(self) -> "SystemdMachine":
        _docker("build", "--network=host", f"--tag={IMAGE}", "-", stdin=_RECIPE, timeout=_BUILD_S)
        self._id = _docker("run", *self._run, IMAGE, "sh", "-c", _BOOT).strip()
        end = time.monotonic() + _BOOT_S
        while self.run("systemctl is-system-running", check=False).strip() != "running":
            if time.monotonic() > end:
                said = self.run("systemctl --failed; journalctl -b", check=False)
                self.__exit__()
                raise AssertionError(f"{self.name} does not boot:\n{said}")
            time.sleep(0.1)
        for one in STANDING_IN:
            self.run(f"install -m 755 /mnt/stand_ins.py /usr/local/sbin/{one}")
        return self

    def __exit__(self, *error: object) -> None:
        _docker("rm", "--force", "--volumes", self._id)

    def run(self, command: str, *, check: bool = True, timeout: float = COMMAND_S) -> str:
        """A line typed at root's prompt; what it has printed, errors too."""
        given = [f"--env={name}={value}" for name, value in self.environment.items()]
        done = subprocess.run(
            ["docker", "exec", *given, self._id, "bash", "-c", command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{self.name}# {command}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """A file there, as an editor makes it."""
        self.run(f"mkdir -p '{Path(path).parent}'")
        _docker("exec", "-i", self._id, "sh", "-c", f"cat > '{path}'", stdin=text)

    def log(self, unit: str) -> str:
        """What a service has written."""
        return self.run(f"journalctl -o cat -u {unit}", check=False)

    def wait_said(self, unit: str, words: str, *, times: int = 1, timeout: float = 60) -> None:
        """Until a service has written these words so many times."""
        end = time.monotonic() + timeout
        while (said := self.log(unit)).count(words) < times:
            assert time.monotonic() < end, f"{unit} never says {words!r}:\n{said}"
            time.sleep(0.2)

    def shows(self, unit: str, *properties: str) -> list[str]:
        """Properties of a unit as systemd has them."""
        asked = ",".join(properties)
        lines = self.run(f"systemctl show {unit} --property={asked}").splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return [found[name] for name in properties]

    def exposure(self, unit: str) -> float:
        """What ``systemd-analyze security`` says of it: from 0, nothing is open to it, to 10."""
        said = self.run(f"systemd-analyze security --no-pager {unit}").splitlines()[-1]
        return float(said.partition(f"{unit}.service: ")[2].split()[0])


def _docker(*words: str, stdin: str = "", timeout: float = 60) -> str:
    done = subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"docker {words[0]}: {done.stderr}"
    return done.stdout
