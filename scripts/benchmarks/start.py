"""From "start" to an app that answers, beside plain ``docker run`` of the same image.

    peer   docker run -p … IMAGE   until the app answers at the published port
    ours   POST /api/v1/instances  until the app answers its user through the router, logged in

The image is there already in both cases, and both are asked for the same page at the same pace.
Several rounds in turn; medians are compared. The login goes on beside the start: the helpers are to
be up before the app is.

- ``start.overhead_s``    how much longer ours takes, the median of the rounds' differences
- ``start.helpers_mib``   memory of a pod's infra, listener and auth together, page cache excluded
"""

import argparse
import asyncio
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
from yarl import URL

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from parts.processes import free_port, need, output_of
from parts.rows import Row, show, write
from systems.all_in_one import Api, System, browser_session, log_in

ROUNDS = 5
TOOL = "jupyterlab"
# Of JupyterLab: answered as soon as it serves, to anybody who reaches it.
PAGE = "api"
LOOK_EVERY_S = 0.01
ONE_LOOK_S = 2
START_LIMIT_S = 60
OVERHEAD_GOAL_S = 0.6
HELPERS_GOAL_MIB = 120
ROLES = ("infra", "listener", "auth")

Moments = dict[str, float]


@dataclass
class Measured:
    """Seconds and MiB, a figure for each round."""

    plain_s: list[float] = field(default_factory=list)
    ours_s: list[float] = field(default_factory=list)
    helpers_mib: list[float] = field(default_factory=list)
    moments: list[Moments] = field(default_factory=list)


async def until_answered(what: str, answered: Callable[[], Awaitable[bool]]) -> float:
    """When it was, on the monotonic clock.

    :raises SystemExit: not within a minute.
    """
    try:
        async with asyncio.timeout(START_LIMIT_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with asyncio.timeout(ONE_LOOK_S):
                        if await answered():
                            return time.monotonic()
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise SystemExit(f"{what} did not answer in {START_LIMIT_S} s") from None


async def plain(image: str, port: int) -> float:
    """One ``docker run``: seconds until the app answers."""
    published = free_port()
    since = time.monotonic()
    container = await output_of(
        *("docker", "run", "--detach", "--rm", "--publish", f"127.0.0.1:{published}:{port}", image)
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def answered() -> bool:
                async with session.get(f"http://127.0.0.1:{published}/{PAGE}") as response:
                    return response.status == 200 and '"version"' in await response.text()

            end = await until_answered("plain docker", answered)
    finally:
        await output_of("docker", "rm", "--force", container.strip())
    return end - since


async def ours(system: System, api: Api, visitor: aiohttp.ClientSession) -> tuple[str, Moments]:
    """One instance: its id, and seconds from the POST to each thing that happened.

    :param visitor: logged in at the portal.
    """
    since = time.monotonic()
    instance = await api.start(TOOL)
    moments = {"posted": time.monotonic() - since}
    origin = URL(f"http://{instance}.localhost:{system.ports[1]}")
    portal = URL(system.access["portal"])
    async with browser_session(str(portal), str(origin)) as browser:
        for cookie in visitor.cookie_jar:
            browser.cookie_jar.update_cookies({cookie.key: cookie}, portal)

        async def answered() -> bool:
            async with browser.get(origin / PAGE) as response:
                text = await response.text()
                what = f"{response.status} {text.partition('<title>')[2].partition('<')[0]}"
                moments.setdefault(what.strip(), time.monotonic() - since)
                return response.status == 200 and '"version"' in text

        moments["answered"] = await until_answered("the instance", answered) - since
    await api.wait_for(instance, "running", url=True)
    moments["shown"] = time.monotonic() - since
    return instance, moments


async def helpers_mib(docker: aiodocker.Docker, instance: str) -> float:
    """Memory that the pod's helpers hold, without what the kernel could take back."""
    total = 0
    for role in ROLES:
        container = await docker.containers.get(f"dit4c-{instance}-{role}")
        (stats,) = await container.stats(stream=False)
        total += _held_bytes(stats["memory_stats"])
    return total / 1024**2


def _held_bytes(stats: dict[str, Any]) -> int:
    """Use less the page cache, by the names of either version of control groups."""
    detail = stats["stats"]
    cache = detail.get("total_cache", detail.get("cache", detail.get("file", 0)))
    return int(stats["usage"] - cache)


async def measure(system: System, rounds: int) -> Measured:
    """All rounds, in turn."""
    measured = Measured()
    async with (
        aiodocker.Docker() as docker,
        system.api() as api,
        browser_session(system.access["portal"]) as visitor,
    ):
        await log_in(visitor, system.access["login_url"])
        image = (await docker.images.inspect(f"dit4c/{TOOL}:local"))["Id"]
        port = min(int(one.split("/")[0]) for one in await _exposed(docker, image))
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds} …", file=sys.stderr, flush=True)
            measured.plain_s.append(await plain(image, port))
            instance, moments = await ours(system, api, visitor)
            measured.ours_s.append(moments["answered"])
            measured.moments.append(moments)
            measured.helpers_mib.append(await helpers_mib(docker, instance))
            await api.discard(instance)
    return measured


async def _exposed(docker: aiodocker.Docker, image: str) -> list[str]:
    config = (await docker.images.inspect(image))["Config"]
    return [one for one in config.get("ExposedPorts") or {} if not one.endswith("/udp")]


def rows_of(measured: Measured) -> list[Row]:
    """Print the moments; our rows beside their goals."""
    print(f"{'medians':<40}{statistics.median(measured.plain_s):>8.3f} s plain docker run")
    for name in sorted(measured.moments[0], key=measured.moments[0].__getitem__):
        values = [moments[name] for moments in measured.moments if name in moments]
        print(f"{name:<40}{statistics.median(values):>8.3f} s after the POST began")
    print()
    overhead_s = statistics.median(
        ours - plain for ours, plain in zip(measured.ours_s, measured.plain_s, strict=True)
    )
    helpers = statistics.median(measured.helpers_mib)
    return [
        Row("start.overhead_s", overhead_s, OVERHEAD_GOAL_S, "s", "lower"),
        Row("start.helpers_mib", helpers, HELPERS_GOAL_MIB, "MiB", "lower"),
    ]


async def bench(rounds: int, json_file: Path | None) -> None:
    """Measure, print, and write ``json_file``."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="dit4c-bench-") as name:
        system = System(Path(name), "--tools", TOOL)
        try:
            await asyncio.to_thread(system.start)
            measured = await measure(system, rounds)
        finally:
            await asyncio.to_thread(system.end)
    rows = rows_of(measured)
    show(rows)
    write(rows, json_file)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench start", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} unless given")
    arguments = parser.parse_args()
    need({"docker": "docker.io"})
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(bench(arguments.rounds, arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
