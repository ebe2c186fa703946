"""Tests that run on SQLite and on PostgreSQL (a plugin of pytest, see ``tests/conftest.py``).

A test that asks for ``engine``, or uses a fixture that does, runs on SQLite. With the marker
``both_databases`` it runs on PostgreSQL as well: tests of what may differ there, which is our
client and its errors, migrations, transactions side by side, searching and sorting, values that a
column refuses, and one test of each resource. All else is the same code above Tortoise.

Where its databases are a test learns from :func:`database`. A PostgreSQL server is started for the
first test that needs one and stopped at the end; each test has fresh databases, copied from a
migrated one of the same kind: migrating takes longer than most tests. A test that stops the server
needs one of its own::

    @pytest.mark.parametrize("engine", OWN, indirect=True)
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from systems.postgresql import Postgresql, name_of
from tortoise.connection import get_connections
from tortoise.exceptions import OperationalError

from dit4c_p2p.database import DatabaseSpec, in_transaction


class Engine:
    """SQLite: where the databases of one test are, and how to make them fail."""

    is_postgresql = False
    no_room_text = "database or disk is full"

    def database(self, app: str, folder: Path) -> DatabaseSpec:
        """The database of a component whose data folder this is: the same one each time."""
        path = folder / f"{app}.sqlite3"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(_migrated_file(app), path)
        return DatabaseSpec(app, path)

    @asynccontextmanager
    async def no_room(self, app: str) -> AsyncIterator[None]:
        """An open database can't grow meanwhile."""
        client = connection(app)
        (row,) = await client.execute_query_dict("PRAGMA page_count")
        await client.execute_query(f"PRAGMA max_page_count={row['page_count']}")
        try:
            yield
        finally:
            await client.execute_query("PRAGMA max_page_count=1000000")

    @contextmanager
    def gone(self, spec: DatabaseSpec) -> Iterator[None]:
        """An open database is not there meanwhile."""
        away = spec.path.with_name("away")
        spec.path.rename(away)
        try:
            yield
        finally:
            away.rename(spec.path)


class PostgresqlEngine(Engine):
    """Databases on the tests' server."""

    is_postgresql = True
    no_room_text = "No space left on device"

    def __init__(self, server: Postgresql, templates: dict[str, str]) -> None:
        self.server = server
        self._templates = templates
        self._urls: dict[tuple[str, Path], str] = {}

    def database(self, app: str, folder: Path) -> DatabaseSpec:
        key = app, folder
        if key not in self._urls:
            folder.mkdir(parents=True, exist_ok=True)
            self._urls[key] = self.server.create(app, self._template(app))
        return DatabaseSpec(app, self._urls[key])

    @asynccontextmanager
    async def no_room(self, app: str) -> AsyncIterator[None]:
        client = connection(app)
        await client.execute_script(_NO_ROOM)
        try:
            yield
        finally:
            await client.execute_script(_ROOM)

    @contextmanager
    def gone(self, spec: DatabaseSpec) -> Iterator[None]:
        """The whole server; it has to be the test's own."""
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    def _template(self, app: str) -> str:
        if app not in self._templates:
            url = self.server.create(f"{app}_template")
            _migrate(app, url)
            self._templates[app] = name_of(url)
        return self._templates[app]

    def drop(self) -> None:
        """Away with the databases."""
        for url in self._urls.values():
            self.server.drop(url)


@cache
def _template_folder() -> tempfile.TemporaryDirectory[str]:
    """Removed at the end of the process."""
    return tempfile.TemporaryDirectory(prefix="dit4c-test-databases-")


@cache
def _migrated_file(app: str) -> Path:
    """A SQLite database with the newest schema and nothing in it."""
    path = Path(_template_folder().name, f"{app}.sqlite3")
    _migrate(app, str(path))
    return path


def _migrate(app: str, url: str) -> None:
    subprocess.run([sys.executable, "-c", MIGRATE, app, url], check=True, timeout=60)


# A process of its own: in this one other databases may be open.
MIGRATE = """
import asyncio, sys
from pathlib import Path
from dit4c_p2p.database import DatabaseSpec, databases

async def main():
    app, place = sys.argv[1:]
    where = place if "://" in place else Path(place)
    async with databases([DatabaseSpec(app, where)]):
        pass

asyncio.run(main())
"""
# What the server says when its disk is full, at each row that is written.
_NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
DO $$ DECLARE t text; BEGIN
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON %I'
                   ' FOR EACH ROW EXECUTE FUNCTION no_room()', t);
  END LOOP;
END $$;
"""
_ROOM = "DROP FUNCTION no_room() CASCADE"

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
OWN = ["sqlite", pytest.param("own postgresql", marks=pytest.mark.postgresql)]

_current: Engine = Engine()
_templates: dict[str, str] = {}


def database(app: str, folder: Path) -> DatabaseSpec:
    """Where the running test's component with this data folder has its database."""
    return _current.database(app, folder)


def connection(app: str) -> Any:
    """Tortoise's client of an open database."""
    return get_connections().get(app)


@asynccontextmanager
async def commit_fails(app: str) -> AsyncIterator[Any]:
    """In the place of ``in_transaction``: a transaction that comes to its commit, which fails."""
    async with in_transaction(app) as client:
        yield client
        raise OperationalError("disk I/O error")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """The tests' server."""
    with Postgresql() as server:
        yield server
    _templates.clear()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test marked ``both_databases`` both."""
    if "engine" in metafunc.fixturenames and metafunc.definition.get_closest_marker(
        "both_databases"
    ):
        given = metafunc.definition.iter_markers("parametrize")
        if not any(marker.args[0] == "engine" for marker in given):
            metafunc.parametrize("engine", BOTH, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """SQLite, or what the test's parameter says."""
    global _current
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield _current
        return
    before = _current
    if kind == "own postgresql":
        with Postgresql() as server:
            _current = PostgresqlEngine(server, {})
            yield _current
    else:
        _current = on_server = PostgresqlEngine(request.getfixturevalue("postgresql"), _templates)
        yield on_server
        on_server.drop()
    _current = before
