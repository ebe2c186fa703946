"""Putting an audit log aside while others write into it."""

import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from dit4c_p2p.audit.line import ROTATED, Act, Place, compose
from dit4c_p2p.audit.log import AuditLog
from dit4c_p2p.errors import DitError
from dit4c_p2p.private_file import NotWritten, sync_folder


class NothingToRotate(DitError):
    """The log has no line that could be put aside."""

    code = "nothing_to_rotate"


def rotate(path: Path, *, who: str, clock: Callable[[], float] = time.time) -> Path:
    """Put the log aside under a name of its own, and return that; ``path`` begins anew.

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
            _replace(path, aside, place, who, clock())
    except OSError as error:
        raise NotWritten(path, error) from None
    return aside


def _replace(path: Path, aside: Path, place: Place, who: str, now: float) -> None:
    """Under the log's lock."""
    if not _has_news(path):
        raise NothingToRotate(f"{path}: nothing happened since it was begun")
    new = path.with_name(f"{path.name}.{os.getpid()}.partial")
    first = compose(Act(ROTATED, who=who, about=aside.name), place, now)
    try:
        _write_as(path, new, first + b"\n")
        os.link(path, aside)
        try:
            new.replace(path)
        except BaseException:
            aside.unlink()
            raise
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
    sync_folder(path.parent)


def _has_news(path: Path) -> bool:
    """Whether it has more than the line it was begun with."""
    with path.open("rb") as file:
        first, second = file.readline(), file.readline()
    return bool(second) or (bool(first) and ROTATED.encode() not in first)


def _write_as(like: Path, path: Path, content: bytes) -> None:
    """Write a file that those may read and write who may ``like``."""
    whose = like.stat()
    # The folder may be another user's than who rotates: what is there already is not written to.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(file.fileno(), whose.st_uid, whose.st_gid)
        os.fchmod(file.fileno(), whose.st_mode & 0o777)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
