"""The machine moves to another network, or gets new addresses, while its pods run.

``test_firewall.py`` shows what the rules do; here they have to become those of the new network.
"""

import asyncio
import errno
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address

import pytest
from lib.paths import ROOT
from systems.lan import LAN, PORT, PYTHON, Connections, attempt, run, tcp, tries
from systems.pods import docker, inspect, look, run_start, running

from dit4c_p2p.messages.node import PodRunning, PodState
from dit4c_p2p.node.errors import FilesFailed
from dit4c_p2p.node.network import firewall_updater, host_network
from dit4c_p2p.node.parts import NodeParts
from dit4c_p2p.node.pods.state_dir import InstanceFolder

pytestmark = [pytest.mark.engine, pytest.mark.root]

# Somebody else's at first: reached through a gateway. Then the network that the machine is on.
AWAY, AWAY_PREFIX, AT_HOME = "11.214.0.2", "11.214.0.0/24", "11.214.0.1"
OWN = "11.215.0.1"
# The rules are those of now within seconds.
RENEWED_S = 15
HOLD = (
    "from _socket import *; import time; s = socket(); s.connect(('{}', {}))\n"
    "while True: s.send(b'x'); time.sleep(0.05)"
)
ASK = "from _socket import *; print(getaddrinfo('{}', 80, AF_INET, SOCK_STREAM)[0][4][0])"


