"""A database on a PostgreSQL server. Its administrator makes an empty one for each component::

createuser dit4c; createdb -O dit4c dit4c_portal; createdb -O dit4c dit4c_scheduler
"""

import asyncio
import contextlib
import logging
import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.database.spec import DatabaseSpec
from dit4c_p2p.errors import ConfigError

_CONNECT_S = 10
# What a component asks is answered in milliseconds; after this the line is taken to be dead.
_STATEMENT_S = 10
# Of several processes that migrate at once, one works and the others wait so long.
_MIGRATION_LOCK_S = 60
_LOCK_S = 5
# A process that stands still in a transaction keeps all others from writing.
_IDLE_IN_TRANSACTION_S = 30
_MIGRATION_IDLE_S = 600
_MAX_CONNECTIONS = 10
# A server that is started with its machine takes seconds, after a crash perhaps a minute.
_PATIENCE_S = 60
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0
# Of the server's: a machine that died holds nothing for long.
_KEEPALIVE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
}

_log = logging.getLogger(__name__)


class ServerUnreachable(ConfigError):
    """No server accepts connections at the address now."""


class PostgresqlServer:
    """A database on a server, as :func:`~dit4c_p2p.database.databases` uses it."""

    def __init__(self, spec: DatabaseSpec) -> None:
        self._spec = spec

    def connection(self, *, migrating: bool) -> dict[str, Any]:
        """Tortoise's configuration of the connection."""
        lock_s = _MIGRATION_LOCK_S if migrating else _LOCK_S
        idle_s = _MIGRATION_IDLE_S if migrating else _IDLE_IN_TRANSACTION_S
        return {
            "engine": "dit4c_p2p.database.postgresql_client",
            "credentials": {
                "dsn": self._spec.url,
                "minsize": 0,  # made as they are needed, also after the server was gone
                "maxsize": _MAX_CONNECTIONS,
                "timeout": _CONNECT_S,
                # A migration takes as long as it takes.
                "command_timeout": None if migrating else _STATEMENT_S,
                "application_name": f"dit4c {self._spec.app}",
                "server_settings": {
                    "lock_timeout": f"{lock_s}s",
                    "idle_in_transaction_session_timeout": f"{idle_s}s",
                },
                **self._given,
            },
        }

    @property
    def _given(self) -> dict[str, str]:
        """Return asyncpg's arguments beside the URL.

        Where nobody is named, libpq takes the user that the process runs as, which is what "peer"
        in pg_hba.conf goes by; asyncpg would take the environment's, which is root's for a command
        that root runs with ``runuser -u``.
        """
        given = {"ssl": "verify-full"} if self._spec.needs_certificate else {}
        if not self._spec.names_user and "PGUSER" not in os.environ:
            with contextlib.suppress(KeyError):
                given["user"] = pwd.getpwuid(os.geteuid()).pw_name
        return given

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the database as the only serving process; wait for a server that is not up yet.

        :raises ConfigError: another process holds it, also later; or there is no such database.
        """
        from dit4c_p2p.database import postgresql_hold as hold

        try:
            connection = await self._take()
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(hold.keep_database_lock(connection, self._connect))
                try:
                    yield
                finally:
                    keeping.cancel()
        except hold.LockHeldElsewhere:
            raise self._spec.served_from() from None
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
            raise (
                self._spec.served_from() if isinstance(first, hold.LockHeldElsewhere) else first
            ) from None

    async def _take(self) -> Any:
        from dit4c_p2p.database import postgresql_hold as hold

        time = asyncio.get_running_loop().time
        began, pauses, said = time(), Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), False
        while True:
            try:
                return await hold.take_database_lock(self._connect)
            except hold.FAILURES as error:
                refused = self.translated(error)
                if not isinstance(refused, ServerUnreachable) or time() - began > _PATIENCE_S:
                    raise refused from error
                if not said:
                    _log.warning("%s: waiting for it, %d s at most", refused, _PATIENCE_S)
                said = True
            await asyncio.sleep(pauses.pause_s())

    async def _connect(self) -> Any:
        import asyncpg

        settings = {"application_name": f"dit4c {self._spec.app} serves", **_KEEPALIVE}
        return await asyncpg.connect(
            self._spec.url, timeout=_CONNECT_S, server_settings=settings, **self._given
        )

    def prepare(self) -> None:
        """Do nothing: the administrator has created the database."""

    async def finish(self, connection: Any) -> None:
        """Do nothing: PostgreSQL alters tables in place."""

    def translated(self, error: Exception, otherwise: str = "does not work") -> ConfigError:
        """Return an error of the server as a sentence that says what to do.

        :param otherwise: the sentence for an unknown error.
        """
        cause = _first_cause(error)
        text = " ".join(str(cause).split()) or type(cause).__name__
        state = str(getattr(cause, "sqlstate", None) or "")
        if isinstance(cause, OSError | TimeoutError) or state[:2] == "08" or state == "57P03":
            return ServerUnreachable(
                f"{self._spec} can't be reached: {text}",
                hint="is PostgreSQL running there, and does it take connections?",
            )
        if state[:2] == "28":
            return ConfigError(
                f"{self._spec} does not let us in: {text}",
                hint="check user and password, and the server's pg_hba.conf",
            )
        if state == "3D000":
            return ConfigError(
                f"{self._spec} is not there", hint="make it: createdb -O <user> <name>"
            )
        if state == "42501":
            return ConfigError(
                f"{self._spec} is not ours to write: {text}",
                hint="make the user that connects the owner of the database",
            )
        if state == "53100":
            return ConfigError(f"no room for {self._spec}", hint="free some disk space there")
        if state[:2] == "53":
            return ConfigError(f"{self._spec} has no connection left for us: {text}")
        if state == "55P03":
            return ConfigError(
                f"{self._spec} is in use by another process that does not end its work",
                hint="stop the other dit4c first",
            )
        if not state and "certificate" in text:
            return ConfigError(
                f"{self._spec} is on another machine, and its certificate can't be checked: {text}",
                hint="name the certificate of its CA: add ?sslrootcert=FILE to the URL",
            )
        return ConfigError(f"{self._spec} {otherwise}: {text}")


def _first_cause(error: BaseException) -> BaseException:
    """Return the first error of a chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
