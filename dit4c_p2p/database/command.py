"""``python -m dit4c_p2p.database``, for whoever changes the models."""

import argparse
import asyncio
import importlib
from collections.abc import Sequence
from pathlib import Path

from tortoise.migrations.writer import format_migration_name

from dit4c_p2p.database.opening import missing_migrations
from dit4c_p2p.database.spec import DatabaseSpec


def make_migrations_package(module: str) -> None:
    """Make the migrations' package if it is not there yet."""
    parent, _, name = module.rpartition(".")
    folder = Path(importlib.import_module(parent).__path__[0], name)
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    importlib.invalidate_caches()


async def _migrations_command(arguments: argparse.Namespace) -> int:
    spec = DatabaseSpec(arguments.app, Path(":memory:"))
    if arguments.verb == "makemigrations":
        make_migrations_package(spec.migrations)
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
    """Write the migrations that are missing, or say whether one is."""
    parser = argparse.ArgumentParser(prog="python -m dit4c_p2p.database")
    parser.add_argument("verb", choices=["makemigrations", "check"])
    parser.add_argument("app", help="the component: portal, scheduler")
    parser.add_argument("--name", help="what the migration is about, such as add_grants")
    return asyncio.run(_migrations_command(parser.parse_args(argv)))
