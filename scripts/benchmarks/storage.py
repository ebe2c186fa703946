"""The mount: the storage helper and our file server, beside sshfs and rclone on OpenSSH's server.

seqwrite   a large file with fsync, MB/s            seqread   reading it, cold, MB/s
rand1      random reads of 4 KiB, one at a time     rand16    sixteen at a time, reads/s
untar      a tree of small files, then "sync DIR", all on the server's disk, files/s
lslr       "ls -lR" of it, cold, files/s            readall   reading all of it, cold, files/s
gitstatus  "git status" of a repository, cold, a second
gitstatus_warm  again on a mount that has seen it, at 20 ms alone, beside the local disk
rmrf       "rm -rf" of the tree, files/s

Each by itself and, with _20ms, at 20 ms of round trip. What a contestant wrote is compared at its
server, contents and times. Needs root, sshfs, rclone, fio and git.
"""

import argparse
import filecmp
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scripts.benchmarks.parts.delay_proxy import delayed
from scripts.benchmarks.parts.rows import Row, beside, show, write
from scripts.benchmarks.parts.storage_mounts import (
    Contestant,
    Ours,
    OwnServer,
    Program,
    StockServer,
    clear,
)

ROUNDS = 3
MIB = 1024 * 1024
FIO_S = 3
LIMIT_S = 300

# A mount has this long to give back leases and send what it owes before it counts as warm.
SETTLED_S = 1.5
WARM = "gitstatus_warm"

# Name, unit, goals at 0 ms and at 20 ms; None: not measured there.
GOALS: dict[str, tuple[str, float | None, float]] = {
    "seqwrite": ("MB/s", 1.0, 2.3),
    "seqread": ("MB/s", 1.1, 2.5),
    "rand1": ("reads/s", 1.1, 0.95),
    "rand16": ("reads/s", 0.9, 1.1),
    "untar": ("files/s", 1.4, 4.0),
    "lslr": ("files/s", 1.3, 6.0),
    "readall": ("files/s", 1.3, 8.0),
    "gitstatus": ("1/s", 2.0, 6.0),
    "rmrf": ("files/s", 1.0, 3.0),
    WARM: ("1/s", None, 0.167),
}

Figures = dict[str, dict[str, list[float]]]


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    """Run a program to its end; what it prints."""
    done = subprocess.run(argv, cwd=cwd, check=True, capture_output=True, timeout=LIMIT_S)
    return done.stdout.decode(errors="replace")


def make_tree(folder: Path, files: int) -> None:
    """Small files in folders of 30, most of them a few KiB, with times in the past."""
    source = random.Random(1)
    for number in range(files):
        path = folder / f"d{number // 30:03}" / f"file{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(int(source.expovariate(1 / 4000)) + 1))
        os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))


def same(one: Path, other: Path) -> None:
    """:raises RuntimeError: two trees differ, in names, contents or times."""
    for path in sorted(one.rglob("*")):
        twin = other / path.relative_to(one)
        if path.is_dir():
            if len(list(path.iterdir())) != len(list(twin.iterdir())):
                raise RuntimeError(f"{twin} has other names than {path}")
        elif not filecmp.cmp(path, twin, shallow=False):
            raise RuntimeError(f"{twin} has other contents than {path}")
        elif int(path.stat().st_mtime) != int(twin.stat().st_mtime):
            raise RuntimeError(f"{twin} has another time than {path}")


def random_reads(mounted: Path, jobs: int, size_bytes: int) -> float:
    """4 KiB reads a second; each job has a part of the file, and reads nothing twice."""
    said = run(
        *("fio", "--name=r", f"--filename={mounted / 'big'}", "--rw=randread", "--bs=4k"),
        *("--direct=0", "--invalidate=0", "--fadvise_hint=random", "--ioengine=psync", "--thread"),
        *(f"--numjobs={jobs}", "--group_reporting", f"--runtime={FIO_S}"),
        *(f"--size={size_bytes // jobs}", f"--offset_increment={size_bytes // jobs}"),
        "--output-format=json",
    )
    return float(json.loads(said)["jobs"][0]["read"]["iops"])


