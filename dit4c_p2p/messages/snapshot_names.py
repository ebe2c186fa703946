"""Names of snapshots: ``.snapshots/2026-11-29T10-00-00Z`` in each folder of a tree. Pure."""

import re
from datetime import UTC, datetime

# The folder of a folder's snapshots; a file server shows it at its top, and in no listing.
SNAPSHOTS = b".snapshots"

_FORM = "%Y-%m-%dT%H-%M-%SZ"
_NAME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ", re.ASCII)


def snapshot_name(now: float) -> bytes:
    """The name of a snapshot that is made now; ``now`` in seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).strftime(_FORM).encode()


def snapshot_time(name: bytes) -> float | None:
    """When a snapshot was made, by its name; None: it is no snapshot."""
    if not _NAME.fullmatch(name):
        return None
    try:
        return datetime.strptime(name.decode(), _FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
