"""A filled database of the first release comes out of every migration with all that was in it."""

import importlib
import inspect
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from lib.database_engines import connection
from lib.throwaway_component import FIRST, first_release
from systems.postgresql import name_of
from tortoise.models import Model

from dit4c_p2p.database import DatabaseSpec, databases

pytestmark = pytest.mark.both_databases

ROWS = (1, 2, 3)


@pytest.fixture(params=list(FIRST))
def app(request) -> str:
    return request.param


@pytest.fixture
def location(app, engine, tmp_path):
    """Where an empty database is."""
    if not engine.is_postgresql:
        yield tmp_path / f"{app}.sqlite3"
        return
    url = engine.server.create(app)
    yield url
    engine.server.drop(url)


@pytest.fixture
def first(app, location, tmp_path, monkeypatch) -> DatabaseSpec:
    """The database with no migration but the first."""
    monkeypatch.syspath_prepend(tmp_path)
    return first_release(DatabaseSpec(app, location), tmp_path)


async def columns(app: str, is_postgresql: bool) -> dict[str, dict[str, str]]:
    """Table → column → type."""
    if is_postgresql:
        query = (
            "SELECT table_name AS t, column_name AS c, data_type AS d"
            " FROM information_schema.columns WHERE table_schema = 'public'"
        )
    else:
        query = (
            "SELECT m.name AS t, c.name AS c, c.type AS d FROM sqlite_master AS m,"
            " pragma_table_info(m.name) AS c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
        )
    found: dict[str, dict[str, str]] = {}
    for row in await connection(app).execute_query_dict(query):
        if row["t"] != "tortoise_migrations":
            found.setdefault(row["t"], {})[row["c"]] = row["d"].upper()
    return found


def value(column: str, kind: str, row: int) -> object:
    """Something of the column's type; what refers to a person refers to one."""
    if column in ("person_id", "owner_id"):
        return f"id{row}"
    if "JSON" in kind:
        return json.dumps([f"router-{row}"])
    if "BOOL" in kind or (kind == "INT" and column.startswith(("is_", "discard_", "pod_"))):
        return row % 2 == 0
    if "CHAR" in kind or "TEXT" in kind:
        return f"{column[:8]}{row}"
    return row


async def fill(app: str, is_postgresql: bool) -> dict[str, list[dict]]:
    """Rows in every table; people first, to whom others refer."""
    tables = await columns(app, is_postgresql)
    filled: dict[str, list[dict]] = {}
    for table in sorted(tables, key=lambda name: (name != "person", name)):
        for row in ROWS:
            values = {name: value(name, kind, row) for name, kind in tables[table].items()}
            names = ", ".join(f'"{name}"' for name in values)
            marks = ", ".join(
                f"${place}" if is_postgresql else "?" for place in range(1, len(values) + 1)
            )
            await connection(app).execute_query(
                f'INSERT INTO "{table}" ({names}) VALUES ({marks})', list(values.values())
            )
            filled.setdefault(table, []).append(values)
    return filled


async def test_nothing_is_lost(app, first, engine, location):
    async with databases([first]):
        filled = await fill(app, engine.is_postgresql)
    assert all(len(rows) == len(ROWS) for rows in filled.values())
    async with databases([DatabaseSpec(app, location)]):
        for table, rows in filled.items():
            found = await connection(app).execute_query_dict(f'SELECT * FROM "{table}"')
            assert len(found) == len(rows), table
            for row in rows:
                assert any(row.items() <= other.items() for other in found), (table, row)
        for model in models(app):
            was_there = model._meta.db_table in filled
            assert await model.all().count() == (len(ROWS) if was_there else 0)


async def test_what_comes_out_is_what_an_empty_one_becomes(app, first, engine, location):
    async with databases([first]):
        await fill(app, engine.is_postgresql)
    async with databases([DatabaseSpec(app, location)]):
        migrated = await columns(app, engine.is_postgresql), indexes(engine, location)
    place = engine.server.create(app) if engine.is_postgresql else Path(f"{location}.new")
    async with databases([DatabaseSpec(app, place)]):
        assert (await columns(app, engine.is_postgresql), indexes(engine, place)) == migrated
    if engine.is_postgresql:
        engine.server.drop(place)


def indexes(engine, location) -> list[tuple]:
    """Every index and constraint, whatever it is called."""
    if engine.is_postgresql:
        return engine.server.sql(
            "SELECT indrelid::regclass, indisunique, array_to_string(ARRAY(SELECT attname FROM"
            " pg_attribute WHERE attrelid = indrelid AND attnum = ANY(indkey) ORDER BY attnum),',')"
            " FROM pg_index WHERE indrelid::regclass::text !~ '^pg_' ORDER BY 1, 2, 3",
            name_of(location),
        ) + engine.server.sql(
            "SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid <> 0 ORDER BY 1, 2",
            name_of(location),
        )
    with closing(sqlite3.connect(location)) as file:
        return sorted(
            file.execute(
                'SELECT m.name, l."unique", (SELECT group_concat(name) FROM'
                " pragma_index_info(l.name)) FROM sqlite_master AS m, pragma_index_list(m.name)"
                " AS l WHERE m.type = 'table'"
            ).fetchall()
        )


def models(app: str) -> list[type[Model]]:
    module = importlib.import_module(f"dit4c_p2p.{app}.models")
    return [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Model) and member is not Model and not member._meta.abstract
    ]
