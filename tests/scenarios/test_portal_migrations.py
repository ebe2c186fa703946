"""A filled database of an earlier release is brought to the newest form, and nothing is lost."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from lib.database_engines import connection
from tortoise.fields import Field

from dit4c_p2p.database import DatabaseSpec, databases
from dit4c_p2p.portal import migrations, models
from dit4c_p2p.portal.models import ApiToken, Instance, LoginLink, Model, Person, Session, Tool

pytestmark = pytest.mark.both_databases

FIRST = "0001_first"
BEFORE_TOOLS = "0003_images_by_reference"


def as_of(
    newest: str, spec: DatabaseSpec, folder: Path, monkeypatch, without: str = ""
) -> DatabaseSpec:
    """The same database as an earlier release made it: its own migrations and nothing after."""
    package = folder / f"until_{newest}"
    package.mkdir()
    (package / "__init__.py").touch()
    for source in Path(migrations.__file__).parent.glob("0*.py"):
        if source.stem <= newest and source.stem != without:
            shutil.copy(source, package)
    monkeypatch.syspath_prepend(folder)
    return replace(spec, migrations_module=package.name)


async def first_release(path: Path, folder: Path, monkeypatch) -> DatabaseSpec:
    """A database as the first release made it."""
    spec = DatabaseSpec("portal", path)
    async with databases([as_of(FIRST, spec, folder, monkeypatch)]):
        pass
    return spec


def fill(path: Path) -> dict[str, list[dict]]:
    """Two rows in every table; what they are, by table."""
    filled = {}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for table in tables(connection):
            columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
            for row in (1, 2):
                values = {name: value(name, kind, row) for _, name, kind, *_ in columns}
                marks = ", ".join("?" * len(values))
                names = ", ".join(f'"{name}"' for name in values)
                connection.execute(
                    f'INSERT INTO "{table}" ({names}) VALUES ({marks})', list(values.values())
                )
                filled.setdefault(table, []).append(values)
    return filled


def value(name: str, kind: str, row: int):
    """Something of the column's type; what refers to a person refers to one."""
    if name in ("person_id", "owner_id"):
        return f"id{row}"
    if name == "answers_on":
        return '["router-main"]'
    if "CHAR" in kind or "TEXT" in kind:
        return f"{name}{row}"
    if "JSON" in kind:
        return "[]"
    return row


def tables(connection) -> list[str]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    ours = {
        model._meta.db_table
        for model in vars(models).values()
        if isinstance(model, type) and issubclass(model, Model) and model is not Model
    }
    return sorted(name for (name,) in names if name in ours)


async def test_a_filled_database_of_the_first_release_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "portal.sqlite3"
    spec = await first_release(path, tmp_path, monkeypatch)
    filled = fill(path)
    assert len(filled) >= 15
    async with databases([spec]):
        assert [person.id for person in await Person.all().order_by("id")] == ["id1", "id2"]
        one = await Instance.get(id="id1").prefetch_related("owner")
        assert (one.owner.name, one.answers_on) == ("name1", ["router-main"])
        person = await Person.get(id="id1")
        assert (person.ends_at, person.disabled_at) == (None, None), "as before: in force"
        token = await ApiToken.get(person_id="id1")
        assert (token.expires_at, token.ended_at) == (None, None)
        assert token.scopes == "admin instances:read instances:write"
        session = await Session.get(person_id="id1")
        assert (session.browser, session.ended_at) == ("", None)
        assert await LoginLink.all().count() == 2
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for table, rows in filled.items():
            kept = [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
            for row in rows:
                assert any(row.items() <= other.items() for other in kept), (table, row)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.fixture
def empty(engine, tmp_path):
    """An empty database."""
    if not engine.is_postgresql:
        yield DatabaseSpec("portal", tmp_path / "portal.sqlite3")
        return
    url = engine.server.create("portal")
    yield DatabaseSpec("portal", url)
    engine.server.drop(url)


async def test_tools_are_added_to_a_database_of_the_release_before(empty, tmp_path, monkeypatch):
    row = {
        "name": "Mine",
        "image_name": "jupyterlab",
        "image": f"registry.example.org/lab@sha256:{'0' * 64}",
        "scheduler": "main",
        "key_nonce": "n",
        "state": "running",
        "info": "Ready to use.",
        "sequence": 3,
        "log_tail": "",
        "answers_on": ["router-main"],
        "created_at": 1.0,
        "changed_at": 2.0,
    }
    async with databases([as_of(BEFORE_TOOLS, empty, tmp_path, monkeypatch)]):
        # The models of today have columns that this release did not have.
        old = connection("portal")
        await old.execute_script(
            "INSERT INTO person (id, name, is_admin, created_at) VALUES ('ada', 'Ada', true, 1.0)"
        )
        columns = {
            "id": "a1",
            "owner_id": "ada",
            **row,
            "answers_on": json.dumps(row["answers_on"]),
        }
        values = ", ".join(
            f"'{one}'" if isinstance(one, str) else str(one) for one in columns.values()
        )
        await old.execute_script(f"INSERT INTO instance ({', '.join(columns)}) VALUES ({values})")
    for _ in ("migrated", "opened again"):
        async with databases([empty]):
            one = await Instance.get(id="a1").prefetch_related("owner")
            assert {name: getattr(one, name) for name in row} == row
            assert one.owner.name == "Ada"
            assert await Tool.all().count() == 0
    async with databases([empty]):
        fields = {"title": "R", "description": "", "icon": "", "image": "i", "added_by": "ada"}
        await Tool.create(name="r", added_at=3.0, **fields)
        assert (await Tool.get(name="r")).withdrawn_at is None


def schema(path: Path) -> set[tuple]:
    """Every column, and what every index is of: the names of indexes depend on the way there."""
    with closing(sqlite3.connect(path)) as opened:
        made = opened.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
        columns = {
            (table, *row[1:])
            for kind, name, table in made
            if kind == "table"
            for row in opened.execute(f'PRAGMA table_xinfo("{name}")')
        }
        indexes = {
            (table, *(row[2] for row in opened.execute(f'PRAGMA index_info("{name}")')))
            for kind, name, table in made
            if kind == "index"
        }
    return columns | indexes


async def test_migrations_of_one_number_may_be_applied_in_any_order(tmp_path, monkeypatch):
    """What was applied is known by its whole name, and what comes after depends on both."""
    fresh = tmp_path / "fresh.sqlite3"
    async with databases([DatabaseSpec("portal", fresh)]):
        pass
    path = tmp_path / "portal.sqlite3"
    spec = DatabaseSpec("portal", path)
    for newest, missing in (("0009_login", ""), ("0016_ran", "0016_instances_by_state")):
        async with databases([as_of(newest, spec, tmp_path, monkeypatch, without=missing)]):
            pass
    async with databases([spec]):
        pass
    assert schema(path) == schema(fresh)


async def test_every_column_of_the_models_is_there(tmp_path, monkeypatch):
    path = tmp_path / "portal.sqlite3"
    spec = await first_release(path, tmp_path, monkeypatch)
    async with databases([spec]):
        for model in vars(models).values():
            if isinstance(model, type) and issubclass(model, Model) and model is not Model:
                assert isinstance(model._meta.pk, Field)
                assert await model.all().count() == 0
