"""A start that fails leaves nothing running, wherever the engine says no.

A pod that was never reachable leaves nothing but its key; one whose app is kept is stopped, with
the app's container and its files.
"""

import inspect as inspection
from dataclasses import replace
from typing import Any

import pytest
from systems.pods import docker, look, make_image, pods_of, run_start, running

from dit4c_p2p.messages.node import PASSING_CODES, PodRunning, PodState
from dit4c_p2p.node.errors import (
    EngineError,
    EngineSaid,
    ImageRefused,
    MachineRefused,
    as_failure,
)
from dit4c_p2p.node.pods.manager import PodManager

pytestmark = [pytest.mark.engine, pytest.mark.root]

MAKING = ("create_network", "create_volume", "create_container", "start_container", "put_files")
# A first start makes this many such calls, a further one that many; asserted below.
CALLS_OF_A_START = 12
CALLS_OF_A_FURTHER_START = 7


class Refusing:
    """An engine that refuses the ``number``-th call of those that make something."""

    def __init__(self, engine: Any, number: int) -> None:
        self._engine, self._number, self.calls = engine, number, 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._engine, name)
        if name not in MAKING or not inspection.iscoroutinefunction(call):
            return call

        async def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._number:
                raise EngineSaid("not today")
            return await call(*arguments, **options)

        return counted


async def state(pods: PodManager) -> PodState:
    (listed,) = (await pods.list()).pods
    return listed.state


async def test_starts_make_as_many_calls_as_are_refused(config, engine, images, instance):
    counted = Refusing(engine, 0)
    await run_start(pods_of(config, counted), instance, images.app)
    assert counted.calls == CALLS_OF_A_START
    await pods_of(config, engine).stop(instance)
    await run_start(pods_of(config, counted), instance, images.app, run=2, kept=True)
    assert counted.calls == CALLS_OF_A_START + CALLS_OF_A_FURTHER_START


@pytest.mark.parametrize("number", range(1, CALLS_OF_A_START + 1))
async def test_nothing_is_left_of_a_first_start(config, engine, images, instance, number):
    refusing = Refusing(engine, number)
    with pytest.raises(EngineError, match="not today"):
        await run_start(pods_of(config, refusing), instance, images.app)
    assert not look(instance)
    pods = pods_of(config, engine)
    assert await state(pods) is PodState.PARTIAL
    assert (await run_start(pods, instance, images.app))[-1] == PodRunning(instance=instance)


@pytest.mark.parametrize("number", range(1, CALLS_OF_A_FURTHER_START + 1))
async def test_a_kept_app_stays_and_nothing_runs(config, engine, images, instance, number):
    pods = pods_of(config, engine)
    await run_start(pods, instance, images.app)
    docker("exec", f"dit4c-{instance}-app", "touch", "/work")
    app = docker("inspect", "-f", "{{.Id}}", f"dit4c-{instance}-app")
    await pods.stop(instance)
    refusing = pods_of(config, Refusing(engine, number))
    with pytest.raises(EngineError, match="not today"):
        await run_start(refusing, instance, images.app, run=2, kept=True)
    assert running(instance) == []
    assert await state(pods) is PodState.INTERRUPTED
    said = await run_start(pods, instance, images.app, run=2, kept=True)
    assert said[-1] == PodRunning(instance=instance)
    assert docker("inspect", "-f", "{{.Id}}", f"dit4c-{instance}-app") == app
    assert "work" in docker("diff", f"dit4c-{instance}-app")


async def test_an_app_that_can_not_be_started_leaves_nothing(pods, images, instance):
    """As the real engine says it: the image names a program that is not in it."""
    broken = make_image({}, 'CMD ["/no/such/program"]', "EXPOSE 8080")
    try:
        with pytest.raises(ImageRefused, match="'/no/such/program' is not in the image"):
            await run_start(pods, instance, broken)
        assert not look(instance)
    finally:
        docker("rmi", "-f", broken)


REFUSED = {
    "no program": ((), "does not say which program"),
    "missing program": (('ENTRYPOINT ["/nothing"]',), "'/nothing' is not in the image"),
    "a folder": (('CMD ["/etc"]',), "can't be executed"),
    "volume": (('CMD ["sleep","9"]', "VOLUME /proc"), "a volume at '/proc'"),
    "user": (('CMD ["sleep","9"]', "USER nobody-here"), "'nobody-here' is not known"),
    "folder": (('CMD ["sleep","9"]', "WORKDIR /bin/busybox"), "working directory"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_permanent_refusals_of_the_engine_are_not_retried(pods, instance, name):
    """Its user is told why in sentences, without a path of the machine."""
    changes, part = REFUSED[name]
    image = make_image({}, *changes, "EXPOSE 8080", "ENV PATH=/bin")
    try:
        with pytest.raises(ImageRefused, match=part) as refused:
            await run_start(pods, instance, image)
        text = as_failure(refused.value)
        assert text.code not in PASSING_CODES
        assert "/var/lib" not in text.text
        assert "runc" not in text.text
        assert not look(instance)
    finally:
        docker("rmi", "-f", image)


async def test_a_machine_without_the_helpers_images_says_so(config, engine, images, instance):
    gone = replace(config.images, listener="sha256:" + "0" * 64)
    pods = pods_of(replace(config, images=gone), engine)
    with pytest.raises(MachineRefused, match="lacks an image that every instance needs"):
        await run_start(pods, instance, images.app)
