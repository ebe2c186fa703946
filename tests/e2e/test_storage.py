"""A person's files in /mnt, from one instance to the next, with the real file server."""

import asyncio
import subprocess

import pytest

pytestmark = pytest.mark.engine

MOUNTED_S = 30


def in_app(instance, command, *, check=True):
    """What a shell in the app prints, as the app's own user."""
    done = subprocess.run(
        ["docker", "exec", f"dit4c-{instance}-app", "sh", "-c", command],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


async def until_mounted(instance):
    """The files are there, within moments of the app's start."""
    async with asyncio.timeout(MOUNTED_S):
        while "private" not in await asyncio.to_thread(in_app, instance, "ls /mnt", check=False):
            await asyncio.sleep(0.1)


async def running_instance(api):
    instance = await api.start()
    await api.wait_for(instance, "running", url=True)
    await until_mounted(instance)
    return instance


async def test_what_one_instance_writes_the_next_one_reads(system):
    async with system.api() as api:
        one = await running_instance(api)
        in_app(one, "mkdir -p /mnt/private/work && echo hello > /mnt/private/work/note")
        in_app(one, "echo own > /mnt/instance/note")
        # As the app's own user, by number.
        assert in_app(one, "stat -c %u:%g /mnt/private/work/note") == in_app(
            one, 'echo "$(id -u):$(id -g)"'
        )

        two = await running_instance(api)
        assert in_app(two, "cat /mnt/private/work/note") == "hello"
        assert in_app(two, "ls /mnt/instance") == ""
        in_app(two, "echo changed > /mnt/private/work/note")
        assert in_app(one, "cat /mnt/private/work/note") == "changed"

        # Its files outlive an instance: nothing of them is deleted with it.
        await api.discard(two)
        assert in_app(one, "cat /mnt/private/work/note") == "changed"

        # A helper that dies is replaced, over the plain folder.
        subprocess.run(["docker", "kill", f"dit4c-{one}-storage"], check=True, timeout=30)
        await until_mounted(one)
        assert in_app(one, "cat /mnt/private/work/note") == "changed"

        # A stop and a new start keep the instance's own folder.
        await api.call("POST", f"instances/{one}/stop", expect=202)
        await api.wait_for(one, "exited")
        await api.call("POST", f"instances/{one}/start", expect=202)
        await api.wait_for(one, "running", url=True)
        await until_mounted(one)
        assert in_app(one, "cat /mnt/instance/note") == "own"
        in_app(one, "rm -r /mnt/private/work")
        await api.discard(one)
    assert system.at_engine(one) == []
