"""A network namespace that plays a node's LAN, and ways to try to get there from inside a pod.

It has a private prefix, one that is public by its numbers but on-link, and the metadata address; a
counter in it sees every IPv4 packet that arrives.
"""

import asyncio
import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from systems.pods import docker

LAN, ON_LINK, METADATA = "192.168.213.2", "11.213.0.2", "169.254.169.254"
PORT = 8000
COUNT = """table netdev count {
  chain in {
    type filter hook ingress device "eth0" priority 0; policy accept;
    meta protocol ip counter
  }
}
"""
PYTHON = ("/usr/bin/python3.11", "-S", "-c")
UDP = "from _socket import *; socket(AF_INET, SOCK_DGRAM).sendto(b'x', ('{}', {}))"
TCP = (
    "from _socket import *; s = socket(); s.settimeout(1); "
    "s.connect(('{}', {})); print('connected')"
)
NAMED = "open('/etc/hosts', 'a').write('{} rebound.example\\n');"


def run(*command: str, data: str | None = None) -> str:
    """A command of this machine that has to succeed; what it says."""
    done = subprocess.run(
        command, input=data, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@dataclass
class Lan:
    """The namespace, and the interface that the machine is in its network by."""

    name: str
    outside: str

    def packets(self) -> int:
        """How many IPv4 packets arrived in it."""
        listed = json.loads(run("ip", "netns", "exec", self.name, "nft", "-j", "list", "ruleset"))
        counters = [
            part["counter"]["packets"]
            for item in listed["nftables"]
            for part in item.get("rule", {}).get("expr", [])
            if "counter" in part
        ]
        return sum(counters)


@contextmanager
def lan_beside() -> Iterator[Lan]:
    """It is there meanwhile, with a web server on all of its addresses."""
    name = "dit4c-" + uuid.uuid4().hex[:6]
    outside = name.replace("dit4c-", "lan")
    server = None
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
        for address in ("192.168.213.1/24", "11.213.0.1/24"):
            run("ip", "addr", "add", address, "dev", outside)
        run("ip", "link", "set", outside, "up")
        inside = ("ip", "-n", name)
        for address in (f"{LAN}/24", f"{ON_LINK}/24", f"{METADATA}/32"):
            run(*inside, "addr", "add", address, "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", "192.168.213.1")
        run("ip", "route", "add", f"{METADATA}/32", "dev", outside)
        run("ip", "netns", "exec", name, "nft", "-f", "-", data=COUNT)
        server = subprocess.Popen(
            ["ip", "netns", "exec", name, "busybox", "httpd", "-f", "-p", str(PORT), "-h", "/tmp"]
        )
        yield Lan(name, outside)
    finally:
        if server is not None:
            server.kill()
            server.wait()
        # Taken away with the namespace too, but only some time after.
        subprocess.run(["ip", "link", "del", outside], check=False, timeout=20)
        run("ip", "netns", "del", name)


def attempt(instance: str, *command: str, role: str = "app") -> str:
    """What a command inside the pod says, error or not."""
    return docker("exec", f"dit4c-{instance}-{role}", *command, check=False)


def tries(address: str, port: int) -> list[tuple[str, ...]]:
    """TCP, UDP and ICMP to an address, and TCP to it by a name that resolves to it."""
    return [
        tcp(address, port),
        (*PYTHON, UDP.format(address, port)),
        (*PYTHON, UDP.format(address, 53)),
        ("ping", "-c", "1", "-W", "1", address),
        (*PYTHON, NAMED.format(address) + TCP.format("rebound.example", port)),
    ]


def tcp(address: str, port: int) -> tuple[str, ...]:
    """Says ``connected`` or why not."""
    return (*PYTHON, TCP.format(address, port))


def infra_address(instance: str) -> str:
    """The one address of a pod."""
    networks = json.loads(docker("inspect", f"dit4c-{instance}-infra"))[0]["NetworkSettings"]
    return str(networks["Networks"][f"dit4c-{instance}"]["IPAddress"])


def pod_counters(instance: str, chain: str) -> int:
    """The packets that ran into the end of one chain of a pod's own firewall."""
    listed = attempt(instance, "nft", "-j", "list", "ruleset", role="infra")
    return sum(
        part["counter"]["packets"]
        for item in json.loads(listed)["nftables"]
        if item.get("rule", {}).get("chain") == chain
        for part in item["rule"]["expr"]
        if "counter" in part
    )


class Connections(asyncio.Protocol):
    """A TCP server that only notes who reached it."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._seen.append(f"TCP from {transport.get_extra_info('peername')}")


class Datagrams(asyncio.DatagramProtocol):
    """The same for UDP."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._seen.append(f"UDP from {addr}")
