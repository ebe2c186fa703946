"""The databases of the components in one process, each its own SQLite file, opened together.

    async with databases([DatabaseSpec("portal", folder / "portal.sqlite3"), …]):
        async with in_transaction("portal"):
            …

Opening brings each file to the newest schema, in one transaction for each file: a migration that
fails or is killed leaves the file as it was. A component's models are in
``dit4c_p2p.<app>.models``, its migrations in ``dit4c_p2p.<app>.migrations``. After a change of the
models::

    python -m dit4c_p2p.database makemigrations portal [--name what_changed]

writes the migration, and ``… check portal`` fails if one is missing. A new column that may not be
NULL needs ``db_default=``.

A task that is started inside a transaction inherits it: start tasks after the ``async with`` ends.
"""

import argparse
import asyncio
import importlib
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tortoise.transactions
from tortoise.context import TortoiseContext, get_current_context, set_global_context
from tortoise.exceptions import BaseORMException
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.writer import MigrationWriter, format_migration_name

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.sqlite_client import statements

# FULL: a commit that was acknowledged outlives a power cut, also in WAL mode.
_PRAGMAS = {"journal_mode": "WAL", "synchronous": "FULL", "busy_timeout": 5000}


@dataclass(frozen=True)
class DatabaseSpec:
    """One component's database.

    ``app`` names the component (``portal``), the connection and Tortoise's app. The two modules are
    found by convention unless given.
    """

    app: str
    path: Path
    models_module: str = ""
    migrations_module: str = ""

    @property
    def models(self) -> str:
        """The module with the Tortoise models."""
        return self.models_module or f"dit4c_p2p.{self.app}.models"

    @property
    def migrations(self) -> str:
        """The package with the migrations."""
        return self.migrations_module or f"dit4c_p2p.{self.app}.migrations"


@asynccontextmanager
async def databases(specs: Sequence[DatabaseSpec]) -> AsyncIterator[None]:
    """Migrate and open every database; close them all at the end. Once at a time in a process.

    :raises ConfigError: a file can't be written, is locked by another process, is damaged, or was
        written by a newer version of this program.
    """
    if get_current_context() is not None:
        raise RuntimeError("databases are open already in this process")
    for spec in specs:
        _make_file(spec)
        await _migrate(spec)
    context = TortoiseContext()
    try:
        with context:
            await context.init(_config(specs, foreign_keys="ON"))
        # Not bound to this task: requests and connections are served in tasks of their own.
        set_global_context(context)
        yield
    finally:
        await context.close_connections()


def in_transaction(app: str) -> AbstractAsyncContextManager[Any]:
    """One transaction on ``app``'s database: all or nothing, alone in writing from its start."""
    return tortoise.transactions.in_transaction(app)


