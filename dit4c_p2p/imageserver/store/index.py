"""The index: one SQLite file, one thread that writes, and a few that read.

Functions given to :meth:`Index.write` run one after another, each in a transaction that is on disk
when the call returns. What they do to files besides (rename, unlink) is ordered by that as well.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imageserver.store.errors import DiskFull

T = TypeVar("T")

_VERSION = 1
_READERS = 4
_BUSY_S = 30.0
# SQLite's own limit for parameters of a statement is 32,766.
MAX_PARAMETERS = 8000

_SCHEMA = """
CREATE TABLE repository (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
-- recipe: NULL for a blob that is a file, else its chunks in order, 36 bytes each.
CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    recipe BLOB
);
-- touched: when it was last uploaded, mounted or asked for; seconds since 1970.
CREATE TABLE repository_blob (
    repository INTEGER NOT NULL REFERENCES repository (id),
    blob INTEGER NOT NULL REFERENCES blob (id),
    touched REAL NOT NULL,
    PRIMARY KEY (repository, blob)
) WITHOUT ROWID;
CREATE INDEX repository_blob_blob ON repository_blob (blob);

CREATE TABLE manifest (
    id INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repository (id),
    digest BLOB NOT NULL,
    media_type TEXT NOT NULL,
    artifact_type TEXT NOT NULL,
    annotations TEXT NOT NULL,
    subject BLOB,
    body BLOB NOT NULL,
    touched REAL NOT NULL,
    UNIQUE (repository, digest)
);
CREATE INDEX manifest_subject ON manifest (repository, subject);
CREATE TABLE manifest_blob (
    manifest INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    blob INTEGER NOT NULL REFERENCES blob (id),
    PRIMARY KEY (manifest, blob)
) WITHOUT ROWID;
CREATE INDEX manifest_blob_blob ON manifest_blob (blob);
CREATE TABLE manifest_child (
    manifest INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    child INTEGER NOT NULL REFERENCES manifest (id),
    PRIMARY KEY (manifest, child)
) WITHOUT ROWID;
CREATE INDEX manifest_child_child ON manifest_child (child);
CREATE TABLE tag (
    repository INTEGER NOT NULL REFERENCES repository (id),
    name TEXT NOT NULL,
    manifest INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tag_manifest ON tag (manifest);

CREATE TABLE upload (
    id TEXT PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repository (id),
    touched REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX upload_repository ON upload (repository);

CREATE TABLE pack (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL
);
-- coding: dit4c_p2p.oci.exchange.Coding; start, stored: where its bytes are in the pack.
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    pack INTEGER NOT NULL REFERENCES pack (id),
    start INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    coding INTEGER NOT NULL
);
CREATE INDEX chunk_pack ON chunk (pack);
CREATE TABLE blob_chunk (
    chunk INTEGER NOT NULL REFERENCES chunk (id),
    blob INTEGER NOT NULL REFERENCES blob (id),
    PRIMARY KEY (chunk, blob)
) WITHOUT ROWID;
CREATE INDEX blob_chunk_blob ON blob_chunk (blob);
-- A chunk that a repository was promised to have, whether or not a blob has it.
CREATE TABLE pin (
    repository INTEGER NOT NULL REFERENCES repository (id),
    chunk INTEGER NOT NULL REFERENCES chunk (id),
    until REAL NOT NULL,
    PRIMARY KEY (repository, chunk)
) WITHOUT ROWID;
CREATE INDEX pin_chunk ON pin (chunk);
"""

Transaction = sqlite3.Connection


class Index:
    """The index in a file, which is made if it is missing; :meth:`close` it in the end.

    :raises ConfigError: it is something else, or of a newer release.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="image index writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="image index reader")
        self._own = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        self._once_committed: list[Callable[[], None]] = []
        try:
            with closing(self._open()) as connection:
                self._migrate(connection)
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{path} can't be used: {error}", hint="put back what a backup has of it"
            ) from None

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Do ``work`` in a transaction; nothing of it is done if it raises.

        :raises DiskFull: there is no room for it.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._writer, self._in_transaction, work
        )

    def once_committed(self, work: Callable[[], None]) -> None:
        """From inside :meth:`write`: do ``work`` when the transaction is on disk, before the next.

        It is not done where the transaction fails, nor after a crash.
        """
        self._once_committed.append(work)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Do ``work`` on what is there at one moment."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._look, work)

    def close(self) -> None:
        """Finish what has been begun."""
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        with self._connections_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -8192")
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise ConfigError(
                f"{self._path} is of a newer release", hint="run that release, or a newer one"
            )
        if version == 0:
            connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")

    def _connection(self) -> sqlite3.Connection:
        """The calling thread's."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._open()
            with self._connections_lock:
                self._connections.append(connection)
        return connection

    def _in_transaction(self, work: Callable[[Transaction], T]) -> T:
        self._once_committed.clear()
        with _transaction_for_store_index(self._connection(), "IMMEDIATE") as connection:
            result = work(connection)
        for after in self._once_committed:
            after()
        return result

    def _look(self, work: Callable[[Transaction], T]) -> T:
        with _transaction_for_store_index(self._connection(), "DEFERRED") as connection:
            return work(connection)


@contextmanager
def _transaction_for_store_index(
    connection: sqlite3.Connection, kind: str
) -> Iterator[sqlite3.Connection]:
    try:
        connection.execute(f"BEGIN {kind}")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise DiskFull from None
        raise


# ---- what several parts of the store ask


def repository_id(at: Transaction, name: str) -> int | None:
    """The id of a repository that has something in it."""
    row = at.execute("SELECT id FROM repository WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def ensure_repository(at: Transaction, name: str) -> int:
    """The id of a repository, which is made if it is missing."""
    at.execute("INSERT OR IGNORE INTO repository (name) VALUES (?)", (name,))
    found = repository_id(at, name)
    if found is None:
        raise RuntimeError("a repository that was just written is not there")
    return found


def in_batches(values: Sequence[T], size: int = MAX_PARAMETERS) -> Iterator[Sequence[T]]:
    """``values`` in pieces that fit one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def marks(values: Sequence[Any]) -> str:
    """``?,?,?`` for the values of an IN clause."""
    return ",".join("?" * len(values))