class Course:
    """What each contestant does, one after the other."""

    def __init__(self, folder: Path, big_mib: int, files: int, repository_files: int) -> None:
        self.big, self.big_bytes, self.files = folder / "big", big_mib * MIB, files
        source = random.Random(2)
        with self.big.open("wb") as big:
            for _ in range(big_mib):
                big.write(source.randbytes(MIB))
        self.tree, self.archive = folder / "tree", folder / "tree.tar"
        make_tree(self.tree, files)
        run("tar", "-cf", self.archive, "-C", folder, "tree")
        self.repository = folder / "repository"
        make_tree(self.repository, repository_files)
        git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")
        run(*git, "init", "-q", cwd=self.repository)
        run(*git, "add", ".", cwd=self.repository)
        run(*git, "commit", "-qm", "x", cwd=self.repository)

    def round(self, contestant: Contestant, wanted: set[str]) -> Iterator[tuple[str, float]]:
        """Names and figures of the rows that are wanted."""
        clear(contestant.stored)
        if wanted & {"seqwrite", "seqread", "rand1", "rand16"}:
            yield from self._large_file(contestant, wanted)
        if wanted & {"untar", "lslr", "readall", "rmrf"}:
            yield from self._tree(contestant, wanted)
        if "gitstatus" in wanted:
            shutil.copytree(self.repository, contestant.stored / "repository", symlinks=True)
            with mounted(contestant) as path:
                # The index is written once, so that it knows this mount's inode numbers.
                status(path / "repository")
            yield "gitstatus", 1 / timed(contestant, lambda path: status(path / "repository"))

    def warm_status(self, contestant: Contestant) -> tuple[float, float]:
        """Times "git status" a second: on a mount that has seen it, and on the local disk."""
        clear(contestant.stored)
        shutil.copytree(self.repository, contestant.stored / "repository", symlinks=True)
        with mounted(contestant) as path:
            times = []
            for folder in (path / "repository", self.repository):
                for _ in range(2):
                    status(folder)
                    time.sleep(SETTLED_S)
                began = time.perf_counter()
                status(folder)
                times.append(time.perf_counter() - began)
        return 1 / times[0], 1 / times[1]

    def _large_file(self, contestant: Contestant, wanted: set[str]) -> Iterator[tuple[str, float]]:
        if "seqwrite" in wanted:
            took = timed(
                contestant,
                lambda path: run(
                    "dd", f"if={self.big}", f"of={path / 'big'}", "bs=1M", "conv=fsync"
                ),
            )
            yield "seqwrite", self.big_bytes / 1e6 / took
            if not filecmp.cmp(self.big, contestant.stored / "big", shallow=False):
                raise RuntimeError(f"{contestant.name} wrote something else")
        else:
            shutil.copy(self.big, contestant.stored / "big")
        if "seqread" in wanted:
            took = timed(
                contestant, lambda path: run("dd", f"if={path / 'big'}", "of=/dev/null", "bs=1M")
            )
            yield "seqread", self.big_bytes / 1e6 / took
        for name, jobs in (("rand1", 1), ("rand16", 16)):
            if name in wanted:
                with mounted(contestant) as path:
                    yield name, random_reads(path, jobs, self.big_bytes)

    def _tree(self, contestant: Contestant, wanted: set[str]) -> Iterator[tuple[str, float]]:
        def untar(path: Path) -> None:
            run("tar", "-xf", self.archive, "-C", path)
            # sshfs has no fsync of folders; what it keeps back is nothing.
            subprocess.run(["sync", path / "tree"], check=False, stderr=subprocess.DEVNULL)

        if "untar" in wanted:
            yield "untar", self.files / timed(contestant, untar)
            same(self.tree, contestant.stored / "tree")
        else:
            run("cp", "-a", self.tree, contestant.stored)
        if "lslr" in wanted:
            took = timed(contestant, lambda path: run("ls", "-lR", path / "tree"))
            yield "lslr", self.files / took
        if "readall" in wanted:
            took = timed(contestant, lambda path: run("cp", "-r", path / "tree", "/dev/shm/r"))
            yield "readall", self.files / took
            same_contents(self.tree, Path("/dev/shm/r"))
        if "rmrf" in wanted:
            yield (
                "rmrf",
                self.files / timed(contestant, lambda path: run("rm", "-rf", path / "tree")),
            )
            if (contestant.stored / "tree").exists():
                raise RuntimeError(f"{contestant.name} removed too little")


