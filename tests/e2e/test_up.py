"""``dit4c up`` and ``dit4c down`` as their user meets them."""

import asyncio
import shutil
import subprocess
import sys

import pytest
from systems.all_in_one import STOP_S, System, browser_session, dit4c, log_in

pytestmark = pytest.mark.engine


async def test_two_of_them_live_side_by_side(system, own_system):
    own_system.start()
    async with system.api() as one, own_system.api() as other:
        a, b = await asyncio.gather(one.start(), other.start())
        await asyncio.gather(one.wait_for(a, "running", url=True),
                             other.wait_for(b, "running", url=True))  # fmt: skip
        assert [i["id"] for i in await other.call("GET", "instances")] == [b]
        await one.call("GET", f"instances/{b}", expect=404)
        # What one removes is its own.
        asked = dit4c("down", "--data-dir", own_system.data)
        assert asked.returncode == 1
        assert b in asked.stdout
        assert "1 instance would be removed, with all files" in asked.stderr
        kept = dit4c("down", "--keep", "--yes", "--data-dir", own_system.data)
        assert kept.stdout.endswith(f"Stopped 1 instance of {own_system.data}.\n")
        # Which of the two depends on the code that the app ended with.
        found = await other.wait_for(b, "exited", "errored", timeout=30)
        assert found["info"] == "It was stopped by the owner of its machine"
        assert "start" in found["actions"]
        done = dit4c("down", "--yes", "--data-dir", own_system.data)
        assert done.returncode == 0, done.stderr
        assert own_system.at_engine() == []
        assert len(system.at_engine(a)) >= 6
        async with asyncio.timeout(90):
            while (await other.call("GET", f"instances/{b}"))["actions"] != ["discard"]:
                await asyncio.sleep(0.5)
        await other.discard(b)
        await one.discard(a)


async def test_stopping_takes_ten_seconds_at_the_most_and_pods_live_on(own_system):
    own_system.start()
    async with own_system.api() as api:
        instance = await api.start()
        await api.wait_for(instance, "running", url=True)
    assert own_system.stop() <= STOP_S
    assert own_system.process.returncode == 0
    assert not own_system.ready_file.exists()
    running = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.Running}}", f"dit4c-{instance}-app"],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert running.stdout.strip() == "true"

    own_system.start()
    async with own_system.api() as api:
        found = await api.wait_for(instance, "running", url=True, timeout=30)
        async with browser_session(own_system.access["portal"], found["url"]) as browser:
            await log_in(browser, own_system.access["login_url"])
            async with asyncio.timeout(30):
                while True:
                    async with browser.get(found["url"]) as page:
                        if page.status == 200:
                            break
                    await asyncio.sleep(0.2)
    own_system.stop()
    # Whether or not it runs.
    done = dit4c("down", "--yes", "--data-dir", own_system.data)
    assert (
        done.stdout.splitlines(keepends=True)[-1] == f"Removed 1 instance of {own_system.data}.\n"
    )
    assert own_system.at_engine() == []


def test_the_same_folder_twice_and_the_same_port_twice(system, tmp_path):
    twice = dit4c("up", "--data-dir", system.data)
    assert (twice.returncode, twice.stderr.count("\n")) == (1, 1)
    assert "another 'dit4c up'" in twice.stderr
    portal = str(system.ports[0])
    taken = dit4c("up", "--data-dir", tmp_path, "--portal-port", portal)
    assert taken.returncode == 1
    assert f"port {portal}" in taken.stderr.splitlines()[-1]
    assert "--portal-port" in taken.stderr.splitlines()[-1]


@pytest.mark.parametrize("kind", ["portal", "scheduler"])
def test_a_database_that_is_lost_is_said_and_not_made_anew(own_system, kind):
    own_system.start()
    own_system.stop()
    database = own_system.data / kind / f"{kind}.sqlite3"
    kept = database.rename(own_system.folder / "kept")
    with pytest.raises(AssertionError, match="dit4c up ended"):
        own_system.start()
    last = own_system.output.read_text().splitlines()[-1]
    assert last.startswith(f"dit4c: the {kind}'s database {database} is not there")
    assert not database.exists()
    kept.rename(database)
    own_system.start()
    own_system.stop()


async def test_another_login_link(system):
    made = dit4c("login-link", "admin", "--data-dir", system.data)
    assert made.returncode == 0, made.stderr
    link = made.stdout.strip()
    assert link.startswith(f"{system.access['portal']}/login/")
    async with browser_session(system.access["portal"]) as browser:
        async with browser.get(link) as preview:  # looking at it does not spend it
            assert preview.status == 200
        await log_in(browser, link)
    async with browser_session(system.access["portal"]) as stranger:
        async with stranger.get(link) as spent:
            assert spent.status == 410
    nobody = dit4c("login-link", "nobody", "--data-dir", system.data)
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)


def test_a_cache_that_cannot_be_written(tmp_path):
    assert shutil.which("env")
    (tmp_path / "file").touch()
    ports = System(tmp_path).ports
    done = subprocess.run(
        ["env", f"XDG_CACHE_HOME={tmp_path / 'file'}", sys.executable, "-m", "dit4c_p2p", "up",
         "--data-dir", str(tmp_path / "data"), "--portal-port", str(ports[0]),
         "--router-port", str(ports[1]), "--router-ssh-port", str(ports[2]),
         "--images-port", str(ports[3]), "--files-port", str(ports[4])],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cache folder" in done.stderr.splitlines()[-1]
