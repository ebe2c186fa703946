"""Pods on the real engine: every verb, its failures, and what is left after each."""

import asyncio
from dataclasses import replace

import pytest
from systems.pods import docker, ensure_image, inspect, look, pods_of, run_start

from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import fingerprint, parse_public
from dit4c_p2p.messages.link import INSTANCE_KEY_NAMESPACE, key_statement
from dit4c_p2p.messages.node import PodKey, PodRunning, PodState, Progress
from dit4c_p2p.node.agent import remove_everything_of_node
from dit4c_p2p.node.errors import (
    AppExited,
    NoPort,
    NoSuchPod,
    NotListening,
    OutOfMemory,
    PolicyRefused,
    UnknownImage,
)
from dit4c_p2p.node.owner.pause import set_paused
from dit4c_p2p.node.owner.policy import Policy

pytestmark = [pytest.mark.engine, pytest.mark.root]


async def test_a_pod_starts_is_listed_and_goes_without_a_trace(
    pods, parts, config, images, instance
):
    said = await run_start(pods, instance, images.app)
    assert said[-1] == PodRunning(instance=instance)
    assert [type(one) for one in said[:2]] == [PodKey, Progress]
    made = look(instance)
    assert made.containers == [
        f"dit4c-{instance}-{r}" for r in ("app", "auth", "infra", "listener")
    ]
    assert made.networks == [f"dit4c-{instance}"]
    assert made.volumes == [f"dit4c-{instance}-app-0", f"dit4c-{instance}-pod"]
    (listed,) = (await pods.list()).pods
    assert (listed.instance, listed.state) == (instance, PodState.RUNNING)
    assert (await pods.describe()).pods == 1
    assert docker("exec", f"dit4c-{instance}-app", "cat", "/data/kept") == "from the image"
    told = inspect(f"dit4c-{instance}-app")["Config"]["Env"]
    assert "DIT4C_PORTAL_URL=http://localhost:8080" in told
    used = await parts.memory._measure()
    assert 0 < used[instance] < config.policy.memory_bytes

    await pods.discard(instance)
    assert not look(instance)
    assert (await pods.list()).pods == []
    assert await parts.memory._measure() == {}
    assert not (config.folder / "instances" / instance).exists()
    await pods.discard(instance)


async def test_on_a_paused_machine_what_runs_goes_on_and_nothing_starts(
    pods, config, images, instance
):
    await run_start(pods, instance, images.app)
    set_paused(config.folder, True)
    assert (await pods.describe()).paused
    assert (await run_start(pods, instance, images.app))[-1] == PodRunning(instance=instance)
    await pods.stop(instance)
    with pytest.raises(PolicyRefused, match="has paused it"):
        await run_start(pods, instance, images.app, run=2)
    set_paused(config.folder, False)
    said = await run_start(pods, instance, images.app, run=2)
    assert isinstance(said[-1], PodRunning)
    assert not (await pods.describe()).paused


async def test_instance_and_node_both_sign_for_the_key(pods, config, images, instance):
    key, *_ = await run_start(pods, instance, images.app)
    public = parse_public(key.public_key)
    statement = key_statement(instance, "node-main", fingerprint(public), "nonce")
    sshsig.verify(statement, key.instance_signature, INSTANCE_KEY_NAMESPACE, [public])
    sshsig.verify(statement, key.node_signature, INSTANCE_KEY_NAMESPACE, [config.key])


async def test_a_repeated_start_changes_nothing_and_keeps_the_key(pods, images, instance):
    first = await run_start(pods, instance, images.app)
    before = {name: inspect(name)["Id"] for name in look(instance).containers}
    second, third = await asyncio.gather(
        run_start(pods, instance, images.app), run_start(pods, instance, images.app)
    )
    assert first[0] == second[0] == third[0]
    assert second[-1] == third[-1] == PodRunning(instance=instance)
    assert {name: inspect(name)["Id"] for name in look(instance).containers} == before


async def test_two_at_once_have_networks_of_their_own(pods, images, instance):
    other = instance[:-1] + "x"
    await asyncio.gather(run_start(pods, instance, images.app), run_start(pods, other, images.app))
    first, second = (
        docker("network", "inspect", f"dit4c-{id}", "-f", "{{(index .IPAM.Config 0).Subnet}}")
        for id in (instance, other)
    )
    assert first != second
    assert first.endswith("/28")
    assert second.endswith("/28")


async def test_an_exited_app_is_reported_with_the_end_of_its_log(pods, images, instance):
    with pytest.raises(AppExited, match="exit code 3") as caught:
        await run_start(pods, instance, images.exits)
    assert "the last words" in caught.value.log_tail
    (status,) = (await pods.list()).pods
    assert (status.state, status.exit_code) == (PodState.EXITED, 3)
    assert "exit code 3" in status.reason
    assert "the last words" in (await pods.logs(instance, 10)).text
    for name in look(instance).containers:
        assert not inspect(name)["State"]["Running"]


async def test_an_app_that_takes_too_much_memory(pods, images, instance):
    with pytest.raises(OutOfMemory, match="more than its 64 MiB of memory"):
        await run_start(pods, instance, images.hungry)
    (status,) = (await pods.list()).pods
    assert "more than its 64 MiB of memory" in status.reason


async def test_an_app_that_does_not_listen(config, engine, images, instance):
    pods = pods_of(replace(config, pods=replace(config.pods, answers_s=2)), engine)
    with pytest.raises(NotListening, match="port 8080 within 2 seconds") as caught:
        await run_start(pods, instance, images.deaf)
    assert "I listen to nobody" in caught.value.log_tail
    assert not inspect(f"dit4c-{instance}-app")["State"]["Running"]


