"""Where an audit log's chain stands, kept beside the log.

A log whose last lines were taken away while nobody wrote looks whole: this small file says what its
end was. Whoever can write the log can write this file too, so it shows accidents and restored
copies; against a person, keep the newest hash on another machine.
"""

import logging
import os
import re
from pathlib import Path

from dit4c_p2p.audit.line import Place

_log = logging.getLogger(__name__)

_RECORD = re.compile(rb"([0-9]{20}) ([0-9a-f]{64})\n")


def newest_hash_path(log: Path) -> Path:
    """The file beside ``log``."""
    return log.with_suffix(".newest")


def read_newest_hash(log: Path) -> Place:
    """What was written last; nothing if it can't be read or is something else."""
    try:
        found = _RECORD.fullmatch(newest_hash_path(log).read_bytes())
    except OSError:
        return Place()
    return Place(int(found[1]), found[2].decode()) if found else Place()


def write_newest_hash(log: Path, place: Place) -> None:
    """Write down where the chain stands, in place: always the same number of bytes.

    It is not waited for until it is on the disk: after a power failure it may be behind the log,
    and never ahead of it. That it can't be written changes nothing about the log.
    """
    try:
        descriptor = os.open(newest_hash_path(log), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if os.geteuid() == 0:
                owner = log.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.pwrite(descriptor, f"{place.count:020d} {place.newest}\n".encode(), 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        _log.warning("the audit log's newest hash is not kept beside it: %s", error)
