"""Health, readiness and figures of one component and of several in one process."""

import asyncio
import re
import socket

import aiohttp
import pytest
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.observe import server as server_module
from dit4c_p2p.observe.metrics import Metrics, metrics_exposition, set_all_gauge_values
from dit4c_p2p.observe.server import HealthServer


class Component:
    """A component in miniature."""

    def __init__(self, kind):
        self.metrics = Metrics(kind)
        self.seen = Counter(
            "dit4c_things", "Things seen.", ["what"], registry=self.metrics.registry
        )
        self.there = Gauge("dit4c_there", "There.", ["state"], registry=self.metrics.registry)
        self.problem = ""
        self.raises = None
        self.asked = 0

    @property
    def checks(self):
        return {"database": self.check}

    async def check(self):
        self.asked += 1
        if self.raises is not None:
            raise self.raises
        return self.problem

    async def measure(self):
        if self.raises is not None:
            raise self.raises
        set_all_gauge_values(self.there, {"here": 1.0})


@pytest.fixture
async def portal():
    return Component("portal")


@pytest.fixture
async def served(portal, monkeypatch):
    monkeypatch.setattr(server_module, "_KEPT_S", 0.0)
    server = HealthServer(("127.0.0.1", 0), "portal", "router")
    await server.start()
    server.add("portal", portal)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield server, session
    await server.stop()


async def test_ready_is_when_every_check_of_every_component_is_well(served, portal):
    server, session = served
    async with session.get("/readyz") as answer:
        assert answer.status == 503
        said = await answer.json()
    assert said["components"]["router"] == {"started": {"ok": False, "text": "it is starting"}}
    assert said["components"]["portal"]["database"] == {"ok": True, "text": ""}
    server.add("router", Component("router"))
    async with session.get("/readyz") as answer:
        assert answer.status == 200
        assert (await answer.json())["ready"] is True
    portal.problem = "it is full"
    async with session.get("/readyz") as answer:
        assert answer.status == 503
        said = await answer.json()
    assert said["components"]["portal"]["database"] == {"ok": False, "text": "it is full"}
    portal.raises = DitError("it is gone")
    async with session.get("/readyz") as answer:
        assert (await answer.json())["components"]["portal"]["database"]["text"] == "it is gone"
    async with session.get("/healthz") as answer:
        assert answer.status == 200
        assert (await answer.json())["alive"] is True


async def test_a_check_that_hangs_is_a_problem(served, portal, monkeypatch):
    monkeypatch.setattr(server_module, "_CHECK_S", 0.05)
    portal.check = asyncio.Event().wait
    _, session = served
    async with session.get("/readyz") as answer:
        said = await answer.json()
    assert "no answer" in said["components"]["portal"]["database"]["text"]


async def test_whoever_asks_often_does_not_make_the_component_work(served, portal, monkeypatch):
    monkeypatch.setattr(server_module, "_KEPT_S", 60.0)
    _, session = served
    for _ in range(5):
        async with session.get("/readyz") as answer:
            await answer.read()
    assert portal.asked == 1


async def test_figures_of_several_components_are_told_apart(served, portal):
    server, session = served
    router = Component("router")
    server.add("router", router)
    portal.seen.labels("a").inc(3)
    router.seen.labels("a").inc(4)
    portal.raises = DitError("no database")
    async with session.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    things = {one.labels["component"]: one.value for one in families["dit4c_things"].samples}
    assert things == {"portal": 3.0, "router": 4.0}
    assert {one.labels["component"] for one in families["dit4c_there"].samples} == {"router"}
    assert "process_cpu_seconds" in families
    assert {one.labels["version"] for one in families["dit4c_build_info"].samples}
    declared = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert len(declared) == len(set(declared))
    assert "_created" not in text


def test_two_of_a_kind_in_one_process_do_not_meet():
    one, other = Component("router"), Component("router")
    one.seen.labels("a").inc()
    assert b'dit4c_things_total{component="router",what="a"} 1.0' in metrics_exposition(
        [one.metrics]
    )
    assert b"dit4c_things_total{" not in metrics_exposition([other.metrics])


async def test_a_port_that_is_taken(portal):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="can't be served"):
            await HealthServer(taken.getsockname()[:2], "portal").start()
