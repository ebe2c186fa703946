"""Tests that run on SQLite and on PostgreSQL. In a ``conftest.py``::

    from support.engines import engine, postgresql  # noqa: F401

and every test that asks for ``engine``, or uses a fixture that does, runs twice. Where its
databases are it learns from :func:`database`. A PostgreSQL server is started for the first test
that needs one and stopped at the end; each test has fresh databases, copied from a migrated one.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgresql import Postgresql, name_of

from dit4c_p2p.database import DatabaseSpec


class Engine:
    """Where the databases of one test are."""

    is_postgresql = False

    def database(self, app: str, folder: Path) -> DatabaseSpec:
        """The database of a component whose data folder this is: the same one each time."""
        return DatabaseSpec(app, folder / f"{app}.sqlite3")


class PostgresqlEngine(Engine):
    """Databases on the tests' server."""

    is_postgresql = True

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

    def _template(self, app: str) -> str:
        if app not in self._templates:
            url = self.server.create(f"{app}_template")
            subprocess.run([sys.executable, "-c", _MIGRATE, app, url], check=True, timeout=60)
            self._templates[app] = name_of(url)
        return self._templates[app]

    def drop(self) -> None:
        for url in self._urls.values():
            self.server.drop(url)


_current: Engine = Engine()
_templates: dict[str, str] = {}


def database(app: str, folder: Path) -> DatabaseSpec:
    """Where the running test's component with this data folder has its database."""
    return _current.database(app, folder)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """The tests' server."""
    with Postgresql() as server:
        yield server
    _templates.clear()


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)],
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """SQLite, then PostgreSQL."""
    global _current
    before = _current
    if request.param == "sqlite":
        _current = Engine()
        yield _current
    else:
        _current = on_server = PostgresqlEngine(request.getfixturevalue("postgresql"), _templates)
        yield on_server
        on_server.drop()
    _current = before


# A process of its own: in this one other databases may be open.
_MIGRATE = """
import asyncio, sys
from dit4c_p2p.database import DatabaseSpec, databases

async def main():
    async with databases([DatabaseSpec(sys.argv[1], sys.argv[2])]):
        pass

asyncio.run(main())
"""
