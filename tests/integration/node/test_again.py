"""Stopped and started again, gone down and come back: the same app container, its files, its key.

And never without the firewall: what starts first in the new namespace is infra, with the rules.
"""

from contextlib import aclosing
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from systems.pod_supervisor import keeping
from systems.pods import (
    app_of,
    docker,
    inspect,
    leave_work,
    look,
    pods_of,
    run_start,
    running,
    stands,
    until_at_engine,
    work_is_there,
)

from dit4c_p2p.messages.node import LogText, PodRunning, PodState, Progress, StartPod
from dit4c_p2p.node.errors import AppExited, NoSuchPod, PodBroken
from dit4c_p2p.node.pods.manager import PodManager

pytestmark = [pytest.mark.engine, pytest.mark.root]


async def started_with_work(pods: PodManager, instance: str, image: str) -> dict:
    """A running pod with a file in its container and one in its volume; the app as inspected."""
    await run_start(pods, instance, image)
    leave_work(instance)
    return inspect(app_of(instance))


async def test_stopped_and_started_again_with_its_files_and_its_key(pods, images, instance):
    before = await started_with_work(pods, instance, images.app)
    first, *_ = await run_start(pods, instance, images.app)
    await pods.stop(instance)
    again = await run_start(pods, instance, images.app, run=2, kept=True)
    assert (again[0], again[-1]) == (first, PodRunning(instance=instance))
    after = inspect(app_of(instance))
    assert after["Id"] == before["Id"]
    assert after["State"]["StartedAt"] > before["State"]["StartedAt"]
    assert work_is_there(instance)
    assert stands(instance)
    (status,) = (await pods.list()).pods
    assert (status.state, status.run) == (PodState.RUNNING, 2)
    await run_start(pods, instance, images.app, run=2, kept=True)
    assert inspect(app_of(instance))["State"]["StartedAt"] == after["State"]["StartedAt"]
    await pods.discard(instance)
    assert not look(instance)


async def test_an_app_that_ended_by_itself_starts_in_the_next_run_only(
    pods, engine, config, images, instance
):
    async with keeping(pods, engine, config):
        await started_with_work(pods, instance, images.app)
        docker("kill", app_of(instance))
        # What served it gives back its memory, and the tunnel is gone.
        await until_at_engine(lambda: not running(instance))
        for _ in range(2):
            with pytest.raises(AppExited, match="by force"):
                await run_start(pods, instance, images.app)
        said = await run_start(pods, instance, images.app, run=2, kept=True)
        assert said[-1] == PodRunning(instance=instance)
        assert work_is_there(instance)
        assert stands(instance)


async def test_a_kept_app_is_never_created_anew(pods, images, instance):
    with pytest.raises(NoSuchPod, match="gone from the machine"):
        await run_start(pods, instance, images.app, run=2, kept=True)
    assert not look(instance)
    await run_start(pods, instance, images.app)
    await pods.stop(instance)
    docker("rm", f"dit4c-{instance}-infra")
    with pytest.raises(PodBroken, match="infra"):
        await run_start(pods, instance, images.app, run=2, kept=True)
    assert app_of(instance) in look(instance).containers


async def test_an_app_that_was_never_reachable_is_created_anew(pods, images, instance):
    with pytest.raises(AppExited):
        await run_start(pods, instance, images.exits)
    with pytest.raises(AppExited):
        await run_start(pods, instance, images.exits)
    said = await run_start(pods, instance, images.app, run=2)
    assert said[-1] == PodRunning(instance=instance)


async def test_a_start_that_nobody_waits_for_any_more_is_stopped_and_tried_anew(
    pods, engine, config, images, instance
):
    """As when its time is up: nothing runs on, its log stays, and its user may start it again."""
    async with keeping(pods, engine, config):
        request = StartPod(instance=instance, image=images.deaf, key_nonce="nonce")
        async with aclosing(pods.start(request)) as said:
            async for one in said:
                if isinstance(one, Progress) and one.info.startswith("Waiting for the app"):
                    break
        assert stands(instance)
        await pods.stop(instance)
        assert not docker("ps", "-q", "--filter", f"label=dit4c.instance={instance}")
        (status,) = (await pods.list()).pods
        assert (status.state, status.reason) == (PodState.EXITED, "it was stopped as asked")
        assert await pods.logs(instance, 10) == LogText(text="I listen to nobody\n")
        assert (await pods.describe()).pods == 0
        again = await run_start(pods, instance, images.app, run=2)
        assert again[-1] == PodRunning(instance=instance)
        assert stands(instance)