def _config(specs: Sequence[DatabaseSpec], *, foreign_keys: str) -> dict[str, Any]:
    """Tortoise's configuration; each app's models use the connection of the same name."""
    return {
        "connections": {
            spec.app: {
                "engine": "dit4c_p2p.sqlite_client",
                "credentials": {
                    "file_path": str(spec.path),
                    "foreign_keys": foreign_keys,
                    **_PRAGMAS,
                },
            }
            for spec in specs
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


def _make_file(spec: DatabaseSpec) -> None:
    """See that the file is there, ours to write, for nobody else to read, and undamaged."""
    try:
        spec.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(spec.path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(
            f"the {spec.app}'s database {spec.path} can't be written: {error.strerror}",
            hint="choose another data folder, or make this one writable",
        ) from error
    try:
        connection = sqlite3.connect(spec.path)
        try:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise _translated(spec, error) from error
    if verdict != "ok":
        raise _damaged(spec, str(verdict))


async def _migrate(spec: DatabaseSpec) -> None:
    """Bring one file to the newest schema, or leave it as it was.

    Foreign keys are off meanwhile: SQLite alters a column by making the table anew, and dropping
    the old one would empty the tables that refer to it. They are checked before the commit.
    """
    context = TortoiseContext()
    config = _config([spec], foreign_keys="OFF")
    with context:
        try:
            await context.init(config)
            async with in_transaction(spec.app) as connection:
                executor = MigrationExecutor(connection, config["apps"])
                await _refuse_newer(spec, executor)
                await executor.migrate()
                await _restore_indexes(connection)
                await _check_foreign_keys(spec, connection)
        except (sqlite3.DatabaseError, BaseORMException) as error:
            raise _translated(spec, error) from error
        finally:
            await context.close_connections()


async def _refuse_newer(spec: DatabaseSpec, executor: MigrationExecutor) -> None:
    """:raises ConfigError: a migration was applied that this version doesn't have."""
    executor.loader.load_disk()
    unknown = set(await executor.recorder.applied_migrations()) - set(
        executor.loader.disk_migrations
    )
    if unknown:
        newest = max(key.name for key in unknown)
        raise ConfigError(
            f"{spec.path} was written by a newer version of dit4c-p2p (it has {newest})",
            hint="install that version again",
        )


async def _restore_indexes(connection: Any) -> None:
    """Make the indexes that the models declare and a rebuilt table has lost.

    What there should be is read off a database in memory, made from the models alone.
    """
    schema = connection.schema_generator(connection).get_create_schema_sql(safe=True)
    reference = sqlite3.connect(":memory:")
    try:
        for statement in statements(schema):
            reference.execute(statement)
        tables = [row[0] for row in reference.execute(_TABLES)]
        for table in tables:
            wanted = _indexes(reference.execute(_INDEXES, [table]).fetchall())
            rows = await connection.execute_query_dict(_INDEXES, [table])
            present = _indexes([tuple(row.values()) for row in rows])
            for unique, columns in sorted(wanted - present):
                kind, prefix = ("UNIQUE INDEX", "uid") if unique else ("INDEX", "idx")
                names = ", ".join(f'"{column}"' for column in columns)
                await connection.execute_query(
                    f'CREATE {kind} "{prefix}_{table}_{"_".join(columns)}" ON "{table}" ({names})'
                )
    finally:
        reference.close()


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_INDEXES = (
    'SELECT l.name AS name, l."unique" AS is_unique, i.seqno AS seqno, i.name AS column_name'
    " FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i ORDER BY l.name, i.seqno"
)


def _indexes(rows: Sequence[tuple[Any, ...]]) -> set[tuple[bool, tuple[str, ...]]]:
    """``{(unique, columns)}`` of the rows that :data:`_INDEXES` selects."""
    found: dict[str, tuple[bool, tuple[str, ...]]] = {}
    for name, unique, _, column in rows:
        found[name] = (bool(unique), (*found.get(name, (False, ()))[1], column))
    return set(found.values())


async def _check_foreign_keys(spec: DatabaseSpec, connection: Any) -> None:
    """:raises ConfigError: a row refers to one that is not there."""
    orphans = await connection.execute_query_dict("PRAGMA foreign_key_check")
    if orphans:
        raise _damaged(spec, f"{len(orphans)} rows of {orphans[0]['table']} refer to nothing")


def _translated(spec: DatabaseSpec, error: Exception) -> ConfigError:
    """What SQLite says, as a sentence with what to do."""
    text = str(error)
    if "locked" in text:
        return ConfigError(
            f"the {spec.app}'s database {spec.path} is in use by another process",
            hint="stop the other dit4c first",
        )
    if "readonly" in text or "unable to open" in text:
        return ConfigError(
            f"the {spec.app}'s database {spec.path} can't be written: {text}",
            hint="choose another data folder, or make this one writable",
        )
    if "full" in text:
        return ConfigError(
            f"no room for the {spec.app}'s database {spec.path}", hint="free some disk space"
        )
    if "malformed" in text or "not a database" in text:
        return _damaged(spec, text)
    return ConfigError(f"the {spec.app}'s database {spec.path} can't be brought up to date: {text}")


def _damaged(spec: DatabaseSpec, text: str) -> ConfigError:
    return ConfigError(
        f"the {spec.app}'s database {spec.path} is damaged: {text}",
        hint="put back a copy of it; the file was left as it is",
    )


async def missing_migrations(spec: DatabaseSpec) -> list[MigrationWriter]:
    """The migrations still to be written for what the models say; the file isn't opened."""
    config = _config([spec], foreign_keys="OFF")
    with TortoiseContext() as context:
        await context.init(config, init_connections=False)
        if context.apps is None:
            raise RuntimeError("Tortoise did not load the models")
        return await MigrationAutodetector(context.apps, config["apps"]).changes()


def _make_package(module: str) -> None:
    """Make the migrations' package if it is not there yet."""
    parent, _, name = module.rpartition(".")
    folder = Path(importlib.import_module(parent).__path__[0], name)
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    importlib.invalidate_caches()


async def _command(arguments: argparse.Namespace) -> int:
    spec = DatabaseSpec(arguments.app, Path(":memory:"))
    if arguments.verb == "makemigrations":
        _make_package(spec.migrations)
    writers = await missing_migrations(spec)
    if writers and arguments.verb == "check":
        print(f"{spec.app}: the models have changed, a migration is missing")
        return 1
    for writer in writers:
        if arguments.name:
            number = int(writer.name.split("_", 1)[0])
            writer.name = format_migration_name(number, arguments.name)
        print(writer.write())
    if not writers:
        print(f"{spec.app}: nothing to do")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m dit4c_p2p.database``, for whoever changes the models."""
    parser = argparse.ArgumentParser(prog="python -m dit4c_p2p.database")
    parser.add_argument("verb", choices=["makemigrations", "check"])
    parser.add_argument("app", help="the component: portal, scheduler")
    parser.add_argument("--name", help="what the migration is about, such as add_grants")
    return asyncio.run(_command(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
