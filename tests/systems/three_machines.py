"""Three machines as docs/install.md has them, and all that lies between.

    portal 198.51.100.10 ┐
    router 198.51.100.20 ├ internet 203.0.113.1 ── 203.0.113.2 gate 192.168.77.1 ── home
    visitor 198.51.100.99┘

``gate`` is the box that a provider gives people: it masquerades, and lets nothing in. Names are
looked up at a name server on the internet, or at the gate, which has the same zone.
"""

import base64
import contextlib
import json
import ssl
import subprocess
import sys
from pathlib import Path

from lib.install_steps import Luggage
from systems.machine import STAND_INS, Machine

from dit4c_p2p.imagebuild.recipes import DEBIAN, image_recipes_for

NAME_SERVER = STAND_INS.with_name("name_server.py")
_BUILD_S = 900
# Those of a node that offers JupyterLab.
_IMAGES = (DEBIAN, *(recipe.name for recipe in image_recipes_for(("jupyterlab",))))
_GATE = """
table ip gate {
  chain after { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
  chain through {
    type filter hook forward priority filter; policy drop;
    iifname "lan" oifname "wan" accept
    ct state established,related accept
  }
  chain in {
    type filter hook input priority filter; policy drop;
    iifname { "lo", "lan" } accept
    ct state established,related accept
  }
}
"""


class ThreeMachines(Luggage):
    """``with ThreeMachines(folder, zone) as machines``: they are on, and reach each other."""

    def __init__(self, folder: Path, zone: str) -> None:
        super().__init__(folder)
        self._zone = folder / "zone"
        self._zone.write_text(zone)
        self._stack = contextlib.ExitStack()
        names = ("portal", "router", "home", "gate", "internet", "visitor")
        self._machines = {name: Machine(name, self.source, self.opt) for name in names}
        self.portal, self.router = self._machines["portal"], self._machines["router"]
        self.home, self.visitor = self._machines["home"], self._machines["visitor"]

    def __enter__(self) -> "ThreeMachines":
        with contextlib.ExitStack() as stack:
            for machine in self._machines.values():
                stack.enter_context(machine)
            self._connect(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _connect(self, stack: contextlib.ExitStack) -> None:
        internet, gate = self._machines["internet"], self._machines["gate"]
        internet.run(
            "ip link add public type bridge && ip link set public up"
            " && ip address add 198.51.100.1/24 dev public"
            " && ip address add 198.51.100.53/24 dev public && sysctl -w net.ipv4.ip_forward=1"
        )
        for machine, number in ((self.portal, 10), (self.router, 20), (self.visitor, 99)):
            internet.link(machine.name, machine, "eth0")
            internet.run(f"ip link set {machine.name} master public")
            _address(machine, f"198.51.100.{number}/24", "198.51.100.1", "198.51.100.53")
        internet.link("provider", gate, "wan")
        internet.run("ip address add 203.0.113.1/24 dev provider")
        gate.link("lan", self.home, "eth0")
        gate.run(
            "ip address add 203.0.113.2/24 dev wan && ip address add 192.168.77.1/24 dev lan"
            " && ip route add default via 203.0.113.1 && sysctl -w net.ipv4.ip_forward=1"
            f" && nft -f - <<'END'{_GATE}END"
        )
        _address(self.home, "192.168.77.10/24", "192.168.77.1", "192.168.77.1")
        for machine, address in ((internet, "198.51.100.53"), (gate, "192.168.77.1")):
            machine.write("/mnt/name_server.py", NAME_SERVER.read_text())
            machine.write("/mnt/zone", self._zone.read_text())
            server = machine.daemon("python3", "/mnt/name_server.py", address, "/mnt/zone")
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
            stack.callback(server.wait, 10)
            stack.callback(server.kill)
            stack.callback(server.stdout.close)

    # ---- what else a newcomer brings along

    def trust_in_browser(self) -> None:
        """The visitor's administrator believes the test's authority."""
        der = ssl.PEM_cert_to_DER_cert(self.authority.file.read_text())
        policy = {"CACertificates": [base64.b64encode(der).decode()]}
        self.visitor.write("/etc/chromium/policies/managed/authority.json", json.dumps(policy))

    def browser(self, folder: Path) -> Path:
        """A program that runs Chromium on the visitor's machine."""
        line = " ".join(self.visitor.inside("/usr/bin/chromium"))
        path = folder / "chromium"
        path.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        path.chmod(0o755)
        return path

    def carry_images(self) -> None:
        """``docker save | ssh home docker load`` from another node with the same source."""
        build = [sys.executable, "-m", "dit4c_p2p", "images", "build", "--tools", "jupyterlab"]
        subprocess.run(build, cwd=self.source, check=True, timeout=_BUILD_S, capture_output=True)
        tags = [f"dit4c/{name}:local" for name in _IMAGES]
        saving = subprocess.Popen(["docker", "save", *tags], stdout=subprocess.PIPE)
        subprocess.run(
            self.home.inside("docker", "load"),
            env=self.home.environment, stdin=saving.stdout, check=True, capture_output=True,
            timeout=180,
        )  # fmt: skip
        assert saving.wait(30) == 0


def _address(machine: Machine, address: str, gateway: str, name_server: str) -> None:
    machine.run(f"ip address add {address} dev eth0 && ip route add default via {gateway}")
    machine.write("/etc/resolv.conf", f"nameserver {name_server}\n")
