"""When running pods' rules are renewed, and what names of services mean meanwhile."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import FileServerInfo, PortalInfo, PublicConfig, RouterInfo
from dit4c_p2p.node.config import HelperImages, NodeConfig
from dit4c_p2p.node.errors import EngineError
from dit4c_p2p.node.network import egress, firewall_updater
from dit4c_p2p.node.network.egress import ServiceAddresses, egress_policy
from dit4c_p2p.node.network.firewall_updater import FirewallUpdater
from dit4c_p2p.node.network.host_network import HostNetwork

HOME = HostNetwork(
    addresses=frozenset({IPv4Address("192.168.1.7")}),
    on_link=frozenset({IPv4Network("192.168.1.0/24")}),
    routed=frozenset(),
    resolvers=(),
)
# Public by its numbers.
CAMPUS = replace(HOME, on_link=frozenset({IPv4Network("11.5.0.0/16")}))


@pytest.fixture
def config(tmp_path):
    return NodeConfig(
        name=PeerName.parse("node-home"),
        key=generate(),
        data_folder=tmp_path,
        scheduler=PeerName.parse("scheduler-main"),
        images=HelperImages("i", "l", "a"),
        portal=PortalInfo(
            name="portal-main", url="https://portal.example.org", key=public_line(generate())
        ),
        routers=(RouterInfo(name="router-r1", ssh=["10.1.1.1:8022"], http=["10.1.1.1:443"]),),
        user_url="https://{id}.apps.example.net/",
    )


@pytest.fixture
def names(monkeypatch):
    """What name servers answer; None for nothing."""
    answers = {"portal.example.org": ["198.51.100.1"]}

    async def look_up(name):
        found = answers[name]
        return None if found is None else [IPv4Address(text) for text in found]

    monkeypatch.setattr(egress, "_look_up_service", look_up)
    return answers


def at(*texts):
    return {(IPv4Address(text), 443) for text in texts}


async def test_an_address_counts_for_an_hour_after_it_was_answered_last(config, names):
    now = 0.0
    services = ServiceAddresses(config, lambda: now)
    await services.look_up()
    fixed = at("10.1.1.1") | {(IPv4Address("10.1.1.1"), 8022)}
    assert services.addresses == fixed | at("198.51.100.1")
    now, names["portal.example.org"] = 3000.0, ["198.51.100.2"]
    await services.look_up()
    assert services.addresses == fixed | at("198.51.100.1", "198.51.100.2")
    now = 3601.0
    await services.look_up()
    assert services.addresses == fixed | at("198.51.100.2")


async def test_while_a_name_can_not_be_looked_up_the_last_answer_counts(config, names):
    now = 0.0
    services = ServiceAddresses(config, lambda: now)
    names["portal.example.org"] = None
    await services.look_up()
    assert not services.known
    names["portal.example.org"] = ["198.51.100.1"]
    await services.look_up()
    assert services.known
    now, names["portal.example.org"] = 1e6, None
    await services.look_up()
    assert services.known
    assert at("198.51.100.1") <= services.addresses


async def test_pods_reach_a_new_file_server_and_no_longer_one_that_is_gone(config, names):
    names["files.example.org"] = ["198.51.100.7"]
    services = ServiceAddresses(config)
    await services.look_up()
    before = services.addresses
    public = PublicConfig(
        portal=config.portal,
        routers=list(config.routers),
        user_url=config.user_url,
        fileservers=[
            FileServerInfo(name="fileserver-a", url="sftp://files.example.org:2222"),
            FileServerInfo(name="fileserver-b", url="sftp://b.example.org", connect=["10.1.1.9:8"]),
        ],
    )
    config.take(public)
    assert not services.known
    await services.look_up()
    new = {(IPv4Address("198.51.100.7"), 2222), (IPv4Address("10.1.1.9"), 8)}
    assert services.addresses == before | new
    config.take(msgspec.structs.replace(public, fileservers=[]))
    await services.look_up()
    assert services.addresses == before


class Loaded:
    """What was loaded into the pods, one after the other."""

    def __init__(self):
        self.all = asyncio.Queue()
        self.fails = 0

    async def renew(self, wanted):
        if self.fails:
            self.fails -= 1
            raise EngineError("the engine is away")
        await self.all.put(wanted)

    async def next(self):
        async with asyncio.timeout(10):
            return await self.all.get()


@pytest.fixture
async def follow(config, names, monkeypatch):
    """``here``, whose last the machine is at, and what was loaded."""
    monkeypatch.setattr(firewall_updater, "LOOK_EVERY_S", 0.01)
    here, loaded = [HOME], Loaded()
    following = FirewallUpdater(config, ServiceAddresses(config), lambda: here[-1], loaded.renew)
    loaded.updater = following
    task = asyncio.create_task(following.run())
    yield here, loaded
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_all_is_loaded_at_first_and_then_what_has_changed(follow):
    here, loaded = follow
    first = await loaded.next()
    assert at("198.51.100.1", "10.1.1.1") <= first.services
    # Another pod's bridge, among what pods never reach anyway.
    bridge = IPv4Network("172.18.0.0/16")
    here.append(replace(HOME, on_link=HOME.on_link | {bridge}))
    here.append(CAMPUS)
    moved = await loaded.next()
    assert IPv4Network("11.5.0.0/16") in moved.private
    assert loaded.all.empty()


async def test_an_engine_that_is_away_is_tried_again(follow):
    here, loaded = follow
    await loaded.next()
    loaded.fails = 2
    here.append(CAMPUS)
    assert IPv4Network("11.5.0.0/16") in (await loaded.next()).private
    assert loaded.fails == 0


async def test_a_service_that_has_moved_is_reached_where_it_is_now(follow, names):
    here, loaded = follow
    await loaded.next()
    names["portal.example.org"] = ["192.168.9.9"]
    here.append(CAMPUS)
    while not at("192.168.9.9") <= (await loaded.next()).services:
        pass


async def test_a_router_that_was_lost_is_looked_for_at_once(follow, names, monkeypatch):
    """It has moved, and its name with it: pods follow within a look, and not within a minute."""
    _, loaded = follow
    await loaded.next()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):  # after a few looks nothing is looked up any more
            await loaded.all.get()
    names["portal.example.org"] = ["198.51.100.7"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await loaded.all.get()
    monkeypatch.setattr(firewall_updater, "LOOK_EVERY_S", 60)
    loaded.updater.router_changed("router-r1", reached=False)
    assert at("198.51.100.7") <= (await loaded.next()).services


async def test_what_is_the_owners_is_closed_whoever_says_so(config, names, follow):
    """The address that the portal sees, and what the owner lists; both are public by number."""
    _, loaded = follow
    await loaded.next()
    services = loaded.updater._services
    assert services.own.seen(IPv4Address("93.184.216.34"))
    loaded.updater.look_now()
    assert IPv4Network("93.184.216.34/32") in (await loaded.next()).private
    listed = frozenset({IPv4Network("8.8.4.0/24")})
    with_list = replace(config, policy=replace(config.policy, refuse=tuple(listed)))
    assert listed <= egress_policy(with_list, HOME, frozenset()).private
