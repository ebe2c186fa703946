"""Tortoise ORM's client for asyncpg, with the behaviour that the components rely on.

- **One writer at a time**, as on SQLite: a transaction begins by taking an advisory lock of the
  database (PostgreSQL's manual, "Advisory Locks") and gives it back at its end. Within one process
  transactions queue before they take a connection. What a transaction has read therefore stays true
  until it commits, numbers follow the order of commits, and no transaction fails because another
  runs. Reading needs no lock, and sees committed data.
- Every failure of the server is an :class:`OperationalError`, as on SQLite; the next statement
  connects again.
- Each wait has a limit: for a connection, for the lock, for an answer.
- A transaction that can't begin gives back its connection and its lock.
- ``NUL``, which a text in PostgreSQL can't have, is written as U+FFFD.

Tortoise imports this module by name as a connection's ``engine`` and looks for ``client_class``.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import (
    NestedTransactionContext,
    PoolConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.connection import get_connections
from tortoise.exceptions import BaseORMException, IntegrityError, OperationalError

_log = logging.getLogger(__name__)

# The last is raised for a statement between the server's last words and the end of its line.
ASYNCPG_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# In ASCII "DIT4": of no meaning, but not what another program would come upon.
_WRITER = 0x44495434
# For a connection out of the pool, and for the other transactions of this process.
_WAIT_S = 10


@contextmanager
def _translated_postgresql_errors() -> Iterator[None]:
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        raise IntegrityError(error) from error
    except TimeoutError as error:
        raise OperationalError("the database does not answer in time") from error
    except (*ASYNCPG_FAILURES, OSError) as error:
        raise OperationalError(error) from error


def _storable_parameter(value: Any) -> Any:
    """A parameter, or a list of them, without ``NUL``."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value
    return [_storable_parameter(item) for item in value] if isinstance(value, list) else value


class _TranslatingExecutor:
    """Translates the errors of each of Tortoise's statements."""

    async def _translate_exceptions(
        self, func: Callable[..., Coroutine[None, None, Any]], *args: Any, **kwargs: Any
    ) -> Any:
        with _translated_postgresql_errors():
            return await func(
                self,
                *map(_storable_parameter, args),
                **{name: _storable_parameter(value) for name, value in kwargs.items()},
            )


class _PostgresqlTransaction(_TranslatingExecutor, TransactionWrapper):
    """The connection within a transaction."""

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(_PostgresqlTransaction(self))

    async def begin(self) -> None:
        with _translated_postgresql_errors():
            self.transaction = self._connection.transaction(isolation="read_committed")
            await self.transaction.start()
            await self._connection.execute("SELECT pg_advisory_xact_lock($1)", _WRITER)

    async def savepoint(self) -> None:
        with _translated_postgresql_errors():
            self.transaction = self._connection.transaction()
            await self.transaction.start()

    async def commit(self) -> None:
        with _translated_postgresql_errors():
            await super().commit()

    async def rollback(self) -> None:
        with _translated_postgresql_errors():
            await super().rollback()


class _PostgresqlTransactionContext(TransactionContext):
    """``async with`` around one transaction."""

    def __init__(self, client: "Client") -> None:
        self._parent = client
        self.connection_name = client.connection_name

    async def __aenter__(self) -> TransactionalDBClient:
        parent = self._parent
        with _translated_postgresql_errors():
            async with asyncio.timeout(_WAIT_S):
                await parent.writer.acquire()
        try:
            pool = await parent.pool()
            with _translated_postgresql_errors():
                connection = await pool.acquire(timeout=_WAIT_S)
            self.client = _PostgresqlTransaction(parent)
            self.client._connection = connection
            try:
                await self.client.begin()
            except BaseException:
                await _roll_back_transaction(self.client)
                await parent.give_back(connection)
                raise
        except BaseException:
            parent.writer.release()
            raise
        self.token = get_connections().set(self.connection_name, self.client)
        return self.client

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        client = self.client
        try:
            if not client._finalized:
                if exc_type is None:
                    await client.commit()
                else:
                    await _roll_back_transaction(client)
        finally:
            get_connections().reset(self.token)
            try:
                await self._parent.give_back(client._connection)
            finally:
                # Last, and nothing is awaited after it: who waits goes on after the caller has.
                self._parent.writer.release()


async def _roll_back_transaction(client: TransactionalDBClient) -> None:
    try:
        await client.rollback()
    except BaseORMException as error:
        # The line is gone, and the transaction with it; what ended it is what counts.
        _log.debug("no rollback: %s", error)


class Client(_TranslatingExecutor, AsyncpgDBClient):
    """One database, several connections to it, one transaction at a time.

    :param dsn: a URL as libpq takes it.
    """

    def __init__(self, dsn: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dsn = dsn
        self.writer = asyncio.Lock()

    async def create_connection(self, with_db: bool) -> None:
        with _translated_postgresql_errors():
            await super().create_connection(with_db)

    async def create_pool(self, **kwargs: Any) -> asyncpg.Pool:
        """Called by the base class, which knows nothing of the URL and its port."""
        return await asyncpg.create_pool(
            self._dsn, **{**kwargs, "port": None}, reset=_reset_nothing
        )

    async def pool(self) -> asyncpg.Pool:
        """The connections, made at first use.

        :raises OperationalError: the server can't be reached.
        """
        if self._pool is None:
            async with self._pool_init_lock:
                if self._pool is None:
                    await self.create_connection(with_db=True)
        return self._pool

    async def give_back(self, connection: Any) -> None:
        """Give back a connection; a broken one is discarded."""
        if self._pool is not None:
            try:
                await self._pool.release(connection, timeout=_WAIT_S)
            except (*ASYNCPG_FAILURES, OSError, TimeoutError) as error:
                _log.debug("a connection broke: %s", error)

    def acquire_connection(self) -> "_BorrowedPostgresqlConnection":
        return _BorrowedPostgresqlConnection(self, self._pool_init_lock)

    def _in_transaction(self) -> TransactionContext:
        return _PostgresqlTransactionContext(self)


class _BorrowedPostgresqlConnection(PoolConnectionWrapper[Any]):
    """``async with`` around one statement outside of a transaction."""

    client: Client

    async def __aenter__(self) -> Any:
        pool = await self.client.pool()
        self.connection = await pool.acquire(timeout=_WAIT_S)
        return self.connection

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        await self.client.give_back(self.connection)


async def _reset_nothing(connection: Any) -> None:
    """Do nothing: no state outlives a transaction, and asyncpg's reset costs a round trip."""


client_class: type[Any] = Client
