"""A database that is a SQLite file: seen to before it is opened, and after it was migrated."""

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from dit4c_p2p.atomic_file import is_full_disk_error
from dit4c_p2p.database.spec import DatabaseSpec
from dit4c_p2p.database.sqlite_client import split_sql_statements
from dit4c_p2p.errors import ConfigError

# FULL: a commit that was acknowledged outlives a power cut, also in WAL mode.
PRAGMAS = {"journal_mode": "WAL", "synchronous": "FULL", "busy_timeout": 5000}


class SqliteFile:
    """What :func:`~dit4c_p2p.database.databases` has to know of a SQLite file."""

    def __init__(self, spec: DatabaseSpec) -> None:
        self._spec = spec

    def connection(self, *, migrating: bool) -> dict[str, Any]:
        """Tortoise's configuration of the connection.

        Foreign keys are off while migrating: SQLite alters a column by making the table anew, and
        dropping the old one would empty the tables that refer to it.
        """
        return {
            "engine": "dit4c_p2p.database.sqlite_client",
            "credentials": {
                "file_path": str(self._spec.path),
                "foreign_keys": "OFF" if migrating else "ON",
                **PRAGMAS,
            },
        }

    def prepare(self) -> None:
        """See that the file is there, ours to write, for nobody else to read, and undamaged.

        :raises ConfigError: it is not, or it was there once and would be made anew, with nothing
            in it.
        """
        path, trace = self._spec.path, self._spec.trace
        if trace is not None and _has_file_content(trace) and not _has_file_content(path):
            raise ConfigError(
                f"{self._spec} is not there, and there was one before",
                hint=f"put it back, or a copy of it; to begin anew instead, move {trace} away",
            )
        with self._writable(path):
            pass
        try:
            connection = sqlite3.connect(path)
            try:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise self.translated(error) from error
        if verdict != "ok":
            raise self._damaged(" ".join(str(verdict).split()))

    async def finish(self, connection: Any) -> None:
        """Called in the transaction that has migrated, with its connection.

        :raises ConfigError: a row refers to one that is not there.
        """
        await _restore_sqlite_indexes(connection)
        orphans = await connection.execute_query_dict("PRAGMA foreign_key_check")
        if orphans:
            raise self._damaged(f"{len(orphans)} rows of {orphans[0]['table']} refer to nothing")

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Be the one process that serves from it.

        :raises ConfigError: another process does, or it can't be written.
        """
        path = self._spec.path
        # A file of its own: SQLite's locks on the database end when any descriptor of it is closed.
        with self._writable(path.with_name(f"{path.name}.lock")) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise self._spec.served_from() from None
            yield

    @contextmanager
    def _writable(self, path: Path) -> Iterator[int]:
        """The descriptor of a file in the database's folder, made with it if it is not there."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            if is_full_disk_error(error):
                raise self._no_room() from error
            raise ConfigError(
                f"{self._spec} can't be written: {error.strerror}",
                hint="choose another data folder, or make this one writable",
            ) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def translated(self, error: Exception, otherwise: str = "does not work") -> ConfigError:
        """What SQLite says, as a sentence with what to do.

        :param otherwise: what to say of it where there is no better word.
        """
        text = str(error)
        if "locked" in text:
            return ConfigError(
                f"{self._spec} is in use by another process", hint="stop the other dit4c first"
            )
        if ("unable to open" in text or "I/O error" in text) and _is_disk_full(
            self._spec.path.parent
        ):
            # SQLite's words where a file beside the database can't be made, or can't grow.
            text = "the disk is full"
        if "readonly" in text or "unable to open" in text:
            return ConfigError(
                f"{self._spec} can't be written: {text}",
                hint="choose another data folder, or make this one writable",
            )
        if "full" in text:
            return self._no_room()
        if "malformed" in text or "not a database" in text:
            return self._damaged(text)
        return ConfigError(f"{self._spec} {otherwise}: {text}")

    def _no_room(self) -> ConfigError:
        return ConfigError(f"no room for {self._spec}", hint="make room on its disk, and try again")

    def _damaged(self, text: str) -> ConfigError:
        return ConfigError(
            f"{self._spec} is damaged: {text}",
            hint="put back a copy of it; the file was left as it is",
        )


async def _restore_sqlite_indexes(connection: Any) -> None:
    """Make the indexes that the models declare and a rebuilt table has lost.

    A table that is not there has lost none: the migrations may be an earlier release's.

    What there should be is read off a database in memory, made from the models alone.
    """
    schema = connection.schema_generator(connection).get_create_schema_sql(safe=True)
    reference = sqlite3.connect(":memory:")
    try:
        for statement in split_sql_statements(schema):
            reference.execute(statement)
        tables = {row[0] for row in reference.execute(_TABLES)}
        there = {row["name"] for row in await connection.execute_query_dict(_TABLES)}
        for table in sorted(tables & there):
            wanted = _declared_indexes(reference.execute(_INDEXES, [table]).fetchall())
            rows = await connection.execute_query_dict(_INDEXES, [table])
            present = _declared_indexes([tuple(row.values()) for row in rows])
            for unique, columns in sorted(wanted - present):
                kind, prefix = ("UNIQUE INDEX", "uid") if unique else ("INDEX", "idx")
                names = ", ".join(f'"{column}"' for column in columns)
                await connection.execute_query(
                    f'CREATE {kind} "{prefix}_{table}_{"_".join(columns)}" ON "{table}" ({names})'
                )
    finally:
        reference.close()


def _has_file_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _is_disk_full(folder: Path) -> bool:
    """Whether there is no room, be it for more content or for another file, in an existing folder.

    A file system without a limit to the number of files says that it has 0 in all.
    """
    found = os.statvfs(folder)
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_INDEXES = (
    'SELECT l.name AS name, l."unique" AS is_unique, i.seqno AS seqno, i.name AS column_name'
    " FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i ORDER BY l.name, i.seqno"
)


def _declared_indexes(rows: Sequence[tuple[Any, ...]]) -> set[tuple[bool, tuple[str, ...]]]:
    """``{(unique, columns)}`` of the rows that :data:`_INDEXES` selects."""
    found: dict[str, tuple[bool, tuple[str, ...]]] = {}
    for name, unique, _, column in rows:
        found[name] = (bool(unique), (*found.get(name, (False, ()))[1], column))
    return set(found.values())
