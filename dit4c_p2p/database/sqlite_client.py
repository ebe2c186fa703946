"""Tortoise ORM's SQLite client with the four habits that a promise needs.

- A transaction takes the write lock with its first statement (``BEGIN IMMEDIATE``): one that began
  by reading could fail with "database is locked" when it comes to write (SQLite, "Isolation").
- A script inside a transaction stays inside it: Python's ``executescript`` commits first, which
  would leave a migration that fails half done.
- A transaction that can't begin gives its lock back, so that the next one can; one that can't be
  committed is rolled back.

Tortoise imports this module by name as a connection's ``engine`` and looks for ``client_class``;
its migrations look for ``sqlite`` in that name.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tortoise.backends.base.client import (
    ConnectionWrapper,
    NestedTransactionContext,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.backends.sqlite.client import (
    SqliteClient,
    SqliteTransactionContext,
    SqliteTransactionWrapper,
)
from tortoise.connection import get_connections
from tortoise.exceptions import OperationalError


def split_sql_statements(script: str) -> Iterator[str]:
    """The complete statements of an SQL script, one by one, as SQLite's own parser ends them."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if pending.strip():
        yield pending.strip()


class _SqliteStatement(ConnectionWrapper[Any]):
    """``async with`` around one statement."""

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        await super().__aexit__(exc_type, exc_val, exc_tb)
        if type(exc_val) is sqlite3.DatabaseError:
            # A damaged file, say: Tortoise knows only what derives from it.
            raise OperationalError(exc_val) from exc_val


class _SqliteTransaction(SqliteTransactionWrapper):
    """The connection as seen from inside a transaction."""

    _parent: "Client"

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(_SqliteTransaction(self))

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        return _SqliteStatement(self._lock, self)

    async def begin(self) -> None:
        try:
            self._parent.check_in_place()
            # What a cancelled begin may have left behind.
            await self._connection.rollback()
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise OperationalError(error) from error

    async def commit(self) -> None:
        try:
            self._parent.check_in_place()
            await super().commit()
        except sqlite3.Error as error:
            # No room, say, or no file. It must not be committed later by whoever comes next.
            await self.rollback()
            raise OperationalError(error) from error

    async def execute_script(self, query: str) -> None:
        for statement in split_sql_statements(query):
            await self.execute_query(statement)


class _SqliteTransactionContext(SqliteTransactionContext):
    """``async with`` around one transaction."""

    connection: _SqliteTransaction

    async def __aenter__(self) -> TransactionalDBClient:
        await self._trxlock.acquire()
        try:
            await self.ensure_connection()
            await self.connection.begin()
        except BaseException:
            self._trxlock.release()
            raise
        self.token = get_connections().set(self.connection_name, self.connection)
        return self.connection


class _StatementOutsideTransaction(_SqliteStatement):
    """One outside of a transaction."""

    client: "Client"

    async def __aenter__(self) -> Any:
        connection = await super().__aenter__()
        try:
            self.client.check_in_place()
        except sqlite3.OperationalError:
            self._lock.release()
            raise
        return connection


class Client(SqliteClient):
    """One SQLite file, one connection, one transaction at a time."""

    _opened: tuple[int, int] | None = None

    async def create_connection(self, with_db: bool) -> None:
        await super().create_connection(with_db)
        self._opened = self._in_place()

    def check_in_place(self) -> None:
        """One look at the folder: it costs some microseconds.

        :raises sqlite3.OperationalError: the file at the path is not the one that is open.
        """
        if self._in_place() != self._opened:
            raise sqlite3.OperationalError(
                f"the database {self.filename} has been moved or removed: put the same file back, "
                "or restart with a copy in its place"
            )

    def _in_place(self) -> tuple[int, int] | None:
        """Device and number of the file at the path."""
        try:
            found = Path(self.filename).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        return _StatementOutsideTransaction(self._lock, self)

    def _in_transaction(self) -> TransactionContext:
        return _SqliteTransactionContext(_SqliteTransaction(self), self._lock)


client_class: type[Any] = Client
