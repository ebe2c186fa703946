"""Log lines that strangers cause: counted and summed up, or they push all others out of the files.

    _log = summed(logging.getLogger(__name__))
    _log.warning("turned away %s: too many connections", address)

A line's kind is its logger and its format. Of each kind a few are written as they come, then one
every other second; the next that is written says how many were not, and so does one when no more
come (security.md, section 4: one line a second for each kind).
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

_BURST = 3
_EVERY_S = 2.0
_SUM_UP_AFTER_S = 10.0
_MAX_KINDS = 1000


@dataclass
class _LogLineKind:
    """Lines of one format."""

    tokens: float
    at: float
    untold: int = 0
    timer: asyncio.TimerHandle | None = None


class SummingFilter(logging.Filter):
    """Lets through what may be written, with how many were not.

    :param clock: seconds, never going back.
    """

    def __init__(
        self, logger: logging.Logger, level: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._logger = logger
        self._level = level
        self._clock = clock
        self._kinds: dict[object, _LogLineKind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by the logger for each line."""
        if record.levelno < self._level or record.exc_info:
            return True
        now = self._clock()
        kind = self._kinds.get(record.msg)
        if kind is None:
            if len(self._kinds) >= _MAX_KINDS:
                self.forget()
            kind = self._kinds[record.msg] = _LogLineKind(tokens=_BURST, at=now)
        kind.tokens = min(_BURST, kind.tokens + (now - kind.at) / _EVERY_S)
        kind.at = now
        if kind.tokens < 1:
            kind.untold += 1
            self._sum_up_later(record, kind)
            return False
        kind.tokens -= 1
        if kind.untold:
            record.msg = f"{record.msg} (%d more like this were not written)"
            record.args = (*(record.args if isinstance(record.args, tuple) else ()), kind.untold)
            kind.untold = 0
        return True

    def forget(self) -> None:
        """Begin to count anew."""
        self._kinds.clear()

    def _sum_up_later(self, record: logging.LogRecord, kind: _LogLineKind) -> None:
        if kind.timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the next line says it
        level, text = record.levelno, record.getMessage()

        def sum_up() -> None:
            kind.timer = None
            if kind.untold:
                untold, kind.untold = kind.untold, 0
                self._logger.log(level, "%d lines were not written that are like: %s", untold, text)

        kind.timer = loop.call_later(_SUM_UP_AFTER_S, sum_up)


def summed(logger: logging.Logger, level: int = logging.WARNING) -> logging.Logger:
    """Have ``logger`` sum up its lines of ``level`` and above, tracebacks excepted."""
    if not any(isinstance(one, SummingFilter) for one in logger.filters):
        logger.addFilter(SummingFilter(logger, level))
    return logger
