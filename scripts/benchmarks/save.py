"""Saved images: our image server beside Debian's docker-registry.

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
from pathlib import Path

from scripts.benchmarks.parts.registries import Registry, ours, peer, push_chunked, push_whole
from scripts.benchmarks.parts.rows import Row, beside, show, write

ROUNDS = 3
CLIENTS = 8
LAYER_BYTES = 200_000_000
RATIO = 0.8
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


async def bench(rounds: int, json_file: Path | None) -> None:
    """Measure, print, and write ``json_file``."""
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
    show(rows)
    write(rows, json_file)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench save", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} unless given")
    arguments = parser.parse_args()
    if shutil.which("skopeo") is None:
        raise SystemExit("this needs skopeo: sudo apt-get install skopeo")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(bench(arguments.rounds, arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
