"""Progress of long steps."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[[str, str], None]
"""Called with a step (``jupyterlab image``) and what happens in it now (``Collecting tornado``).

Details are short, may come many times a second, and replace each other; a step's last one says how
it ended.
"""


class TerminalProgress:
    """Shows progress as one line a step, rewritten in place on a terminal.

    Elsewhere (a log, a pipe) a line is written when a step begins, and when it ends.
    ``columns`` is the terminal's width.
    """

    def __init__(
        self,
        stream: TextIO = sys.stderr,
        *,
        columns: int = 80,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._columns = columns
        self._clock = clock
        self._in_place = stream.isatty()
        self._step = ""
        self._detail = ""
        self._written = ""
        self._began = 0.0

    def __call__(self, step: str, detail: str) -> None:
        """Show it; see :data:`Progress`."""
        if step != self._step:
            self.close()
            self._step, self._began = step, self._clock()
            if not self._in_place:
                self._written = detail
                self._write(f"{step}: {detail}\n")
        self._detail = detail
        if self._in_place:
            self._write(f"\r\x1b[K{self._fitted(f'{step}: {detail}')}")

    def close(self) -> None:
        """End the current step's line."""
        if not self._step:
            return
        line = f"{self._step}: {self._detail}"
        took_s = self._clock() - self._began
        if took_s >= 1:
            line += f" ({took_s:.0f} s)"
        if self._in_place:
            self._write(f"\r\x1b[K{self._fitted(line)}\n")
        elif self._detail != self._written:
            self._write(f"{line}\n")
        self._step = self._detail = ""

    def _fitted(self, line: str) -> str:
        return line if len(line) < self._columns else line[: self._columns - 2] + "…"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