async def test_images_that_cannot_run_here(pods, config, engine, images, instance):
    with pytest.raises(NoPort, match="declares no TCP port"):
        await ensure_image(pods, images.no_port)
    with pytest.raises(UnknownImage):
        await ensure_image(pods, "sha256:" + "0" * 64)
    with pytest.raises(PolicyRefused):
        await ensure_image(pods, "busybox:latest")
    assert (await ensure_image(pods, images.app))[-1].port == 8080
    others = Policy(images=frozenset({images.exits}))
    with pytest.raises(PolicyRefused, match="does not allow"):
        await run_start(pods_of(replace(config, policy=others), engine), instance, images.app)
    assert not look(instance)


async def test_the_owner_lends_one_place(config, engine, images, instance):
    pods = pods_of(replace(config, policy=replace(config.policy, instances=1)), engine)
    other = instance[:-1] + "x"
    results = await asyncio.gather(
        run_start(pods, instance, images.app),
        run_start(pods, other, images.app),
        return_exceptions=True,
    )
    assert any(isinstance(result, PolicyRefused) for result in results)


async def test_a_stopped_pod_is_kept_and_not_made_anew(pods, images, instance):
    await run_start(pods, instance, images.app)
    docker("exec", f"dit4c-{instance}-app", "touch", "/work")
    await pods.stop(instance)
    await pods.stop(instance)
    (status,) = (await pods.list()).pods
    assert (status.state, status.reason) == (PodState.EXITED, "it was stopped as asked")
    with pytest.raises(AppExited, match="stopped as asked"):
        await run_start(pods, instance, images.app)
    assert "work" in docker("diff", f"dit4c-{instance}-app")


async def test_verbs_on_nothing(pods, instance):
    with pytest.raises(NoSuchPod):
        await pods.stop(instance)
    with pytest.raises(NoSuchPod):
        await pods.logs(instance, 10)
    with pytest.raises(PolicyRefused):
        await pods.discard("../../etc")


async def test_discard_while_it_starts(pods, images, instance):
    starting = asyncio.create_task(run_start(pods, instance, images.deaf))
    async with asyncio.timeout(30):
        while not (look(instance).containers and (await pods.list()).pods[0].state == "running"):
            await asyncio.sleep(0.1)
    await pods.discard(instance)
    with pytest.raises(NoSuchPod, match="removed while it started"):
        await starting
    assert not look(instance)


async def test_all_pods_of_a_data_folder_are_removed_at_once(pods, config, images, instance):
    other = instance[:-1] + "x"
    await run_start(pods, instance, images.app)
    await run_start(pods, other, images.app)
    assert await remove_everything_of_node(config.data_folder) == sorted([instance, other])
    assert not look(instance)
    assert not look(other)
    assert await remove_everything_of_node(config.data_folder) == []


async def test_row_app_container_as_promised(pods, images, instance):
    """security.md section 4: capabilities, no-new-privileges, seccomp, limits, device, socket."""
    await run_start(pods, instance, images.app)
    status = docker("exec", f"dit4c-{instance}-app", "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    eight = 0b1 | 0b10 | 0b1000 | 0b10000 | 0b1000000 | 0b10000000 | 0b100000 | (1 << 10)
    assert int(fields["CapBnd"], 16) == eight
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    host = inspect(f"dit4c-{instance}-app")["HostConfig"]
    assert host["PidsLimit"] == 512
    assert host["Memory"] == host["MemorySwap"] == 64 * 1024**2
    assert host["NanoCpus"] == 10**9
    assert not host["Privileged"]
    assert not host["Devices"]
    assert not host["Binds"]
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["LogConfig"]["Config"]["max-size"]
    mounts = inspect(f"dit4c-{instance}-app")["Mounts"]
    volumes = [mount for mount in mounts if mount["Type"] == "volume"]
    assert [(mount["Name"], mount["Destination"]) for mount in volumes] == [
        (f"dit4c-{instance}-app-0", "/data")
    ]
    # What the engine mounts into every container of a pod, here read-only.
    others = [mount for mount in mounts if mount["Type"] != "volume"]
    assert {mount["Destination"] for mount in others} == {
        *("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"),
    }
    assert not any(mount["RW"] for mount in others)
    for role in ("listener", "auth"):
        status = docker("exec", f"dit4c-{instance}-{role}", "cat", "/proc/1/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["CapBnd"], 16) == 0
        assert fields["Uid"].split() == ["10001"] * 4
        assert fields["NoNewPrivs"] == "1"


async def test_row_an_app_cannot_read_its_helpers_key(pods, images, instance):
    """security.md section 1: a user's container can't read its helpers' keys."""
    await run_start(pods, instance, images.app)
    seen = docker("exec", f"dit4c-{instance}-app", "ls", "/run/dit4c", "/proc", check=False)
    assert "key" not in seen.split()
    pids = [word for word in seen.split() if word.isdigit()]
    assert pids == ["1"] or len(pids) == 2  # httpd and the ls itself: no helper's process
    stat = docker("exec", f"dit4c-{instance}-auth", "stat", "-c", "%a %u", "/run/dit4c/key")
    assert stat == "600 10001"
    refused = docker("exec", f"dit4c-{instance}-listener", "touch", "/run/dit4c/x", check=False)
    assert "Read-only" in refused
