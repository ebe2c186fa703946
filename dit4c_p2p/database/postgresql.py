"""A database on a PostgreSQL server. Its administrator makes an empty one for each component::

createuser dit4c; createdb -O dit4c dit4c_portal; createdb -O dit4c dit4c_scheduler
"""

from typing import Any

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


class PostgresqlServer:
    """What :func:`~dit4c_p2p.database.databases` has to know of a database on a server."""

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
                **({"ssl": "verify-full"} if self._spec.needs_certificate else {}),
            },
        }

    def prepare(self) -> None:
        """Nothing: the administrator has made the database, and the server looks after it."""

    async def finish(self, connection: Any) -> None:
        """Nothing: PostgreSQL alters tables without making them anew."""

    def translated(self, error: Exception) -> ConfigError:
        """What the server says, or that there is none, as a sentence with what to do."""
        cause = _cause(error)
        text = " ".join(str(cause).split()) or type(cause).__name__
        state = str(getattr(cause, "sqlstate", None) or "")
        if isinstance(cause, OSError | TimeoutError) or state[:2] == "08" or state == "57P03":
            return ConfigError(
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
        return ConfigError(f"{self._spec} can't be brought up to date: {text}")


def _cause(error: BaseException) -> BaseException:
    """The error that all began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