@asynccontextmanager
async def following(parts):
    """The rules follow the machine meanwhile."""
    task = asyncio.create_task(parts.rules.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_refused(instance: str, prefix: str) -> None:
    """Until both tables of the pod have that prefix among what they refuse."""
    async with asyncio.timeout(RENEWED_S):
        while attempt(instance, "nft", "list", "ruleset", role="infra").count(prefix) < 2:
            await asyncio.sleep(0.1)


async def test_row_0_packets_to_a_network_that_the_machine_moves_to(
    lan, parts, pods, images, instance
):
    run("ip", "-n", lan.name, "addr", "add", f"{AWAY}/24", "dev", "eth0")
    run("ip", "route", "add", AWAY_PREFIX, "via", LAN, "dev", lan.outside)
    await run_start(pods, instance, images.python)
    containers = {name: inspect(name)["Id"] for name in look(instance).containers}
    async with following(parts):
        assert attempt(instance, *tcp(AWAY, PORT)) == "connected"
        docker("exec", "-d", f"dit4c-{instance}-app", *PYTHON, HOLD.format(AWAY, PORT))
        held = lan.packets()
        async with asyncio.timeout(RENEWED_S):
            while lan.packets() < held + 10:
                await asyncio.sleep(0.1)

        run("ip", "route", "del", AWAY_PREFIX, "via", LAN, "dev", lan.outside)
        run("ip", "addr", "add", f"{AT_HOME}/24", "dev", lan.outside)
        await until_refused(instance, AWAY_PREFIX)
        before = lan.packets()
        for command in tries(AWAY, PORT):
            assert "connected" not in await asyncio.to_thread(attempt, instance, *command)
        assert lan.packets() == before, "a new packet, or one of a connection of before"
        docker("run", "--rm", images.python, *tcp(AWAY, PORT))
        assert lan.packets() > before, "without the rules they would arrive"
        assert {name: inspect(name)["Id"] for name in look(instance).containers} == containers


async def test_a_new_address_is_closed_as_soon_as_the_kernel_tells(
    lan, parts, pods, images, instance, monkeypatch
):
    """And not at the next look, which is a minute away here."""
    monkeypatch.setattr(firewall_updater, "LOOK_EVERY_S", 60)
    await run_start(pods, instance, images.python)
    async with following(parts):
        await asyncio.sleep(2)
        run("ip", "addr", "add", f"{OWN}/32", "dev", lan.outside)
        async with asyncio.timeout(3):
            await until_refused(instance, OWN)


async def test_row_0_packets_to_a_new_address_of_the_machine(lan, parts, pods, images, instance):
    await run_start(pods, instance, images.python)
    async with following(parts):
        run("ip", "addr", "add", f"{OWN}/32", "dev", lan.outside)
        await until_refused(instance, OWN)
        seen: list[str] = []
        server = await asyncio.get_running_loop().create_server(
            partial(Connections, seen), OWN, PORT
        )
        async with server:
            for command in tries(OWN, PORT):
                said = await asyncio.to_thread(attempt, instance, *command)
                assert "connected" not in said
            assert seen == []
            without = ("run", "--rm", images.python, *tcp(OWN, PORT))
            assert await asyncio.to_thread(docker, *without) == "connected"


async def test_names_are_asked_for_at_the_name_server_of_the_new_network(
    lan, config, engine, images, instance, tmp_path
):
    """The engine goes on to ask the one that the pod was made with."""
    machine = host_network.read_host_network()
    here = [replace(machine, resolvers=(IPv4Address("192.0.2.53"),))]
    parts = NodeParts(config, engine, host_now=lambda: here[-1])
    pods = parts.pods
    await run_start(pods, instance, images.python)
    zone = tmp_path / "zone"
    zone.write_text("app.example.net. A 198.51.100.20\n")
    script = ROOT / "tests/fakes/name_server.py"
    server = subprocess.Popen(
        ["ip", "netns", "exec", lan.name, sys.executable, script, LAN, zone], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert await asyncio.to_thread(server.stdout.readline) == b"ready\n"
        async with following(parts):
            here.append(replace(machine, resolvers=(IPv4Address(LAN),)))
            async with asyncio.timeout(RENEWED_S):
                while "dnat" not in attempt(instance, "nft", "list", "ruleset", role="infra"):
                    await asyncio.sleep(0.1)
            ask = (*PYTHON, ASK.format("app.example.net"))
            assert await asyncio.to_thread(attempt, instance, *ask) == "198.51.100.20"
            # So it is when the pod is started again: its name servers can't be changed.
            await pods.stop(instance)
            said = await run_start(pods, instance, images.python, run=2, kept=True)
            assert said[-1] == PodRunning(instance=instance)
            assert await asyncio.to_thread(attempt, instance, *ask) == "198.51.100.20"
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


async def test_a_pod_under_construction_gets_the_newest_rules(config, engine, images, instance):
    """The machine moves after the pod's rules were made, and before they are loaded."""
    machine = host_network.read_host_network()
    here = [machine]

    class Moving:
        def __getattr__(self, name):
            return getattr(engine, name)

        async def create_network(self, definition):
            here.append(replace(machine, addresses=machine.addresses | {IPv4Address(OWN)}))
            renewed.append(asyncio.create_task(pods.renew_rules(reach)))
            await asyncio.sleep(0.2)
            return await engine.create_network(definition)

    renewed: list[asyncio.Task[None]] = []
    parts = NodeParts(config, Moving(), host_now=lambda: here[-1])
    pods = parts.pods
    reach = parts.rules.reach(replace(machine, addresses=machine.addresses | {IPv4Address(OWN)}))
    await run_start(pods, instance, images.app)
    await asyncio.gather(*renewed)
    assert attempt(instance, "nft", "list", "ruleset", role="infra").count(OWN) == 2


async def test_a_pod_that_can_not_have_the_new_rules_is_stopped(
    pods, config, engine, images, instance, monkeypatch
):
    """Even if the disk is so full that it can't be written down why."""
    await run_start(pods, instance, images.app)

    class NoRules:
        def __getattr__(self, name):
            return getattr(engine, name)

        async def execute(self, id, command, environment):
            return 1, "nft: no"

    parts = NodeParts(config, NoRules())
    refusing, wanted = parts.pods, parts.rules.reach(host_network.read_host_network())

    def no_room(self, reason):
        raise FilesFailed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    with monkeypatch.context() as full:
        full.setattr(InstanceFolder, "set_reason", no_room)
        with pytest.raises(FilesFailed):
            await refusing.renew_rules(wanted)
    assert not running(instance)
    await run_start(pods, instance, images.app)
    await refusing.renew_rules(wanted)
    (status,) = (await pods.list()).pods
    assert status.state is PodState.EXITED
    assert "firewall could not be loaded: nft: no" in status.reason
    assert not running(instance)
