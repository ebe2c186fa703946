"""Portal and scheduler as processes on a database that is not as it must be; on both engines.

Each time one line says what to do, the process ends with status 1, and nothing is half done.
"""

import asyncio
import contextlib
import os
import sqlite3
import subprocess

import asyncpg
import pytest
from lib.database_engines import OWN, connection
from lib.throwaway_component import first_release
from systems.all_in_one import dit4c
from systems.four_processes import ENDS_S, House
from systems.postgresql import name_of

from dit4c_p2p.database import databases
from dit4c_p2p.identity.keys import generate, public_line

pytestmark = pytest.mark.both_databases

# What each says once its database is open.
OPENED = {"portal": "portal-main is up", "scheduler": "the portal does not answer"}
# A row that each release has had, and what becomes of nothing.
ROW = {
    "portal": "INSERT INTO person (id, name, is_admin, created_at) VALUES ('ada', 'Ada', {}, 1)",
    "scheduler": "INSERT INTO incoming (message_id, at) VALUES ('m1', 4102444800)",
}
KEPT = {
    "portal": "SELECT name FROM person WHERE id = 'ada'",
    "scheduler": "SELECT message_id FROM incoming",
}


class Component:
    """One of the two: its file, its database, its process."""

    def __init__(self, house, kind, engine):
        self.house, self.kind, self.engine = house, kind, engine
        self.spec = engine.database(kind, house.data(kind))
        self.write(self.spec.location)

    def write(self, location):
        """Its file, with the database there."""
        place = f'database = "{location}"\n'
        if self.kind == "portal":
            self.house.write(
                "portal",
                f"""{place}
url = "{self.house.url}"
listen = ["127.0.0.1:{self.house.portal_port}"]
user_url = "http://{{id}}.localhost:{self.house.router_port}/"
routers = [{{id = "r1", ssh = ["127.0.0.1:{self.house.ssh_port}"], http = ["127.0.0.1:1"]}}]
""",
            )
        else:
            key = public_line(generate(), "portal-main")
            portal = f'portal = {{url = "{self.house.url}", key = "{key}"}}\n'
            self.house.write("scheduler", place + portal)

    def opens(self):
        """It can be run to where it has its database, and stopped."""
        before = self.log.count(OPENED[self.kind])
        self.house.start(self.kind)
        self.house.wait_said(self.kind, OPENED[self.kind], times=before + 1)
        assert self.house.stop(self.kind) == 0

    def refused(self, text):
        """It ends, and its last line has this text."""
        before = len(self.log)
        self.house.start(self.kind)
        assert self.house.ended(self.kind) == 1
        said = self.log[before:]
        last = said.splitlines()[-1]
        assert last.startswith("dit4c: ") and text in last, said
        assert "Traceback" not in said

    @property
    def log(self):
        path = self.house.log(self.kind)
        return path.read_text() if path.exists() else ""

    def sql(self, text):
        """Statements on the database, past the component."""
        if self.engine.is_postgresql:
            return self.engine.server.sql(text, name_of(self.spec.url))
        with contextlib.closing(sqlite3.connect(self.spec.path)) as file:
            found = ["|".join(map(str, row)) for row in file.execute(text)]
            file.commit()
            return found

    def dump(self):
        """All that is in the database."""
        if not self.engine.is_postgresql:
            with contextlib.closing(sqlite3.connect(self.spec.path)) as file:
                return list(file.iterdump())
        tables = self.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return [(name, self.sql(f'SELECT * FROM "{name}" ORDER BY 1')) for name in tables]


@pytest.fixture(params=list(OPENED))
def component(request, tmp_path, engine):
    house = House(tmp_path)
    yield Component(house, request.param, engine)
    house.stop_all()


