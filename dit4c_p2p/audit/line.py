"""Lines of an audit log: compose, parse and chain them."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dit4c_p2p.errors import DitError

FIRST = "0" * 64
# The first act of a file that follows another.
ROTATED = "audit.rotate"
# What a writer adds to a log that lost lines which it had written.
SHORTENED = "audit.shortened"

_FIELDS = ("n", "at", "who", "key", "from", "what", "about", "outcome", "previous")
_MAX_TEXT_CHARS = 300


class AuditBroken(DitError):
    """The log was changed; the message names the first wrong line."""

    code = "audit_broken"


@dataclass(frozen=True)
class AuditAct:
    """The fields of an act; see :meth:`dit4c_p2p.audit.AuditLog.write`."""

    what: str
    who: str = ""
    key: str = ""
    origin: str = ""
    about: str = ""
    outcome: str = "done"


@dataclass(frozen=True)
class Place:
    """The end of a chain: its number of lines, and the hash of the newest."""

    count: int = 0
    newest: str = FIRST


@dataclass(frozen=True)
class AuditLine:
    """A line that was read: its number, what was done, and the hash of the line before it."""

    number: int
    what: str
    previous: str


def compose_audit_line(act: AuditAct, after: Place, now: float) -> bytes:
    """Return the line of ``act`` at ``now`` (seconds since 1970), without a line end."""
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    texts = (act.who, act.key, act.origin, act.what, act.about, act.outcome)
    values = (
        after.count + 1,
        at.replace("+00:00", "Z"),
        *(one[:_MAX_TEXT_CHARS] for one in texts),
        after.newest,
    )
    return json.dumps(dict(zip(_FIELDS, values, strict=True)), ensure_ascii=True).encode()


def read(line: bytes, path: Path, where: str) -> AuditLine:
    """Read a line.

    :param where: which line of ``path`` it is, for the error.
    :raises AuditBroken: the text is no line of an audit log.
    """
    try:
        found = json.loads(line)
        if tuple(found) != _FIELDS or not isinstance(found["n"], int):
            raise ValueError("not its fields")
    except (ValueError, TypeError):
        raise no_audit_line_error(path, where) from None
    return AuditLine(found["n"], str(found["what"]), str(found["previous"]))


def audit_line_hash(line: bytes) -> str:
    """Return the hash of a line, which the next line carries."""
    return hashlib.sha256(line).hexdigest()


def no_audit_line_error(path: Path, where: str) -> AuditBroken:
    """Return the error for a text that is no line of an audit log."""
    return AuditBroken(
        f"{path}, {where}: not a line of an audit log", hint="keep the file, and start another one"
    )
