"""A terminal's files, saved, and had again in a copy: through the API of the whole system."""

import asyncio

import pytest
from systems.pods import app_of, docker
from systems.saving import listing, shell

pytestmark = pytest.mark.engine

CHANGES = """
mkdir -p ~/work/deep && echo one > ~/work/deep/file
echo secret > ~/work/private && chmod 0600 ~/work/private
head -c 20000000 /dev/urandom > ~/work/big
"""
OF_ROOT = "rm /etc/motd; rm -r /opt/terminal/static && mkdir /opt/terminal/static"


async def test_saved_and_gone_on_from(system):
    async with system.api() as api:
        first = await api.start("terminal")
        await api.wait_for(first, "running", url=True)
        shell(app_of(first), CHANGES, "user")
        shell(app_of(first), OF_ROOT)
        before = files_of(first)

        await api.call("POST", "instances", {"from": first}, expect=409)
        await api.call("POST", f"instances/{first}/save", expect=202)
        again = await api.call("POST", f"instances/{first}/save", expect=202)
        assert again["state"] in ("running", "stopping", "saving")
        seen = await states_until(api, first, "uploaded")
        assert {"uploading", "uploaded"} <= {one["state"] for one in seen}
        assert any(
            one["state"] == "uploading" and one["progress"] and " of " in one["info"]
            for one in seen
        )
        async with asyncio.timeout(30):
            while system.at_engine(first):
                await asyncio.sleep(0.1)
        preserved = await api.call("GET", f"instances/{first}")
        assert preserved["actions"] == ["copy", "discard"]

        second = (await api.call("POST", "instances", {"from": first}, expect=201))["id"]
        await api.wait_for(second, "running", url=True)
        assert files_of(second) == before
        assert docker("exec", app_of(second), "id", "-un") == "user"
        await api.discard(second)
        await api.discard(first)
        assert system.at_engine(first) == []


async def test_a_checkpoint_of_one_that_runs(system):
    """Its files of that moment are had again in a copy, while it goes on."""
    async with system.api() as api:
        first = await api.start("terminal")
        await api.wait_for(first, "running", url=True)
        shell(app_of(first), CHANGES, "user")
        before = files_of(first)
        asked = await api.call("POST", f"instances/{first}/checkpoint", expect=202)
        assert (asked["state"], asked["checkpoint"]["busy"]) == ("running", True)
        async with asyncio.timeout(120):
            while asked["checkpoint"]["busy"]:
                await asyncio.sleep(0.1)
                asked = await api.call("GET", f"instances/{first}")
        assert (asked["state"], asked["checkpoint"]["info"]) == ("running", ""), asked
        assert asked["checkpoint"]["at"] and "open" in asked["actions"]
        shell(app_of(first), "echo later > ~/work/later", "user")

        second = (await api.call("POST", "instances", {"from": first}, expect=201))["id"]
        await api.wait_for(second, "running", url=True)
        assert files_of(second) == before
        for one in (first, second):
            await api.discard(one)
            assert system.at_engine(one) == []


def files_of(instance: str) -> list[str]:
    own = listing(app_of(instance), "/home", user="user")
    return own + listing(app_of(instance), "/opt/terminal", "/etc/alternatives", "/etc/motd*")


async def states_until(api, instance: str, last: str, timeout: float = 120):
    """Everything that the API said of an instance until it was in that state."""
    seen = []
    async with asyncio.timeout(timeout):
        while not seen or seen[-1]["state"] != last:
            found = await api.call("GET", f"instances/{instance}")
            if not seen or found != seen[-1]:
                seen.append(found)
            assert found["state"] != "errored" and "Not saved" not in found["info"], seen[-3:]
            await asyncio.sleep(0.05)
    return seen


async def test_killed_at_each_phase_of_a_save(own_system):
    """The whole system dies while it stops, reads, uploads and confirms; each copy has it all."""
    own_system.start()
    async with own_system.api() as api:
        instance = await api.start("terminal")
        await api.wait_for(instance, "running", url=True)
    for number, delay in enumerate((0.3, 1.5, 3.0)):
        note = f"head -c 3000000 /dev/urandom > ~/work-{number}; chmod 0600 ~/work-{number}"
        shell(app_of(instance), note, "user")
        before = listing(app_of(instance), "/home", user="user")
        async with own_system.api() as api:
            await api.call("POST", f"instances/{instance}/save", expect=202)
            await asyncio.sleep(delay)
        own_system.kill()
        own_system.start()
        async with own_system.api() as api:
            await states_until(api, instance, "uploaded")
            async with asyncio.timeout(60):
                while own_system.at_engine(instance):
                    await asyncio.sleep(0.1)
            copy = await api.call("POST", "instances", {"from": instance}, expect=201)
            instance = copy["id"]
            await api.wait_for(instance, "running", url=True)
            assert listing(app_of(instance), "/home", user="user") == before