@pytest.fixture
def elsewhere(tmp_path):
    """A house with other folders and ports."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    house = House(folder)
    yield house
    house.stop_all()


def test_written_by_a_newer_version(component):
    component.opens()
    component.sql(
        "INSERT INTO tortoise_migrations (app, name, applied_at)"
        f" VALUES ('{component.kind}', '0999_later', '2030-01-01')"
    )
    before = component.dump()
    component.refused("was written by a newer version of dit4c-p2p (it has 0999_later). Install")
    assert component.dump() == before


async def test_an_older_one_is_brought_up_to_date(component, tmp_path, monkeypatch, engine):
    if engine.is_postgresql:
        component.spec = type(component.spec)(component.kind, engine.server.create("older"))
        component.write(component.spec.location)
    else:
        component.spec.path.unlink()
    monkeypatch.syspath_prepend(tmp_path)
    async with databases([first_release(component.spec, tmp_path)]):
        row = ROW[component.kind].format("false" if engine.is_postgresql else 0)
        await connection(component.kind).execute_query(row)
    migrations = "SELECT count(*) FROM tortoise_migrations"
    assert component.sql(migrations) == ["1"]
    await asyncio.to_thread(component.opens)
    assert component.sql(KEPT[component.kind]) == ["Ada" if component.kind == "portal" else "m1"]
    assert int(component.sql(migrations)[0]) > 1
    if engine.is_postgresql:
        engine.server.drop(component.spec.url)


def test_damaged(component):
    component.opens()
    if component.engine.is_postgresql:
        if component.kind == "portal":
            component.sql("ALTER TABLE counter RENAME TO lost")
            component.refused('relation "counter" does not exist')
            component.sql("ALTER TABLE lost RENAME TO counter")
        component.sql("DROP TABLE tortoise_migrations")
        before = component.dump()
        component.refused("can't be brought up to date: relation")
        assert component.dump() == before
        return
    for left in component.spec.path.parent.glob("*.sqlite3-*"):
        left.unlink()
    content = bytearray(component.spec.path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    component.spec.path.write_bytes(content)
    component.refused("is damaged")
    assert component.spec.path.read_bytes() == content, "it was left as it is"
    component.spec.path.write_bytes(b"no database at all, " * 400)
    component.refused("is damaged")
    if component.kind == "portal":
        file = component.house.file("portal")
        for command in (("portal", "init"), ("login-link", "ada"), ("token", "list", "ada")):
            done = dit4c(*command, "--config", file)
            assert (done.returncode, done.stdout) == (1, "")
            assert "is damaged" in done.stderr and done.stderr.count("\n") == 1


async def test_locked_by_another_process(component):
    """On PostgreSQL it waits a minute for its turn, since another may be migrating."""
    await asyncio.to_thread(component.opens)
    if component.engine.is_postgresql:
        other = await asyncpg.connect(component.spec.url)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", 0x44495434)
            opening = asyncio.create_task(asyncio.to_thread(component.opens))
            async with asyncio.timeout(ENDS_S):
                while await other.fetchval(waiting) == 0:
                    await asyncio.sleep(0.05)
        await opening
        await other.close()
        return
    with contextlib.closing(sqlite3.connect(component.spec.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        await asyncio.to_thread(component.refused, "is in use by another process. Stop")
    await asyncio.to_thread(component.opens)


@pytest.fixture
def small(component, tmp_path):
    """A disk without room for the database; call it to have room."""
    if component.engine.is_postgresql:
        component.spec = type(component.spec)(
            component.kind, component.engine.server.create("small")
        )
        component.sql(NO_ROOM)
        component.write(component.spec.location)
        yield lambda: component.sql("DROP EVENT TRIGGER no_room")
        component.engine.server.drop(component.spec.url)
        return
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "none", folder], check=True)
    component.spec = type(component.spec)(component.kind, folder / "file.sqlite3")
    component.write(component.spec.location)
    yield lambda: subprocess.run(["mount", "-o", "remount,size=9m", folder], check=True)
    subprocess.run(["umount", folder], check=True)


# What the server says when its disk is full, to who makes a table.
NO_ROOM = """
CREATE FUNCTION no_room() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  IF (SELECT count(*) FROM pg_tables WHERE schemaname = 'public') > 2 THEN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
  END IF;
END $$;
CREATE EVENT TRIGGER no_room ON ddl_command_start EXECUTE FUNCTION no_room()
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a small disk")
def test_no_room(component, small):
    component.refused("no room for")
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    if not component.engine.is_postgresql:
        tables = "SELECT count(*) FROM sqlite_master"
    assert component.sql(tables) == ["0"], "all of the schema, or nothing"
    small()
    component.opens()


def test_a_second_process(component, elsewhere):
    component.house.start(component.kind)
    component.house.wait_said(component.kind, OPENED[component.kind])
    other = Component(elsewhere, component.kind, component.engine)
    other.spec = component.spec
    other.write(component.spec.location)
    other.refused(f"another process serves from {component.spec} already")
    if component.kind == "portal":
        for command in (("portal", "init"), ("login-link", "admin")):
            component.house.run(*command, "--config", component.house.file("portal"))
    assert component.house.stop(component.kind) == 0
    other.opens()


@pytest.mark.parametrize("engine", [OWN[1]], indirect=True)
def test_a_server_that_comes_up_later(component, engine):
    with engine.gone(component.spec):
        component.house.start(component.kind)
        component.house.wait_said(component.kind, "can't be reached")
        if component.kind == "portal":
            done = dit4c("portal", "init", "--config", component.house.file("portal"))
            assert done.returncode == 1
            assert "Is PostgreSQL running there" in done.stderr and done.stderr.count("\n") == 1
    component.house.wait_said(component.kind, OPENED[component.kind])
    assert component.house.stop(component.kind) == 0
    assert "waiting for it, 60 s at most" in component.log
