"""Rotation of an audit log while processes write to it."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dit4c_p2p.atomic_file import NotWritten, write_whole
from dit4c_p2p.audit.line import ROTATED, AuditAct, Place, compose_audit_line
from dit4c_p2p.audit.log import AuditLog
from dit4c_p2p.errors import DitError


class NothingToRotate(DitError):
    """The log has no line to rotate."""

    code = "nothing_to_rotate"


def rotate_audit_log(path: Path, *, who: str, clock: Callable[[], float] = time.time) -> Path:
    """Rename the log and return its new name; ``path`` begins anew.

    The new file belongs to whom the old one did, and begins with a line that carries the old one's
    newest hash. There is a log under its name at every moment, and whoever writes goes on in it.

    :param who: whose doing it is.
    :raises NothingToRotate: there is no log, or nothing happened since the last time.
    :raises NotWritten: it can't be; the log is as it was.
    :raises AuditBroken: it is something else.
    """
    if not path.exists():
        raise NothingToRotate(f"{path}: there is no such log", hint="see the portal's data folder")
    try:
        with closing(AuditLog(path, clock=clock)) as log, log.locked() as place:
            day = time.strftime("%Y%m%d", time.gmtime(clock()))
            aside = path.with_name(f"{path.stem}-{day}-{place.count}{path.suffix}")
            _replace_audit_log(path, aside, place, who, clock())
    except OSError as error:
        raise NotWritten(path, error) from None
    return aside


def _replace_audit_log(path: Path, aside: Path, place: Place, who: str, now: float) -> None:
    """Under the log's lock."""
    if not _has_more_than_first_line(path):
        raise NothingToRotate(f"{path}: nothing happened since it was begun")
    first = compose_audit_line(AuditAct(ROTATED, who=who, about=aside.name), place, now)
    os.link(path, aside)
    try:
        write_whole(path, first + b"\n", like=path)
    except BaseException:
        # Once the new file is in its place, the log has no other name.
        if aside.samefile(path):
            aside.unlink()
        raise


def _has_more_than_first_line(path: Path) -> bool:
    """Whether it has more than the line it was begun with."""
    with path.open("rb") as file:
        first, second = file.readline(), file.readline()
    return bool(second) or (bool(first) and ROTATED.encode() not in first)
