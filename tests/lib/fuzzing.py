"""Coverage-guided fuzzing of one function, with atheris: for a time, with every find kept.

    run(lambda data: ..., SEEDS, "scripts/fuzz head")    # never returns: the status is 1 with finds

What a target raises is a find. Those of one kind at one place are one, the shortest input shown.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

MAX_INPUT_BYTES = 20_000
# Of this process alone; everything here reads 20 kB in a millisecond or two.
MAX_CPU_S = 0.5


class Finds:
    """What went wrong, by kind and place."""

    def __init__(self) -> None:
        self.executions = 0
        self._inputs: dict[str, bytes] = {}

    def try_one(self, target: Callable[[bytes], None], data: bytes) -> None:
        """One execution; any exception of the target's, or too long a time, is kept."""
        self.executions += 1
        began = time.process_time()
        try:
            target(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a find
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._keep(
                f"{type(error).__name__} at {place.name}:{place.lineno}: {error}"[:300], data
            )
        if time.process_time() - began > MAX_CPU_S:
            self._keep(f"more than {MAX_CPU_S} s for one input", data)

    def _keep(self, what: str, data: bytes) -> None:
        key = what.partition(": ")[0]
        known = next((old for old in self._inputs if old.partition(": ")[0] == key), None)
        if known is not None and len(self._inputs[known]) <= len(data):
            return
        if known is not None:
            del self._inputs[known]
        self._inputs[what] = data

    def report(self) -> int:
        """Print the figures and the finds; the exit status."""
        print(f"{self.executions} executions, {len(self._inputs)} finds", flush=True)
        for what, data in self._inputs.items():
            print(f"- {what}\n  {data[:2000]!r}", flush=True)
        return 1 if self._inputs else 0


def run(target: Callable[[bytes], None], seeds: Iterable[bytes], prog: str) -> None:
    """Read the arguments, fuzz for the time asked, report, and exit."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--seconds", type=float, default=600, help="how long (600)")
    options = parser.parse_args()
    finds = Finds()
    seeds = list(seeds)
    for seed in seeds:
        finds.try_one(target, seed)
    end = time.monotonic() + options.seconds
    folder = tempfile.TemporaryDirectory()
    for number, seed in enumerate(seeds):
        if len(seed) <= MAX_INPUT_BYTES:
            (Path(folder.name) / str(number)).write_bytes(seed)

    def once(data: bytes) -> None:
        finds.try_one(target, data)
        if time.monotonic() > end:
            # libFuzzer has no way back.
            status = finds.report()
            folder.cleanup()
            sys.stdout.flush()
            os._exit(status)

    atheris.Setup(
        [prog, folder.name, f"-max_len={MAX_INPUT_BYTES}", "-verbosity=0", "-timeout=60"], once
    )
    atheris.Fuzz()
