"""What happens to pods unasked: apps end, helpers die, the engine or the agent is away."""

import asyncio

import pytest
from systems.pod_supervisor import keeping
from systems.pods import docker, inspect, pods_of, run_start

from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.node import PodEvent, PodState
from dit4c_p2p.messages.pod import HelperState, HelperStatus
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.pods import spec
from dit4c_p2p.node.pods.spec import Role
from dit4c_p2p.node.pods.supervisor import FellBehind, PodEventSubscription, PodSupervisor

pytestmark = [pytest.mark.engine, pytest.mark.root]


async def until(events: PodEventSubscription, state: PodState | None) -> PodEvent:
    """The next event with this state."""
    async with asyncio.timeout(30):
        while True:
            event = await events.next(30)
            if event is not None and (event.status and event.status.state) == state:
                return event


async def running(name: str) -> None:
    """Waits until a container runs."""
    async with asyncio.timeout(30):
        while not inspect(name)["State"]["Running"]:
            await asyncio.sleep(0.1)


async def test_an_app_that_ends_and_a_pod_that_goes(pods, engine, config, images, instance):
    async with keeping(pods, engine, config) as keeper:
        with keeper.subscribe() as events:
            await run_start(pods, instance, images.app)
            docker("kill", f"dit4c-{instance}-app")
            told = (await until(events, PodState.EXITED)).status
            assert told.exit_code == 137
            assert told.reason == "the app was ended by force (SIGKILL)"
            await keeper.discard(instance)
            assert (await until(events, None)).instance == instance


async def test_an_app_that_uses_too_much_memory(pods, engine, config, images, instance):
    async with keeping(pods, engine, config) as keeper:
        with keeper.subscribe() as events:
            await run_start(pods, instance, images.app)
            hog = ("dd", "if=/dev/zero", "of=/dev/null", "bs=1G", "count=1")
            docker("exec", f"dit4c-{instance}-app", *hog, check=False)
            told = (await until(events, PodState.RUNNING)).status
            assert told.reason == (
                "a program in it was ended: together they used more than 64 MiB of memory"
            )


async def test_a_conflict_copy_is_told_of_while_its_app_runs(
    pods, engine, config, images, instance
):
    said = HelperStatus("storage", HelperState.CONFLICT, "private/a (conflict)")
    labels = {
        spec.LABEL_INSTANCE: instance,
        spec.LABEL_ROLE: Role.STORAGE,
        spec.LABEL_DATA_DIR: str(config.data_folder),
    }
    options = [part for name, its in labels.items() for part in ("--label", f"{name}={its}")]
    async with keeping(pods, engine, config) as keeper:
        with keeper.subscribe() as events:
            await run_start(pods, instance, images.app)
            program = (
                f"trap 'exit 0' TERM; echo '{encode(said).decode()}'; while :; do sleep 0.1; done"
            )
            name = f"dit4c-{instance}-storage"
            docker(
                "run",
                "--detach",
                "--name",
                name,
                *options,
                "--entrypoint",
                "sh",
                images.app,
                "-c",
                program,
            )
            async with asyncio.timeout(20):
                while not (told := (await until(events, PodState.RUNNING)).status.reason):
                    pass
            assert told.startswith("changed elsewhere") and "private/a (conflict)" in told


async def test_a_mounter_that_a_killed_agent_left_is_removed(
    pods, engine, config, images, instance
):
    await run_start(pods, instance, images.app)
    name = f"dit4c-{instance}-mounter"
    docker("create", "--name", name, images.app)
    async with keeping(pods, engine, config):
        async with asyncio.timeout(30):
            while docker("ps", "--all", "--quiet", "--filter", f"name={name}"):
                await asyncio.sleep(0.1)
    assert inspect(f"dit4c-{instance}-app")["State"]["Running"]


@pytest.mark.parametrize("role", ["listener", "auth"])
async def test_a_helper_that_dies_is_started_again(pods, engine, config, images, instance, role):
    async with keeping(pods, engine, config):
        await run_start(pods, instance, images.app)
        app = inspect(f"dit4c-{instance}-app")["State"]["StartedAt"]
        for _ in range(2):
            docker("kill", f"dit4c-{instance}-{role}")
            await running(f"dit4c-{instance}-{role}")
        assert inspect(f"dit4c-{instance}-app")["State"]["StartedAt"] == app


async def test_changes_while_the_agent_was_away_are_found(pods, engine, config, images, instance):
    await run_start(pods, instance, images.app)
    other = instance[:-1] + "x"
    await run_start(pods, other, images.app)
    docker("kill", f"dit4c-{instance}-app", f"dit4c-{other}-auth")
    again = pods_of(config, engine)
    async with keeping(again, engine, config):
        assert (await again.finish_exit(instance)).state is PodState.EXITED
        listed = {status.instance: status for status in (await again.list()).pods}
        assert listed[instance].state is PodState.EXITED
        assert listed[other].state is PodState.RUNNING
        await running(f"dit4c-{other}-auth")


async def test_an_app_that_somebody_removed(pods, engine, config, images, instance):
    async with keeping(pods, engine, config) as keeper:
        with keeper.subscribe() as events:
            await run_start(pods, instance, images.app)
            docker("rm", "-f", f"dit4c-{instance}-app")
            async with asyncio.timeout(30):
                while "removed by somebody" not in (
                    (await until(events, PodState.EXITED)).status.reason
                ):
                    pass


class Line:
    """The engine's socket at another path, which can be cut."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def cut(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection("/var/run/docker.sock")
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def test_row_engine_away_and_back_within_15_s(config, images, instance, tmp_path):
    """security.md section 5: the agent finds its pods again, and what happened meanwhile."""
    line = Line(str(tmp_path / "engine.sock"))
    await line.open()
    try:
        async with Engine(f"unix://{line.path}") as engine:
            pods = pods_of(config, engine)
            async with keeping(pods, engine, config) as keeper:
                await run_start(pods, instance, images.app)
                with keeper.subscribe() as events:
                    await line.cut()
                    docker("kill", f"dit4c-{instance}-app")
                    (tmp_path / "engine.sock").unlink(missing_ok=True)
                    await line.open()
                    async with asyncio.timeout(15):
                        told = (await until(events, PodState.EXITED)).status
                    assert told.exit_code == 137
    finally:
        await line.cut()


async def test_a_subscriber_that_does_not_read_starts_over(pods, engine, config):
    keeper = PodSupervisor(pods, engine, str(config.data_folder))
    with keeper.subscribe() as events:
        for _ in range(1001):
            events.put(PodEvent(instance="abc", status=None))
        with pytest.raises(FellBehind):
            await events.next(1)
