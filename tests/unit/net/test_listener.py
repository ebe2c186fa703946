"""Who gives way where a listener's places are taken."""

import pytest

from dit4c_p2p.net import listener
from dit4c_p2p.net.listener import ConnectionLimiter, ConnectionSlot


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(listener.time, "monotonic", lambda: now[0])
    return now


class World:
    def __init__(self, total, per_address):
        self.room = ConnectionLimiter(total, per_address)
        self.closed = []

    def come(self, host, name=None):
        slot = ConnectionSlot(self.room, (host, 1))
        slot.close = lambda: self.closed.append(name)
        return slot


def test_the_oldest_that_proved_nothing_gives_way_to_its_own_address(clock):
    world = World(100, 3)
    known = world.come("10.0.0.1", "known")
    known.prove()
    for name in ("old", "young"):
        clock[0] += 1
        world.come("10.0.0.1", name)
    clock[0] += 0.5
    assert not world.come("10.0.0.1").within, "the oldest has had less than 2 s"
    assert world.come("10.0.0.2").within
    clock[0] += 1
    assert world.come("10.0.0.1", "new").within
    assert world.closed == ["old"]
    clock[0] += 1
    assert world.come("10.0.0.1").within
    assert world.closed == ["old", "young"]


def test_idle_ones_give_way_before_busy_ones(clock):
    world = World(100, 2)
    world.come("10.0.0.1", "busy").busy(True)
    world.come("10.0.0.1", "idle")
    clock[0] += 3
    assert world.come("10.0.0.1", "next").within
    assert world.closed == ["idle"]
    clock[0] += 1
    assert world.come("10.0.0.1").within
    assert world.closed == ["idle", "busy"]


def test_crowds_that_fill_all_places_keep_nobody_else_out(clock):
    """Two addresses filled a router's visitors."""
    world = World(20, 10)
    for n in range(20):
        world.come(f"10.0.0.{n % 2}", n % 2)
    assert not world.come("10.0.0.9").within
    clock[0] += 3
    for n in range(6):
        assert world.come(f"10.0.1.{n}").within
    assert sorted(world.closed) == [0, 0, 0, 1, 1, 1]
    assert world.room.taken == 20


def test_all_who_have_proved_themselves_stay(clock):
    world = World(4, 2)
    for n in range(4):
        world.come(f"10.0.0.{n % 2}", n).prove()
    clock[0] += 100
    assert not world.come("10.0.0.1").within and not world.come("10.0.0.5").within
    assert world.closed == []


def test_places_are_given_back_once(clock):
    world = World(2, 2)
    first, second = world.come("10.0.0.1"), world.come("10.0.0.1")
    clock[0] += 3
    third = world.come("10.0.0.1")
    for slot in (first, second, third, first):
        slot.leave()
    assert world.room.taken == 0
    assert world.room._yielding == ({}, {})


def test_a_proxied_client_counts_for_its_own_address(clock):
    world = World(100, 1)
    one = world.come("10.0.0.1", "one")
    one.move(("192.0.2.7", 5))
    clock[0] += 3
    assert world.come("192.0.2.7").within
    assert world.closed == ["one"]
