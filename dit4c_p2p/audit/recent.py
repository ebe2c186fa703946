"""The newest lines of an audit log, for a page."""

import json
from pathlib import Path

from dit4c_p2p.audit.line import read

# Of the file's end; a line is well under 4 KiB.
_TAIL_BYTES = 256 * 1024

Record = dict[str, object]


def recent_audit_lines(path: Path, most: int) -> list[Record]:
    """The newest lines, the newest first, at most ``most``, with the fields of the file.

    A line that is still being written is left out.

    :raises OSError: the file can't be read.
    :raises AuditBroken: it is something else.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        data = file.read(_TAIL_BYTES)
    # The first may be cut off, and what follows the last line end is not written yet.
    lines = data.split(b"\n")[1 if size > _TAIL_BYTES else 0 : -1]
    newest = lines[-most:][::-1]
    for line in newest:
        read(line, path, "near its end")
    return [json.loads(line) for line in newest]