def timed(contestant: Contestant, work: Callable[[Path], object]) -> float:
    """How long work on a fresh mount takes, in seconds."""
    with mounted(contestant) as path:
        began = time.perf_counter()
        work(path)
        return time.perf_counter() - began


def status(repository: Path) -> None:
    """Run "git status"."""
    run("git", "-C", repository, "status", "--short")


def same_contents(one: Path, other: Path) -> None:
    """:raises RuntimeError: what was read differs. Removes ``other``."""
    try:
        for path in one.rglob("*"):
            if path.is_file() and path.read_bytes() != (other / path.relative_to(one)).read_bytes():
                raise RuntimeError(f"{path} was read as something else")
    finally:
        shutil.rmtree(other)


@contextmanager
def mounted(contestant: Contestant) -> Iterator[Path]:
    """Mounted with cold caches, and unmounted."""
    contestant.mount()
    try:
        yield contestant.path
    finally:
        contestant.unmount()


def measure(arguments: argparse.Namespace, round_trip_s: float, folder: Path) -> list[Row]:
    """The rows at one distance."""
    far = round_trip_s > 0
    files = arguments.files // 10 if far else arguments.files
    course = Course(folder, arguments.mib, files, 1000 if not far else arguments.repository)
    own, stock = OwnServer(sub(folder, "own")), StockServer(sub(folder, "stock"))
    figures: Figures = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        stack.callback(own.kill)
        stock.start()
        stack.callback(stock.kill)
        own_port = stack.enter_context(delayed(own.port, round_trip_s))
        stock_port = stack.enter_context(delayed(stock.port, round_trip_s))
        own.stored.mkdir(parents=True, exist_ok=True)
        contestants: list[Contestant] = [Ours(own, own_port, sub(folder, "m-ours"))]
        for name in ("sshfs", "rclone"):
            stored = sub(folder, f"stored-{name}")
            path = sub(folder, f"m-{name}")
            contestants.append(Program(name, stock, stored, stock_port, path))
        for turn in range(arguments.rounds):
            for contestant in contestants:
                print(f"round {turn + 1}, {contestant.name} …", file=sys.stderr, flush=True)
                for what, figure in course.round(contestant, arguments.rows):
                    figures[what][contestant.name].append(figure)
            if far and WARM in arguments.rows:
                ours, local = course.warm_status(contestants[0])
                figures[WARM]["ours"].append(ours)
                figures[WARM]["local disk"].append(local)
    rows = []
    for what, (unit, near_goal, far_goal) in GOALS.items():
        goal = far_goal if far else near_goal
        if what not in arguments.rows or goal is None:
            continue
        each = figures[what]
        print(what, {name: round(statistics.median(all_), 1) for name, all_ in each.items()})
        peers = [its for peer, its in each.items() if peer != "ours"]
        name = f"storage.{what}{'_20ms' if far else ''}"
        rows.append(beside(name, unit, "higher", goal, ours=each["ours"], peers=peers))
    return rows


def sub(folder: Path, name: str) -> Path:
    """A new folder."""
    path = folder / name
    path.mkdir()
    return path


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench storage", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS} unless given")
    parser.add_argument("--mib", type=int, default=256, help="of the large file; 256")
    parser.add_argument("--files", type=int, default=3000, help="of the tree; a tenth at 20 ms")
    parser.add_argument("--repository", type=int, default=1000, help="files in it at 20 ms; 1000")
    parser.add_argument("--only", choices=("0", "20"), help="one distance, in milliseconds")
    parser.add_argument(
        "--rows", nargs="+", choices=GOALS, default=list(GOALS), help="these rows; all unless given"
    )
    arguments = parser.parse_args()
    arguments.rows = set(arguments.rows)
    if os.geteuid() != 0:
        raise SystemExit("this needs root, to mount and to drop caches")
    rows = []
    for round_trip_ms in (0, 20):
        if arguments.only in (None, str(round_trip_ms)):
            print(f"at {round_trip_ms} ms", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="dit4c-bench-") as name:
                rows += measure(arguments, round_trip_ms / 1000, Path(name))
    show(rows)
    write(rows, arguments.json)


if __name__ == "__main__":
    main()
