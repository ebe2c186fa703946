"""A benchmark's results: what was measured, what it stands beside, and the goal."""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One result.

    ``ratio`` is ours/peer, held to ``goal``. For a row with an absolute goal, ``peer`` is that goal
    in ``unit`` and ``goal`` is 1.
    """

    name: str
    ours: float
    peer: float
    unit: str
    better: str  # "higher" or "lower"
    goal: float = 1.0

    @property
    def ratio(self) -> float:
        """How ours compares."""
        return self.ours / self.peer

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal if self.better == "higher" else self.ratio <= self.goal


def beside(
    name: str,
    unit: str,
    better: str,
    goal: float,
    *,
    ours: Sequence[float],
    peers: Sequence[Sequence[float]],
) -> Row:
    """The median of our rounds beside the best peer's."""
    best = max if better == "higher" else min
    peer = best(statistics.median(each) for each in peers)
    return Row(name, statistics.median(ours), peer, unit, better, goal)


def show(rows: Sequence[Row]) -> None:
    """A line each, and how busy the machine is: figures of a busy one say little."""
    for row in rows:
        sign = "≥" if row.better == "higher" else "≤"
        print(
            f"{row.name:<27}ours {row.ours:>10.3f} {row.unit:<11}peer {row.peer:>10.3f}   "
            f"ratio {row.ratio:<7.3f} goal {sign} {row.goal} {'met' if row.met else 'MISSED'}"
        )
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load averages {load} on {os.cpu_count()} processors")


def write(rows: Sequence[Row], path: Path | None) -> None:
    """The rows as JSON, if a file was asked for."""
    if path is None:
        return
    listed = [
        {
            "name": row.name,
            "ours": round(row.ours, 3),
            "peer": round(row.peer, 3),
            "ratio": round(row.ratio, 3),
            "unit": row.unit,
            "better": row.better,
        }
        for row in rows
    ]
    path.write_text(json.dumps(listed, indent=2) + "\n")
