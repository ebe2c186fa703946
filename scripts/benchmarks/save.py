"""Saved images: ours beside ``docker commit`` and Debian's docker-registry.

save.first_wall        a first save with MB megabytes changed, from a stopped app to the confirmed
                       image; peer: docker commit and docker push (the base is there in both)
save.again_wire        MB on the wire for a second checkpoint, 10 MB having been written since
save.again_wall_20mbit the same through a line of 20 Mbit/s, in seconds
save.pause_ms          how long the app is paused in that checkpoint; peer: in docker commit
save.onebyte_wire      MB on the wire after one byte of a file of MB megabytes has changed
pull.wall              a node with the base fetches the first checkpoint; peer: docker pull
pull.again_wire        MB on the wire for a node that has the first one and fetches the second
start.derived_s        starting what is derived, 10 MB to fetch, less a plain start

pull8.throughput       8 stock clients (skopeo) pull an image of 200 MB at once, MB/s together;
                       ours keeps the layer in chunks, as upload helpers send it
pull8.throughput_whole the same, the layer having been pushed by a stock client
imageserver.rss_mib    the most memory that our image server has had in all of this
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from scripts.benchmarks.parts.registries import Registry, ours, peer, push_chunked, push_whole
from scripts.benchmarks.parts.rows import Row, beside, show, write
from scripts.benchmarks.parts.saving import (
    pauses_ms,
    repository_of,
    run_start,
    saved_reference,
    saver,
)

ROUNDS = 3
CLIENTS = 8
LAYER_BYTES = 200_000_000
SAVED_MB = 500
SLOW_MBIT = 20
RATIO = 0.8
T = TypeVar("T")
RSS_GOAL_MIB = 150.0


def _content(seed: int) -> bytes:
    """Bytes of which half compress."""
    source = random.Random(seed)
    words = [b"%d lorem ipsum " % number for number in range(5000)]
    parts, size = [], 0
    while size < LAYER_BYTES:
        parts.append(source.randbytes(100_000) + b"".join(source.choices(words, k=5500)))
        size += len(parts[-1])
    return b"".join(parts)[:LAYER_BYTES]


async def pull(registry: Registry, repository: str, folder: Path) -> None:
    """One stock client fetches the image, verifies it, and writes it to a folder."""
    process = await asyncio.create_subprocess_exec(
        "skopeo", "copy", "--quiet", "--src-tls-verify=false", *registry.credentials,
        f"docker://{registry.address}/{repository}:v1", f"dir:{folder}",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"skopeo failed: {said.decode()}")


async def throughput(registry: Registry, repository: str, folder: Path) -> float:
    """MB/s of all clients together."""
    folders = [folder / f"client{number}" for number in range(CLIENTS)]
    began = time.perf_counter()
    await asyncio.gather(*(pull(registry, repository, each) for each in folders))
    took = time.perf_counter() - began
    for each in folders:
        shutil.rmtree(each)
    return CLIENTS * LAYER_BYTES / 1e6 / took


async def saves(mb: int) -> list[Row]:
    """Every row of a node that saves and fetches."""
    took: dict[str, float] = {}

    async def timed(name: str, work: Awaitable[T]) -> T:
        print(f"{name} …", file=sys.stderr, flush=True)
        began = time.perf_counter()
        result = await work
        took[name] = time.perf_counter() - began
        return result

    async with saver() as node:
        base, first, second, small = (
            f"{node.tag}-{name}" for name in ("base", "first", "second", "small")
        )
        # The base is there in both before anything is measured.
        await node.start(base)
        node.write(base, "/work", 1, 1)
        await node.pods.save(base)
        await node.save(base, "b1")
        await node.commit(base, "base")
        await node.push("base")

        await node.start(first)
        node.write(first, "/work", mb, 2)
        await node.pods.save(first)
        await timed("our first save", node.save(first, "f1"))

        async def peers_first() -> None:
            await node.commit(first, "first")
            await node.push("first")

        await timed("commit and push", peers_first())
        digest = await timed("our save again, to fetch", node.save(first, "f2"))
        other = node.other_node("other")
        await timed("our fetch", node.fetch(other, first, digest))
        await timed("docker pull", node.pull("first"))
        await node.pods.discard(first)

        await node.start(second)
        node.write(second, "/work", mb, 3)
        one = await node.checkpoint(second, "c1")
        await node.fetch(other, second, one)
        await node.commit(second, "one")
        await node.push("one")
        node.write(second, "/work/more", 10, 4)
        since = time.time()
        node.line.begin(mbit=SLOW_MBIT)
        two = await timed("our second checkpoint, slow", node.checkpoint(second, "c2"))
        again_wire = node.line.end()
        our_pause_ms = pauses_ms(second, since)
        node.line.begin()
        await node.fetch(other, second, two)
        pull_wire = node.line.end()
        since = time.time()

        async def peers_second() -> None:
            await node.commit(second, "two")
            took["pause"] = pauses_ms(second, since)
            await node.push("two")

        node.peer_line.begin(mbit=SLOW_MBIT)
        await timed("commit and push again, slow", peers_second())
        node.peer_line.end()

        node.one_file(second, mb)
        await node.checkpoint(second, "c3")
        node.one_byte(second, mb * 500_000)
        node.line.begin()
        await node.checkpoint(second, "c4")
        onebyte_wire = node.line.end()

        await node.start(small)
        node.write(small, "/work", 10, 5)
        ten = await node.checkpoint(small, "s1")
        third = node.other_node("third")
        await timed("a plain start", run_start(third, f"{node.tag}-plain", node.images.python))
        reference = saved_reference(repository_of(small), ten)

        async def derived() -> None:
            await node.fetch(third, small, ten)
            await run_start(third, f"{node.tag}-derived", reference)

        await timed("a derived start", derived())
        rss = node.server.most_rss_mib()
    print("seconds:", {name: round(each, 2) for name, each in took.items()})
    more_s = max(0.001, took["a derived start"] - took["a plain start"])
    return [
        _faster("save.first_wall", took["our first save"], took["commit and push"], 1.5),
        Row("save.again_wire", again_wire.up / 1e6, 12.0, "MB", "lower"),
        _faster(
            "save.again_wall_20mbit",
            took["our second checkpoint, slow"],
            took["commit and push again, slow"],
            10.0,
        ),
        Row("save.onebyte_wire", onebyte_wire.up / 1e6, 2.0, "MB", "lower"),
        Row("save.pause_ms", our_pause_ms, took["pause"], "ms", "lower"),
        _faster("pull.wall", took["our fetch"], took["docker pull"], 1.0),
        Row("pull.again_wire", pull_wire.down / 1e6, 12.0, "MB", "lower"),
        Row("start.derived_s", more_s, 2.0, "s", "lower"),
        Row("imageserver.rss_mib_saves", rss, RSS_GOAL_MIB, "MiB", "lower"),
    ]


def _faster(name: str, ours_s: float, peers_s: float, goal: float) -> Row:
    """Rates, so that the ratio is how many times faster ours is."""
    return Row(name, 60 / ours_s, 60 / peers_s, "per minute", "higher", goal)


async def bench(rounds: int, mb: int, only: str, json_file: Path | None) -> None:
    """Measure, print, and write ``json_file``."""
    rows = [] if only == "pull8" else await saves(mb)
    if only != "save":
        rows += await pulls(rounds)
    show(rows)
    write(rows, json_file)


async def pulls(rounds: int) -> list[Row]:
    """Eight stock clients at once."""
    # Two, for our image server keeps no content twice.
    layer, other_layer = (_content(seed) for seed in (1, 2))
    # Memory: neither side's disk counts.
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="dit4c-bench-", dir=place) as name:
        folder = Path(name)
        async with ours(folder / "ours") as mine, peer(folder / "peer") as other:
            await push_chunked(mine, "instances/chunked", layer)
            await push_whole(mine, "instances/whole", other_layer)
            await push_whole(other, "instances/whole", layer)
            figures: dict[str, list[float]] = {"chunked": [], "whole": [], "peer": []}
            for turn in range(rounds):
                print(f"round {turn + 1} of {rounds} …", file=sys.stderr, flush=True)
                for what, registry, repository in (
                    ("peer", other, "instances/whole"),
                    ("chunked", mine, "instances/chunked"),
                    ("whole", mine, "instances/whole"),
                ):
                    figures[what].append(await throughput(registry, repository, folder))
            rss = mine.most_rss_mib()
    rows = [
        beside(name, "MB/s", "higher", RATIO, ours=figures[what], peers=[figures["peer"]])
        for name, what in (("pull8.throughput", "chunked"), ("pull8.throughput_whole", "whole"))
    ]
    rows.append(Row("imageserver.rss_mib", rss, RSS_GOAL_MIB, "MiB", "lower"))
    print("medians:", {what: round(statistics.median(each)) for what, each in figures.items()})
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench save", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--mb", type=int, default=SAVED_MB, help=f"{SAVED_MB} unless given")
    parser.add_argument("--only", choices=("save", "pull8"), default="", help="these rows only")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} unless given")
    arguments = parser.parse_args()
    if shutil.which("skopeo") is None:
        raise SystemExit("this needs skopeo: sudo apt-get install skopeo")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(bench(arguments.rounds, arguments.mb, arguments.only, arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
