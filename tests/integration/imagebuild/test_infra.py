"""The container that holds a pod's network: no firewall, no pod."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiodocker.containers import DockerContainer

from dit4c_p2p.imagebuild import Images

pytestmark = pytest.mark.engine

Run = Callable[..., Awaitable[DockerContainer]]

CONFINED = {"CapDrop": ["ALL"], "CapAdd": ["NET_ADMIN"], "ReadonlyRootfs": True}
RULES = """
table inet dit4c {
    chain output { type filter hook output priority 0; policy drop; oif "lo" accept; }
}
"""


async def printed(container: DockerContainer, **streams: bool) -> str:
    lines = await container.log(**{"stdout": False, "stderr": False, **streams})
    return "".join(lines)


async def first_line(container: DockerContainer) -> str:
    async with asyncio.timeout(20):
        async for line in container.log(stdout=True, follow=True):
            return str(line)
    return ""


async def test_it_says_ready_when_the_rules_are_in_and_ends_at_once(
    run: Run, images: Images
) -> None:
    container = await run(images.infra, Env=[f"DIT4C_RULES={RULES}"], HostConfig=CONFINED)
    assert (await first_line(container)).strip() == "ready"
    listing = await container.exec(["nft", "list", "ruleset"])
    loaded = b""
    async with asyncio.timeout(20), listing.start() as stream:
        while (message := await stream.read_out()) is not None:
            loaded += message.data
    assert b"policy drop" in loaded

    began = time.monotonic()
    await container.stop(t=10)
    assert time.monotonic() - began < 2
    assert (await container.show())["State"]["ExitCode"] == 0


@pytest.mark.parametrize("rules", ["", "table inet {", 'include "/no/such"'])
async def test_without_rules_that_hold_it_is_never_ready(
    run: Run, images: Images, rules: str
) -> None:
    environment = [f"DIT4C_RULES={rules}"] if rules else []
    container = await run(images.infra, Env=environment, HostConfig=CONFINED)
    result: dict[str, Any] = await asyncio.wait_for(container.wait(), 20)
    assert result["StatusCode"] != 0
    assert await printed(container, stdout=True) == ""
    assert await printed(container, stderr=True) != ""


async def test_without_the_right_to_set_rules_it_is_never_ready(run: Run, images: Images) -> None:
    container = await run(
        images.infra, Env=[f"DIT4C_RULES={RULES}"], HostConfig={"CapDrop": ["ALL"]}
    )
    result = await asyncio.wait_for(container.wait(), 20)
    assert result["StatusCode"] != 0
    assert "ready" not in await printed(container, stdout=True)
