"""Where log lines go: a file that keeps everything, a terminal that shows what needs a person.

A line has its time, level, logger and message, as text or as JSON::

    {"time": "2026-11-23T10:00:00.123Z", "level": "info", "logger": "dit4c_p2p.node.pods",
     "message": "pod of x1: reachable", "instance": "x1"}

Which instance, peer or connection a line is about is found by itself where its message begins with
one of :data:`_ABOUT_INSTANCE` or has a peer's name among its arguments; anybody else says so in the
line's ``extra`` (:data:`FIELDS`).
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.observe.redact import redact

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_MAX_LOG_BYTES = 8 * 1024 * 1024
_KEPT_LOGS = 3
FIELDS = ("instance", "peer", "connection")
# What a message's form begins with if its first argument is an instance's id.
_ABOUT_INSTANCE = ("instance %s", "pod of %s")
# Line ends, and what moves a terminal's cursor: nothing that a stranger sent may start a new line.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127)}

# These say at INFO what our own lines say better, or name keys and addresses at each packet.
_QUIET = ("asyncssh", "aiosqlite", "tortoise", "aiohttp.access", "asyncio")

LogFormat = Literal["text", "json"]


class TextFormatter(logging.Formatter):
    """One line of text, but for a traceback."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """Called by the handler."""
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Called for the line itself, before a traceback is put beneath it."""
        record.message = record.message.translate(_CONTROL)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by the handler."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            **{name: redact(value) for name, value in fields(record).items()},
        }
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def fields(record: logging.LogRecord) -> dict[str, str]:
    """What a line is about, as far as it is known."""
    found = {
        name: str(value) for name in FIELDS if (value := getattr(record, name, None)) is not None
    }
    arguments = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    first = next(iter(arguments), None)
    if isinstance(first, str) and str(record.msg).startswith(_ABOUT_INSTANCE):
        found.setdefault("instance", first)
    for argument in arguments:
        if isinstance(argument, PeerName):
            if argument.kind is Kind.INSTANCE:
                found.setdefault("instance", argument.id)
            found.setdefault("peer", str(argument))
    return found


def log_to(file: Path | None, *, terminal: int = logging.WARNING, form: LogFormat = "text") -> None:
    """Send the log to ``file`` (mode 0600, rotated) and lines of level ``terminal`` to stderr.

    :param form: of both.
    """
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    on_terminal = logging.StreamHandler()
    on_terminal.setLevel(terminal)
    on_terminal.setFormatter(formatter)
    root.addHandler(on_terminal)
    if file is not None:
        os.close(os.open(file, os.O_CREAT | os.O_APPEND, 0o600))
        in_file = RotatingFileHandler(file, maxBytes=_MAX_LOG_BYTES, backupCount=_KEPT_LOGS)
        in_file.setFormatter(formatter)
        root.addHandler(in_file)
