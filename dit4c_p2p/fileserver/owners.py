"""Users and groups, other than the tree's own, that files of a tree were given to in a mount.

The file server runs as one user, so the disk doesn't know them. They are kept by file id, in memory
and in an SQLite database beside the files; most trees have none, and no database.
"""

import errno
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple

from dit4c_p2p.fileserver.syscalls import os_error
from dit4c_p2p.sftp.operations import OWN_ID

_log = logging.getLogger(__name__)

# Above this many a tree would take more than 100 MiB of memory.
_MAX_OWNED = 500_000


class Owner(NamedTuple):
    """Numeric ids; ``OWN_ID``: the user or group that the files of the mount belong to."""

    uid: int
    gid: int


OWN = Owner(OWN_ID, OWN_ID)


class Owners:
    """The owners of one tree's files; used by worker threads.

    :param path: the database's file, made when it is needed.
    :param root: descriptor of the tree's directory. A database that was written for another
        directory, as after a restored backup, has other files' ids, and is not used.
    """

    def __init__(self, path: Path, root: int) -> None:
        self._path = path
        self._tree = f"{os.fstat(root).st_ino} {os.fstatvfs(root).f_fsid}"
        self._lock = threading.Lock()
        self._known: dict[int, Owner] = {}
        self._database: sqlite3.Connection | None = None
        if path.exists():
            self._load()

    def get(self, file_id: int) -> Owner:
        """A file's owner."""
        return self._known.get(file_id, OWN)

    def set(self, file_id: int, uid: int | None, gid: int | None) -> None:
        """Give a file to a user, a group, or both.

        :raises OSError: it can't be written down, or too many files are given away.
        """
        with self._lock:
            old = self._known.get(file_id, OWN)
            new = Owner(old.uid if uid is None else uid, old.gid if gid is None else gid)
            if new == old:
                return
            if new == OWN:
                self._forget(file_id)
                return
            if len(self._known) >= _MAX_OWNED and file_id not in self._known:
                raise os_error(errno.EDQUOT)
            self._write("INSERT OR REPLACE INTO owners VALUES (?, ?, ?)", (file_id, *new))
            self._known[file_id] = new

    def forget(self, file_id: int) -> None:
        """A file is gone, or new: its number may have been another's before."""
        if file_id in self._known:
            with self._lock:
                self._forget(file_id)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _forget(self, file_id: int) -> None:
        try:
            self._write("DELETE FROM owners WHERE file_id = ?", (file_id,))
        except OSError as error:
            # The row is replaced or removed when the number is used again.
            _log.warning("the owner of a removed file is still in %s: %s", self._path, error)
        self._known.pop(file_id, None)

    def _write(self, statement: str, values: tuple[int, ...]) -> None:
        try:
            self._opened().execute(statement, values)
        except sqlite3.Error as error:
            full = "full" in str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS owners "
                "(file_id INTEGER PRIMARY KEY, uid INTEGER NOT NULL, gid INTEGER NOT NULL)"
            )
            database.execute("CREATE TABLE IF NOT EXISTS trees (tree TEXT PRIMARY KEY)")
            database.execute("INSERT OR IGNORE INTO trees VALUES (?)", (self._tree,))
        return self._database

    def _load(self) -> None:
        try:
            database = self._opened()
            if database.execute("SELECT tree FROM trees").fetchall() != [(self._tree,)]:
                _log.warning("%s is of another directory: its owners are not used", self._path)
                database.execute("DELETE FROM owners")
                database.execute("DELETE FROM trees WHERE tree != ?", (self._tree,))
            for file_id, *owner in database.execute("SELECT file_id, uid, gid FROM owners"):
                self._known[file_id] = Owner(*owner)
        except sqlite3.Error as error:
            _log.error("%s can't be read, and is set aside: %s", self._path, error)
            self.close()
            self._path.replace(self._path.with_suffix(".damaged"))
