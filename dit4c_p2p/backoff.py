"""Jittered exponential backoff."""

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses in seconds that grow by ``factor`` from ``first_s`` to ``longest_s``.

    Each is spread over 0.5..1.5 of itself, so that many who lost the same peer don't come back in
    step.
    """

    first_s: float
    longest_s: float
    factor: float = 2.0
    _next_s: float = 0.0

    def pause_s(self) -> float:
        """Return the next pause in seconds."""
        pause = self._next_s or self.first_s
        self._next_s = min(pause * self.factor, self.longest_s)
        return pause * random.uniform(0.5, 1.5)

    def reset(self) -> None:
        """Start again from the first pause, after a success."""
        self._next_s = 0.0
