"""Where log lines go: a file that keeps everything, a terminal that shows what needs a person."""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_MAX_LOG_BYTES = 8 * 1024 * 1024
_KEPT_LOGS = 3

# These say at INFO what our own lines say better, or name keys and addresses at each packet.
_QUIET = ("asyncssh", "aiosqlite", "tortoise", "aiohttp.access", "asyncio")


def log_to(file: Path | None, *, terminal: int = logging.WARNING) -> None:
    """Send the log to ``file`` (mode 0600, rotated) and lines of level ``terminal`` to stderr."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    formatter = logging.Formatter(_FORMAT)
    on_terminal = logging.StreamHandler()
    on_terminal.setLevel(terminal)
    on_terminal.setFormatter(formatter)
    root.addHandler(on_terminal)
    if file is not None:
        os.close(os.open(file, os.O_CREAT | os.O_APPEND, 0o600))
        in_file = RotatingFileHandler(file, maxBytes=_MAX_LOG_BYTES, backupCount=_KEPT_LOGS)
        in_file.setFormatter(formatter)
        root.addHandler(in_file)
