"""An advisory lock by which one process alone serves from a database on a server.

The lock belongs to a connection (PostgreSQL's manual, "Advisory Locks"): the server releases it
when the connection ends. It is then taken again; if another process was quicker, this one can't go
on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncpg

from dit4c_p2p.database.postgresql_client import ASYNCPG_FAILURES

_log = logging.getLogger(__name__)

# In ASCII "DIT5"; the one that writes holds the number before it.
_SERVER = 0x44495435
_LOOK_S = 2.0
_ANSWER_S = 10.0
FAILURES = (*ASYNCPG_FAILURES, OSError, TimeoutError)

Connect = Callable[[], Coroutine[Any, Any, asyncpg.Connection]]


class LockHeldElsewhere(Exception):
    """Another process holds the lock."""


async def take_database_lock(connect: Connect) -> asyncpg.Connection:
    """Return a connection that holds the lock.

    :raises Held: another process holds it.
    """
    connection = await connect()
    try:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _SERVER):
            raise LockHeldElsewhere
    except BaseException:
        connection.terminate()
        raise
    return connection


async def keep_database_lock(connection: asyncpg.Connection, connect: Connect) -> None:
    """Keep the lock until cancelled, then release it.

    :raises Held: the lock was lost with its connection, and another process holds it now.
    """
    try:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await connection.execute("SELECT 1", timeout=_ANSWER_S)
            except FAILURES as error:
                _log.warning("the line to the database broke: %s", error or "time is up")
                connection.terminate()
                connection = await _try_lock_again(lambda: take_database_lock(connect))
                _log.info("the database is back")
    finally:
        connection.terminate()


async def _try_lock_again(
    attempt: Callable[[], Awaitable[asyncpg.Connection]],
) -> asyncpg.Connection:
    while True:
        try:
            return await attempt()
        except FAILURES as error:
            _log.debug("the database is not back: %s", error)
            await asyncio.sleep(_LOOK_S)
