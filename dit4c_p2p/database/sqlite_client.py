"""Tortoise ORM's SQLite client with the three habits that a promise needs.

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
from typing import Any

from tortoise.backends.base.client import (
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


def statements(script: str) -> Iterator[str]:
    """The complete statements of an SQL script, one by one, as SQLite's own parser ends them."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if pending.strip():
        yield pending.strip()


class _Transaction(SqliteTransactionWrapper):
    """The connection as seen from inside a transaction."""

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(_Transaction(self))

    async def begin(self) -> None:
        try:
            # What a cancelled begin may have left behind.
            await self._connection.rollback()
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise OperationalError(error) from error

    async def commit(self) -> None:
        try:
            await super().commit()
        except sqlite3.Error as error:
            # No room, say. It must not be committed later by whoever comes next.
            await self.rollback()
            raise OperationalError(error) from error

    async def execute_script(self, query: str) -> None:
        for statement in statements(query):
            await self.execute_query(statement)


class _Context(SqliteTransactionContext):
    """``async with`` around one transaction."""

    connection: _Transaction

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


class Client(SqliteClient):
    """One SQLite file, one connection, one transaction at a time."""

    def _in_transaction(self) -> TransactionContext:
        return _Context(_Transaction(self), self._lock)


client_class: type[Any] = Client
