"""security.md, section 4: from a pod to the owner's LAN, the host, other pods, link-local and
metadata addresses: no packet.

A network namespace plays the owner's LAN. A plain container shows first that packets would get
there.
"""

import asyncio
import errno
import json
import socket
from dataclasses import replace
from functools import partial

import pytest
from systems.lan import (
    LAN,
    METADATA,
    ON_LINK,
    PORT,
    PYTHON,
    TCP,
    Connections,
    Datagrams,
    attempt,
    infra_address,
    pod_counters,
    run,
    tcp,
    tries,
)
from systems.pods import docker, pods_of, run_start

pytestmark = [pytest.mark.engine, pytest.mark.root]


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
        try:
            server = await loop.create_server(partial(Connections, seen), address, 0)
        except OSError as error:
            # That of another system's pod, which has gone meanwhile.
            assert error.errno == errno.EADDRNOTAVAIL and address != gateway
            continue
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


async def test_only_helpers_reach_the_services_of_a_pod(lan, config, engine, images, instance):
    """The exact address and port of portal and routers, and no other port there."""
    router = replace_connect(config.routers[0], f"{LAN}:{PORT}")
    pods = pods_of(replace(config, routers=(router,)), engine)
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
    pods = pods_of(replace(config, policy=policy), engine)
    await run_start(pods, instance, images.python)
    rules = attempt(instance, "nft", "list", "ruleset", role="infra")
    assert "172.17.0.1 . 8080" in rules
    assert "@refused" not in rules
    before = pod_counters(instance, "output")
    assert "connected" not in attempt(instance, *tcp("203.0.113.7", 80))
    assert pod_counters(instance, "output") > before
