"""What those who run a portal see of it: figures that agree with what happened, and readiness."""

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from systems.portal import running_instance

from dit4c_p2p.observe import server as server_module
from dit4c_p2p.observe.server import HealthServer


@pytest.fixture
async def seen(work, monkeypatch):
    """A session with the pages of the portal at work."""
    monkeypatch.setattr(server_module, "_KEPT_S", 0.0)
    server = HealthServer(("127.0.0.1", 0), "portal")
    await server.start()
    server.add("portal", work.portal)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session
    await server.stop()


async def figures(session):
    """Every sample by its name and its labels but ``component``."""
    async with session.get("/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = {name: value for name, value in sample.labels.items() if name != "component"}
        found[sample.name, *sorted(labels.items())] = sample.value
    return found


async def test_figures_agree_with_what_happened(work, seen):
    async with work.browser() as browser, work.scheduler() as scheduler:
        await browser.log_in(await work.login_link())
        await browser.submit(f"/login/{'x' * 43}", origin=None)
        await running_instance(work, scheduler)
        await browser.get(f"/nowhere/{'x' * 20}")
        now = await figures(seen)
    assert now["dit4c_login_total", ("outcome", "done")] == 1
    assert now["dit4c_login_total", ("outcome", "refused")] == 1
    assert now["dit4c_instances", ("state", "running")] == 1
    assert now["dit4c_scheduler_links",] == 1
    assert now["dit4c_outbox_messages",] == 0
    assert now["dit4c_audit_lost_lines",] == 0
    assert now["dit4c_connections",] >= 1
    started = ("method", "POST"), ("route", "/api/v1/instances"), ("status", "201")
    assert now["dit4c_http_requests_total", *started] == 1
    assert now["dit4c_http_request_seconds_count", ("route", "/api/v1/instances")] == 1
    nowhere = ("method", "GET"), ("route", "unmatched"), ("status", "404")
    assert now["dit4c_http_requests_total", *nowhere] == 1
    assert now["dit4c_audit_acts_total", ("outcome", "done"), ("what", "instance.create")] == 1
    assert not [key for key in now if "xxxxx" in str(key)]


@pytest.mark.both_databases
async def test_ready_unless_the_database_or_the_audit_log_fails(work, seen, monkeypatch):
    async with seen.get("/readyz") as answer:
        assert answer.status == 200, await answer.text()
    audit = work.portal._services.audit
    monkeypatch.setattr(audit, "lost", 2)
    async with seen.get("/readyz") as answer:
        assert answer.status == 503
        said = (await answer.json())["components"]["portal"]
    assert "2 lines" in said["audit log"]["text"]
    assert said["database"]["ok"] is True
    monkeypatch.setattr(audit, "lost", 0)

    def gone(**_):
        raise OSError("gone")

    monkeypatch.setattr("dit4c_p2p.portal.app.Counter.exists", gone)
    monkeypatch.setattr(work.portal._services.instances, "counts", gone)
    async with seen.get("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["components"]["portal"]["database"]["ok"] is False
    assert ("dit4c_scheduler_links",) in await figures(seen)
