"""Log handlers: a file for all lines, a terminal for those that need a person.

A line has its time, level, logger and message, as text or as JSON::

    {"time": "2026-11-23T10:00:00.123Z", "level": "info", "logger": "dit4c_p2p.node.pods.manager",
     "message": "pod of x1: reachable", "instance": "x1"}

The instance, peer or connection of a line is taken from its message, if the message begins with one
of :data:`_ABOUT_INSTANCE` or has a peer's name among its arguments; otherwise the caller gives them
in ``extra`` (:data:`FIELDS`).

A line that can't be written, as on a full disk, is only counted: the standard library's replacement
is neither redacted nor a single line.
"""

import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal, TextIO

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.observe.redact import redact_secrets

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_MAX_LOG_BYTES = 8 * 1024 * 1024
_KEPT_LOGS = 3
FIELDS = ("instance", "peer", "connection")
# What a message's form begins with if its first argument is an instance's id.
_ABOUT_INSTANCE = ("instance %s", "pod of %s")
# Line ends of any kind, what moves a terminal's cursor (C0 but tab, C1), and what turns the
# direction of reading: nothing that a stranger sent may start a new line, or look like one.
_CODES = (*range(9), *range(10, 32), *range(127, 160), 0x2028, 0x2029)
_CODES += (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROL = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _CODES}
# In JSON the first 32 are escaped already.
_CONTROL_IN_JSON = {code: f"\\u{code:04x}" for code in _CODES}
_INDENT = "    "
# What a peer said may be in a line, and a peer may say much: files are rotated, and redacting takes
# its time. Tracebacks are ours, but for the sentence at their end.
_MAX_MESSAGE_CHARS = 4 * 1024
_MAX_TRACEBACK_CHARS = 16 * 1024
_MAX_FIELD_CHARS = 100

# These say at INFO what our own lines say better, or name keys and addresses at each packet.
_QUIET = ("asyncssh", "aiosqlite", "tortoise", "aiohttp.access", "asyncio")

LogFormat = Literal["text", "json"]
_counting = threading.Lock()


class TextFormatter(logging.Formatter):
    """Format a record as one line of text, with an indented traceback below it."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """Called by the handler."""
        record.message = _cut_log_text(record.getMessage(), _MAX_MESSAGE_CHARS).translate(_CONTROL)
        record.asctime = self.formatTime(record)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            traceback = _cut_log_text(self.formatException(record.exc_info), _MAX_TRACEBACK_CHARS)
            lines += [_INDENT + line.translate(_CONTROL) for line in traceback.split("\n")]
        return redact_secrets("\n".join(lines))


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by the handler."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact_secrets(_cut_log_text(record.getMessage(), _MAX_MESSAGE_CHARS)),
            **{name: redact_secrets(value) for name, value in log_record_fields(record).items()},
        }
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            line["error"] = redact_secrets(_cut_log_text(traceback, _MAX_TRACEBACK_CHARS))
        return json.dumps(line, ensure_ascii=False).translate(_CONTROL_IN_JSON)


def _cut_log_text(text: str, most: int) -> str:
    """Return ``text``, shortened in the middle if it is too long."""
    gone = len(text) - most
    if gone <= 0:
        return text
    half = most // 2
    return f"{text[:half]} … {gone} characters … {text[-half:]}"


def log_lines_lost() -> int:
    """Return how many lines of this process could not be written."""
    return _CountingHandler.lost


class _CountingHandler(logging.Handler):
    """A handler that counts the lines it can't write."""

    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:
        """Called where a line can't be written; both handlers' lines come from any thread."""
        with _counting:
            _CountingHandler.lost += 1


class _TerminalHandler(_CountingHandler, logging.StreamHandler[TextIO]):
    """Standard error."""


class _LogFileHandler(_CountingHandler, RotatingFileHandler):
    """A file for its owner only, and so are those that it was before."""

    def _open(self) -> TextIOWrapper:
        opened = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        file = os.fdopen(opened, "ab")
        return TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")


def log_record_fields(record: logging.LogRecord) -> dict[str, str]:
    """Return the instance, peer and connection of a record, as far as they are known."""
    found = {
        name: str(value)[:_MAX_FIELD_CHARS]
        for name in FIELDS
        if (value := getattr(record, name, None)) is not None
    }
    arguments = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    first = next(iter(arguments), None)
    if isinstance(first, str) and str(record.msg).startswith(_ABOUT_INSTANCE):
        found.setdefault("instance", first[:_MAX_FIELD_CHARS])
    for argument in arguments:
        if isinstance(argument, PeerName):
            if argument.kind is Kind.INSTANCE:
                found.setdefault("instance", argument.id)
            found.setdefault("peer", str(argument))
    return found


def log_to(file: Path | None, *, terminal: int = logging.WARNING, form: LogFormat = "text") -> None:
    """Send the log to ``file`` (mode 0600, rotated) and lines of level ``terminal`` to stderr, and
    no longer to where it was sent before.

    :param form: of both.
    """
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _CountingHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    on_terminal = _TerminalHandler()
    on_terminal.setLevel(terminal)
    on_terminal.setFormatter(formatter)
    root.addHandler(on_terminal)
    if file is not None:
        in_file = _LogFileHandler(file, maxBytes=_MAX_LOG_BYTES, backupCount=_KEPT_LOGS)
        in_file.setFormatter(formatter)
        root.addHandler(in_file)
