"""security.md, section 4: from a pod to the owner's LAN, the host, other pods, link-local and
metadata addresses: no packet.

A network namespace plays the owner's LAN. It has a private prefix, one that is public by its
numbers but on-link, and the metadata address; a counter in it sees every IPv4 packet that arrives.
A plain container shows first that packets would get there.
"""

import asyncio
import json
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest
from support.pods import docker, run_start

from dit4c_p2p.node.pods import Pods

pytestmark = [pytest.mark.engine, pytest.mark.root]

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
    done = subprocess.run(
        command, input=data, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@dataclass
class Lan:
    """The namespace, and how many IPv4 packets arrived in it."""

    name: str

    def packets(self) -> int:
        listed = json.loads(run("ip", "netns", "exec", self.name, "nft", "-j", "list", "ruleset"))
        counters = [
            part["counter"]["packets"]
            for item in listed["nftables"]
            for part in item.get("rule", {}).get("expr", [])
            if "counter" in part
        ]
        return sum(counters)


@pytest.fixture
def lan() -> Iterator[Lan]:
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
        yield Lan(name)
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


async def test_packets_would_arrive_without_the_firewall(lan, images):
    for address in (LAN, ON_LINK, METADATA):
        for command in tries(address, PORT):
            before = lan.packets()
            docker("run", "--rm", images.python, *command, check=False)
            assert lan.packets() > before, f"{command} did not arrive"


async def test_row_0_packets_to_lan_on_link_and_metadata(lan, pods, images, instance):
    await run_start(pods, instance, images.python)
    for address in (LAN, ON_LINK, METADATA):
        for command in tries(address, PORT):
            said = attempt(instance, *command)
            assert "connected" not in said
            assert lan.packets() == 0, f"{command} arrived"
    assert pod_counters(instance, "output") > 0


async def test_row_0_packets_to_the_lan_as_the_helpers_user(lan, pods, images, instance):
    """An app may become the helpers' user: it gains exact addresses of public services only."""
    await run_start(pods, instance, images.python)
    for command in tries(LAN, PORT):
        docker("exec", "-u", "10001", f"dit4c-{instance}-app", *command, check=False)
    assert lan.packets() == 0


async def test_row_0_packets_to_the_host(pods, images, instance):
    """Neither by the bridge's own address, nor docker0's, nor any other of the machine's."""
    await run_start(pods, instance, images.python)
    own = infra_address(instance).split(".")
    gateway = ".".join([*own[:3], str(int(own[3]) - 1)])
    addresses = run("ip", "-4", "-j", "addr")
    machine = [
        info["local"]
        for link in json.loads(addresses)
        for info in link["addr_info"]
        if not info["local"].startswith("127.")
    ]
    assert gateway in machine
    loop = asyncio.get_running_loop()
    for address in machine:
        seen: list[str] = []
        server = await loop.create_server(partial(Connections, seen), address, 0)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(
            partial(Datagrams, seen), local_addr=(address, port)
        )
        for command in tries(address, port):
            await asyncio.to_thread(attempt, instance, *command)
        assert not seen, f"{address} was reached"
        transport.close()
        server.close()
        await server.wait_closed()


async def test_row_0_packets_to_a_sibling_pod(pods, images, instance):
    other = instance[:-1] + "x"
    await asyncio.gather(
        run_start(pods, instance, images.python), run_start(pods, other, images.app)
    )
    sibling = infra_address(other)
    for command in tries(sibling, 8080):
        said = attempt(instance, *command)
        assert "connected" not in said
    assert pod_counters(other, "input") == 0


async def test_row_nobody_connects_to_a_pod(pods, images, instance):
    """The listener dials out; from the machine itself nothing new comes in."""
    await run_start(pods, instance, images.app)
    with pytest.raises(OSError, match="timed out"):
        await asyncio.to_thread(
            socket.create_connection, (infra_address(instance), 8080), timeout=1.5
        )
    assert pod_counters(instance, "input") > 0


async def test_row_no_ipv6(pods, images, instance):
    """No address, no route, and no way to the host's link-local address on the pod's bridge."""
    await run_start(pods, instance, images.python)
    own = attempt(instance, "cat", "/proc/net/if_inet6").splitlines()
    assert [line for line in own if not line.endswith(" lo")] == []
    for address in ("fd00::1", "fe80::1", "2001:db8::1"):
        code = TCP.replace("socket()", "socket(AF_INET6)").format(address, 80)
        assert "connected" not in attempt(instance, *PYTHON, code)


async def test_row_raw_sockets_are_refused(lan, pods, images, instance):
    """security.md section 4: NET_RAW never, for it passes the firewall."""
    await run_start(pods, instance, images.python)
    for kind in ("AF_PACKET, SOCK_RAW, 0x300", "AF_INET, SOCK_RAW, 1", "AF_INET, SOCK_RAW, 255"):
        code = f"from _socket import *; socket({kind})"
        said = attempt(instance, "/usr/bin/python3.11", "-S", "-c", code)
        assert "PermissionError" in said, said
    said = attempt(instance, "arping", "-c", "1", "-w", "1", "-I", "eth0", LAN)
    assert "ermitted" in said
    assert lan.packets() == 0


async def test_row_a_raw_socket_with_net_raw_is_stopped_by_the_second_table(
    lan, pods, images, instance
):
    """Were NET_RAW given by mistake, what leaves the interface is still filtered."""
    await run_start(pods, instance, images.python)
    code = (
        "from _socket import *\n"
        "s = socket(AF_PACKET, SOCK_DGRAM, 0x0800)\n"
        "import _socket, sys\n"
        "head = bytes.fromhex('45000020000100004011000001010101') + inet_aton(sys.argv[1])\n"
        "s.sendto(head + bytes(12), ('eth0', 0x0800, 0, 1, bytes.fromhex(sys.argv[2])))\n"
    )
    mac = run("cat", f"/sys/class/net/{_bridge(instance)}/address").strip().replace(":", "")
    infra = docker("inspect", "-f", "{{.Id}}", f"dit4c-{instance}-infra")
    said = docker("run", "--rm", "--network", f"container:{infra}", "--cap-add", "NET_RAW",
                  images.python, "/usr/bin/python3.11", "-S", "-c", code, LAN, mac,
                  check=False)  # fmt: skip
    assert said == "" or "No buffer space" in said
    assert lan.packets() == 0
    assert pod_counters(instance, "egress") > 0


def _bridge(instance: str) -> str:
    id = docker("network", "inspect", "-f", "{{.Id}}", f"dit4c-{instance}")
    return f"br-{id[:12]}"


async def test_row_an_app_cannot_change_the_rules(lan, pods, images, instance):
    await run_start(pods, instance, images.app)
    said = attempt(instance, "ip", "link", "set", "eth0", "down")
    assert "ermitted" in said
    said = attempt(instance, "ip", "addr", "add", "192.168.213.9/24", "dev", "eth0")
    assert "ermitted" in said


async def test_what_a_pod_needs_is_reached_by_the_helpers_only(
    lan, config, engine, images, instance
):
    """The exact address and port of portal and routers, and no other port there."""
    router = replace_connect(config.routers[0], f"{LAN}:{PORT}")
    pods = Pods(replace(config, routers=(router,)), engine)
    await run_start(pods, instance, images.python)
    helper = ("exec", "-u", "10001", f"dit4c-{instance}-app")
    assert docker(*helper, *tcp(LAN, PORT)) == "connected"
    arrived = lan.packets()
    assert arrived > 0
    assert "connected" not in attempt(instance, *tcp(LAN, PORT))
    assert "connected" not in docker(*helper, *tcp(LAN, PORT + 1), check=False)
    assert lan.packets() == arrived


def replace_connect(router, address):
    return type(router)(name=router.name, ssh=[address], http=[address])


async def test_an_owner_who_lends_no_internet(lan, config, engine, images, instance):
    """By the rules: the internet is not there at all, the services still are."""
    policy = replace(config.policy, internet=False)
    pods = Pods(replace(config, policy=policy), engine)
    await run_start(pods, instance, images.python)
    rules = attempt(instance, "nft", "list", "ruleset", role="infra")
    assert "172.17.0.1 . 8080" in rules
    assert "@refused" not in rules
    before = pod_counters(instance, "output")
    assert "connected" not in attempt(instance, *tcp("203.0.113.7", 80))
    assert pod_counters(instance, "output") > before
