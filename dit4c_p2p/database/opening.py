"""Migrate and open the databases of a process; see the package's docstring."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.context import TortoiseContext, get_current_context, set_global_context
from tortoise.exceptions import BaseORMException, OperationalError
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.writer import MigrationWriter

from dit4c_p2p.database.postgresql import PostgresqlServer
from dit4c_p2p.database.spec import DatabaseSpec
from dit4c_p2p.database.sqlite import SqliteFile
from dit4c_p2p.database.transaction import in_transaction
from dit4c_p2p.errors import ConfigError

# What a database that does not work is told by; no other error is translated.
FAILURES = (BaseORMException, sqlite3.Error)


@asynccontextmanager
async def databases(specs: Sequence[DatabaseSpec]) -> AsyncIterator[None]:
    """Migrate and open every database; close them all at the end. Once at a time in a process.

    :raises ConfigError: one can't be written or reached, is locked by another process, is damaged,
        or was written by a newer version of this program; or it no longer works, and nobody inside
        has seen to that.
    """
    if get_current_context() is not None:
        raise RuntimeError("databases are open already in this process")
    # Statements that Tortoise has kept: the same app may have been on the other engine before.
    EXECUTOR_CACHE.clear()
    for spec in specs:
        database_place(spec).prepare()
        await _migrate_database(spec)
    context = TortoiseContext()
    try:
        with context:
            await context.init(_tortoise_config(specs, migrating=False))
        # Not bound to this task: requests and connections are served in tasks of their own.
        set_global_context(context)
        yield
    except FAILURES as error:
        # Its subclasses are of what is asked for, and somebody's mistake.
        if type(error) is not OperationalError and not isinstance(error, sqlite3.Error):
            raise
        if len(specs) == 1:
            raise database_place(specs[0]).translated(error) from error
        raise ConfigError(f"a database does not work: {error}") from error
    finally:
        await context.close_connections()


def database_place(spec: DatabaseSpec) -> SqliteFile | PostgresqlServer:
    """Return the object for the kind of place where a database is."""
    return PostgresqlServer(spec) if spec.is_postgresql else SqliteFile(spec)


def _tortoise_config(specs: Sequence[DatabaseSpec], *, migrating: bool) -> dict[str, Any]:
    """Tortoise's configuration; each app's models use the connection of the same name."""
    return {
        "connections": {
            spec.app: database_place(spec).connection(migrating=migrating) for spec in specs
        },
        "apps": {
            spec.app: {
                "models": [spec.models],
                "default_connection": spec.app,
                "migrations": spec.migrations,
            }
            for spec in specs
        },
    }


async def _migrate_database(spec: DatabaseSpec) -> None:
    """Migrate one database to the newest schema, or change nothing."""
    place, context = database_place(spec), TortoiseContext()
    config = _tortoise_config([spec], migrating=True)
    with context:
        try:
            await context.init(config)
            async with in_transaction(spec.app) as connection:
                executor = MigrationExecutor(connection, config["apps"])
                await _refuse_foreign_database(spec, executor)
                await executor.migrate()
                await place.finish(connection)
        except FAILURES as error:
            raise place.translated(error, "can't be brought up to date") from error
        finally:
            await context.close_connections()


async def _refuse_foreign_database(spec: DatabaseSpec, executor: MigrationExecutor) -> None:
    """:raises ConfigError: it is a newer version's or another component's."""
    # The recorder takes any error for "nothing applied", and in PostgreSQL an error ends the
    # transaction: so the table is made first.
    await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
    executor.loader.load_disk()
    applied = set(await executor.recorder.applied_migrations())
    others = sorted({key.app_label for key in applied} - {spec.app})
    if others:
        raise ConfigError(
            f"{spec} is the {others[0]}'s already",
            hint="give each component a database of its own",
        )
    unknown = applied - set(executor.loader.disk_migrations)
    if unknown:
        newest = max(key.name for key in unknown)
        raise ConfigError(
            f"{spec} was written by a newer version of dit4c-p2p (it has {newest})",
            hint="install that version again",
        )


async def missing_migrations(spec: DatabaseSpec) -> list[MigrationWriter]:
    """Return the migrations that the models need and that are not written yet; open nothing."""
    config = _tortoise_config([spec], migrating=True)
    with TortoiseContext() as context:
        await context.init(config, init_connections=False)
        if context.apps is None:
            raise RuntimeError("Tortoise did not load the models")
        return await MigrationAutodetector(context.apps, config["apps"]).changes()
