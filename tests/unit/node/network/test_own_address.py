"""The public address of the owner's network: asked for, kept, and closed to pods."""

import asyncio
from ipaddress import IPv4Address

import pytest

from dit4c_p2p.node.network import own_address
from dit4c_p2p.node.network.own_address import OwnAddresses

HOME, BEFORE = IPv4Address("93.184.216.34"), IPv4Address("8.8.4.4")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "own-addresses.json"


def test_an_address_counts_for_an_hour_and_the_newest_for_good(path):
    now = 1000.0
    own = OwnAddresses(path, lambda: now)
    assert own.addresses == frozenset()
    assert own.seen(BEFORE)
    assert not own.seen(BEFORE)
    now = 2000.0
    assert own.seen(HOME)
    assert own.addresses == {BEFORE, HOME}
    now = 5000.0
    assert own.addresses == {HOME}
    now = 1e9
    assert own.addresses == {HOME}


def test_it_is_known_after_a_restart_and_a_broken_file_is_no_harm(path):
    OwnAddresses(path).seen(HOME)
    assert OwnAddresses(path).addresses == {HOME}
    path.write_text("[1")
    assert OwnAddresses(path).addresses == frozenset()


def test_a_portal_that_says_a_new_one_each_time_fills_nothing(path):
    own = OwnAddresses(path)
    for number in range(100):
        own.seen(IPv4Address("8.8.0.0") + number)
    assert len(own.addresses) == 8


async def test_what_is_not_public_is_no_news(path, monkeypatch):
    monkeypatch.setattr(own_address, "ASK_EVERY_S", 0)
    answers = iter([None, IPv4Address("192.168.1.1"), IPv4Address("127.0.0.1"), HOME, HOME])
    told = asyncio.Event()

    async def ask():
        return next(answers, HOME)

    own = OwnAddresses(path)
    following = asyncio.create_task(own.follow(ask, told.set))
    async with asyncio.timeout(5):
        await told.wait()
    following.cancel()
    assert own.addresses == {HOME}