async def test_row_firewall_of_a_namespace_that_came_anew(config, engine, images, instance):
    """security.md section 4: started again it has the rules that hold now, before the app runs."""
    pods = pods_of(config, engine)
    await started_with_work(pods, instance, images.app)
    await pods.stop(instance)
    # Since then the machine has moved: another network is the owner's own.
    moved = replace(
        config,
        pods=replace(
            config.pods,
            network_range=IPv4Network("10.215.0.0/16"),
            resolvers=("203.0.113.7",),
        ),
    )
    await run_start(pods_of(moved, engine), instance, images.app, run=2, kept=True)
    rules = docker("exec", f"dit4c-{instance}-infra", "nft", "list", "ruleset")
    assert rules.count("203.0.113.7") >= 2
    assert rules.count("table inet dit4c") == rules.count("table netdev dit4c") == 1
    started = {
        role: inspect(f"dit4c-{instance}-{role}")["State"]["StartedAt"]
        for role in ("infra", "app", "listener", "auth")
    }
    assert started["infra"] == min(started.values())


async def test_a_firewall_that_fails_leaves_the_app_down(config, engine, images, instance):
    pods = pods_of(config, engine)
    await started_with_work(pods, instance, images.app)
    await pods.stop(instance)

    class NoRules:
        def __getattr__(self, name):
            return getattr(engine, name)

        async def execute(self, id, command, environment):
            return 1, "nft: no"

    moved = replace(config, pods=replace(config.pods, resolvers=("203.0.113.7",)))
    with pytest.raises(PodBroken, match="firewall could not be loaded"):
        await run_start(pods_of(moved, NoRules()), instance, images.app, run=2, kept=True)
    assert not running(instance)
    # Its user was told so: it does not come up by itself later.
    (status,) = (await pods.list()).pods
    assert (status.state, status.run) == (PodState.EXITED, 2)
    assert "firewall could not be loaded: nft: no" in status.reason
    said = await run_start(pods, instance, images.app, run=3, kept=True)
    assert said[-1] == PodRunning(instance=instance)


async def test_a_pod_that_lost_infra_comes_back(pods, engine, config, images, instance):
    async with keeping(pods, engine, config) as keeper:
        with keeper.subscribe() as events:
            before = await started_with_work(pods, instance, images.app)
            docker("kill", f"dit4c-{instance}-infra")
            while (event := await events.next(20)).status.state is not PodState.INTERRUPTED:
                pass
            assert "went down" in event.status.reason
            await until_at_engine(lambda: inspect(app_of(instance))["State"]["Running"])
            await until_at_engine(lambda: stands(instance))
            assert inspect(app_of(instance))["Id"] == before["Id"]
            assert work_is_there(instance)
            (status,) = (await pods.list()).pods
            assert (status.state, status.run) == (PodState.RUNNING, 1)
            assert "started again" in status.reason


async def test_a_stopped_pod_stays_down(pods, engine, config, images, instance):
    await run_start(pods, instance, images.app)
    await pods.stop(instance)
    async with keeping(pods_of(config, engine), engine, config):
        await pods.resume(instance)
    (status,) = (await pods.list()).pods
    assert (status.state, status.reason) == (PodState.EXITED, "it was stopped as asked")
    assert not running(instance)


async def test_a_new_agent_leaves_running_pods_and_takes_its_own_helpers_for_what_it_starts(
    pods, engine, config, images, instance
):
    """An agent that was upgraded: pods live on; its images are used for what has to be started."""
    await started_with_work(pods, instance, images.app)
    before = {name: inspect(name)["Id"] for name in look(instance).containers}
    # Another id of the same program, as an upgrade brings.
    newer = docker("commit", "-m", "newer", f"dit4c-{instance}-auth")
    try:
        upgraded = replace(config, images=replace(config.images, auth=newer))
        later = pods_of(upgraded, engine)
        async with keeping(later, engine, upgraded):
            said = await run_start(later, instance, images.app)
            assert said[-1] == PodRunning(instance=instance)
            assert {name: inspect(name)["Id"] for name in look(instance).containers} == before
            docker("kill", f"dit4c-{instance}-auth")

            def replaced() -> bool:
                auth = f"dit4c-{instance}-auth"
                if auth not in look(instance).containers:
                    return False
                found = inspect(auth)
                return found["Image"] == newer and found["State"]["Running"]

            await until_at_engine(replaced)
            assert inspect(app_of(instance))["Id"] == before[app_of(instance)]
            await later.discard(instance)
    finally:
        docker("rmi", "-f", "--no-prune", newer, check=False)


async def test_a_kept_app_needs_its_image_no_more(pods, engine, config, images, instance):
    """Its name may be gone, and the whole image: its container has all that is needed."""
    made = docker("create", images.app)
    image = docker("commit", "--change", f"LABEL made-for={instance}", made)
    docker("rm", made)
    before = await started_with_work(pods, instance, image)
    await pods.stop(instance)
    docker("rmi", "--force", "--no-prune", image)
    gone = f"registry.example.org/gone@{image}"
    await run_start(pods, instance, gone, run=2, kept=True)
    assert inspect(app_of(instance))["Id"] == before["Id"]
    assert work_is_there(instance)
    async with keeping(pods, engine, config):
        docker("kill", f"dit4c-{instance}-auth")
        await until_at_engine(lambda: stands(instance))
