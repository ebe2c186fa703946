"""security.md section 5, disk full: the whole system in one process, its data on a small disk."""

import json

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from systems.all_in_one import System, browser_session, dit4c, free_ports, log_in
from systems.small_disk import ONLY_ROOT, SmallDisk
from yarl import URL

pytestmark = [pytest.mark.engine, *ONLY_ROOT]

# What is said to who asks for something that can't be written; the first file to be full decides.
REFUSALS = {
    "the portal can't write right now. Try again in a moment",
    "this can't be written into the audit log now, and is not done. "
    "An admin has to make room on the portal's disk",
}
DONE = "done"


@pytest.fixture
def disk(tmp_path):
    with SmallDisk(tmp_path / "data") as disk:
        yield disk


@pytest.fixture
def observe_port():
    return free_ports(1)[0]


@pytest.fixture
def system(tmp_path, disk, observe_port):
    system = System(tmp_path, "--log-format", "json", "--observe-port", str(observe_port))
    try:
        yield system
    finally:
        # An instance's end is written down as well.
        disk.make_room()
        system.end()


async def test_row_disk_full_up_refuses_and_goes_on(system, disk, observe_port):
    system.start()
    audit, log = system.data / "portal" / "audit.jsonl", system.data / "dit4c.log"
    async with system.api() as api:
        instance = await api.start("terminal")
        url = (await api.wait_for(instance, "running", url=True))["url"]
        async with browser_session(system.access["portal"], url) as browser:
            await log_in(browser, system.access["login_url"])
            await visit(browser, url)
            said = [await make_token(system, "t0")]
            assert said == [DONE]

            disk.fill()
            # A file goes on to the end of its page; the log's has to come to it as well.
            while said[-1] == DONE or await lost_lines(observe_port) == 0:
                said.append(await make_token(system, f"t{len(said)}"))
            assert set(said) <= {DONE, *REFUSALS}
            assert (await api.call("GET", f"instances/{instance}"))["state"] == "running"
            await visit(browser, url)

            disk.make_room()
            said.append(await make_token(system, f"t{len(said)}"))
            assert said[-1] == DONE
            tokens = await api.call("GET", "people/admin/tokens?limit=100")
            labels = {one["label"] for one in tokens}
            for number, answer in enumerate(said):
                assert (f"t{number}" in labels) is (answer == DONE), "all of a token, or nothing"
            await visit(browser, url)
            await api.discard(instance)
    system.stop()
    lines = [json.loads(line)["message"] for line in log.read_text().splitlines()]
    assert lines[-1].endswith(" has stopped"), lines[-1]
    assert_verified(audit)
    assert "Traceback" not in system.output.read_text()


def test_row_disk_full_up_ends_at_its_start_and_begins_when_there_is_room(system, disk):
    system.start()
    system.stop()
    before = system.output.read_text()
    disk.fill()
    with pytest.raises(AssertionError, match="dit4c up ended"):
        system.start()
    said = system.output.read_text().removeprefix(before)
    assert system.process.returncode == 1
    assert "Traceback" not in said
    *_, last = said.splitlines()
    assert last.startswith("dit4c: no room for the portal's database"), said
    assert not system.ready_file.exists()
    disk.make_room()
    system.start()
    system.stop()
    for line in (system.data / "dit4c.log").read_text().splitlines():
        json.loads(line)
    assert_verified(system.data / "portal" / "audit.jsonl")


async def make_token(system, label):
    """The sentence and the hint of a refusal, or DONE."""
    url = f"{system.access['portal']}/api/v1/people/admin/tokens"
    headers = {"Authorization": f"Bearer {system.access['api_token']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(url, json={"label": label, "days": 1}) as answer:
            assert answer.status in (201, 503), await answer.text()
            said = await answer.json()
    return DONE if answer.status == 201 else said["detail"]


async def lost_lines(port):
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
    return max(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "dit4c_log_lost_lines"
    )


async def visit(browser, url):
    async with browser.get(url) as page:
        assert (page.status, page.url.host) == (200, URL(url).host)


def assert_verified(audit):
    done = dit4c("audit", "verify", audit)
    assert done.returncode == 0, done.stderr
