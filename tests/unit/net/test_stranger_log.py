"""What strangers can make a log hold."""

import asyncio
import logging

import pytest

from dit4c_p2p.net import stranger_log
from dit4c_p2p.net.stranger_log import SummingFilter, summed


class World:
    def __init__(self, level=logging.WARNING):
        self.now, self.lines = 0.0, []
        self.log = logging.Logger("strangers")
        self.log.addFilter(SummingFilter(self.log, level, clock=lambda: self.now))
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append(record.getMessage())
        self.log.addHandler(handler)


def test_a_flood_is_a_line_a_second_at_the_most_and_every_line_is_counted():
    world = World()
    for number in range(69_000):
        world.now = number / 1150  # a minute
        world.log.warning("turned away %s: too many", "10.0.0.1")
    assert 10 < len(world.lines) <= 60
    told = [int(line.split("(")[1].split(" ")[0]) for line in world.lines if "(" in line]
    untold = next(iter(world.log.filters[0]._kinds.values())).untold
    assert len(world.lines) + sum(told) + untold == 69_000


def test_a_few_and_other_kinds_are_written_as_they_are():
    world = World()
    for _ in range(3):
        world.log.warning("turned away %s", "10.0.0.1")
    for number in range(100):
        world.log.warning("turned away %s", "10.0.0.1")
        world.log.info("%s logged in", number)
    world.log.warning("refused")
    world.log.error("a bug", exc_info=ValueError())
    assert world.lines[:3] == ["turned away 10.0.0.1"] * 3
    assert world.lines[3:103] == [f"{number} logged in" for number in range(100)]
    assert world.lines[103:] == ["refused", "a bug"]


async def test_what_was_not_written_is_summed_up_when_no_more_comes(monkeypatch):
    monkeypatch.setattr(stranger_log, "_SUM_UP_AFTER_S", 0.05)
    world = World()
    for number in range(50):
        world.log.warning("turned away %s", number)
    async with asyncio.timeout(5):
        while len(world.lines) < 4:
            await asyncio.sleep(0.01)
    assert world.lines[3] == "47 lines were not written that are like: turned away 3"


@pytest.mark.parametrize(
    "name",
    [
        "net.http_connection",
        "net.listener",
        "overlay.server",
        "router.http_server",
        "router.ssh_server",
        "portal.http.responses",
        "portal.oauth.server",
        "portal.instances.scheduler_link",
        "helpers.auth.connection",
        "helpers.auth.reserved_paths",
    ],
)
def test_where_strangers_come_in_lines_are_summed_up(name):
    __import__(f"dit4c_p2p.{name}")
    filters = logging.getLogger(f"dit4c_p2p.{name}").filters
    assert any(isinstance(one, SummingFilter) for one in filters)


def test_once_is_enough():
    logger = logging.Logger("twice")
    assert len(summed(summed(logger)).filters) == 1
