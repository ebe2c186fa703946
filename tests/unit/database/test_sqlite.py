"""Opening, migrating and protecting the components' databases."""

import asyncio
import shutil
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from lib.throwaway_component import MODELS_1, MODELS_2, model
from tortoise.exceptions import IntegrityError, OperationalError

from dit4c_p2p.database import databases, in_transaction, once_committed, sqlite
from dit4c_p2p.database.command import main as database_command
from dit4c_p2p.errors import ConfigError


def rows(path: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_two_apps_have_each_their_own_file(project, tmp_path):
    first, second = project("first"), project("second")
    await first.release(MODELS_1)
    await second.release(MODELS_1)
    paths = tmp_path / "d1" / "first.sqlite3", tmp_path / "d2" / "second.sqlite3"
    async with databases([first.spec(paths[0]), second.spec(paths[1])]):
        await model(first, "Parent").create(name="a")
        async with in_transaction("second"):
            await model(second, "Parent").create(name="b")
    assert rows(paths[0], "SELECT name FROM parent") == [("a",)]
    assert rows(paths[1], "SELECT name FROM parent") == [("b",)]
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(paths[0].parent.stat().st_mode) == 0o700
    assert not list(tmp_path.glob("d*/*-wal")), "the connection was closed"


async def test_opened_again_it_has_its_rows_and_pragmas(project, tmp_path):
    app = project("again")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "again.sqlite3")
    async with databases([spec]):
        await model(app, "Parent").create(name="a")
    async with databases([spec]):
        parent = model(app, "Parent")
        assert [row.name for row in await parent.all()] == ["a"]
        connection = parent._meta.db
        for pragma, value in {"foreign_keys": 1, "synchronous": 2, "journal_mode": "wal"}.items():
            (row,) = await connection.execute_query_dict(f"PRAGMA {pragma}")
            assert row[pragma] == value
        with pytest.raises(IntegrityError):
            await model(app, "Child").create(parent_id=99)


async def test_a_filled_database_of_an_earlier_release_keeps_rows_children_and_indexes(
    project, tmp_path
):
    app = project("grown")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "grown.sqlite3")
    async with databases([spec]):
        parent = await model(app, "Parent").create(name="a", colour="red")
        await model(app, "Child").create(parent=parent)
    before = index_columns(spec.path)
    await app.release(MODELS_2)
    assert len(list((app.folder / "migrations").glob("0*.py"))) == 2
    async with databases([spec]):
        assert await model(app, "Parent").all().count() == 1
        assert await model(app, "Child").all().count() == 1
        with pytest.raises(IntegrityError):
            await model(app, "Parent").create(name="a", colour="blue")
    assert index_columns(spec.path) == before
    schema = [sql for (sql,) in rows(spec.path, "SELECT sql FROM sqlite_master") if sql]
    assert any("VARCHAR(40)" in sql for sql in schema)


def index_columns(path: Path) -> set[tuple[int, str]]:
    return set(
        rows(
            path,
            'SELECT l."unique", (SELECT group_concat(name) FROM pragma_index_info(l.name))'
            " FROM pragma_index_list('parent') AS l",
        )
    )


async def test_a_migration_that_fails_leaves_the_file_as_it_was(project, tmp_path):
    app = project("failing")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "failing.sqlite3")
    async with databases([spec]):
        await model(app, "Parent").create(name="a")
    schema = rows(spec.path, "SELECT sql FROM sqlite_master ORDER BY name")
    await app.release(MODELS_2)
    newest = max((app.folder / "migrations").glob("0*.py"))
    text = newest.read_text()
    head, _, tail = text.rpartition("]")
    newest.write_text(f"{head}    ops.RunSQL('SELECT * FROM nothing_like_it'),\n    ]{tail}")
    app.forget()
    with pytest.raises(ConfigError, match="can't be brought up to date"):
        async with databases([spec]):
            pytest.fail("opened")
    assert rows(spec.path, "SELECT sql FROM sqlite_master ORDER BY name") == schema
    newest.write_text(text)
    app.forget()
    async with databases([spec]):
        assert await model(app, "Parent").all().count() == 1


async def test_a_transaction_is_all_or_nothing_and_gives_its_lock_back(project, tmp_path):
    app = project("atomic")
    await app.release(MODELS_1)
    async with databases([app.spec(tmp_path / "atomic.sqlite3")]):
        parent = model(app, "Parent")
        with pytest.raises(ZeroDivisionError):
            async with in_transaction("atomic"):
                await parent.create(name="a")
                raise ZeroDivisionError
        assert await parent.all().count() == 0

        other = sqlite3.connect(tmp_path / "atomic.sqlite3")
        other.execute("BEGIN IMMEDIATE")
        await parent._meta.db.execute_query("PRAGMA busy_timeout=10")
        with pytest.raises(Exception, match="locked"):
            async with in_transaction("atomic"):
                pytest.fail("began although another process writes")
        other.rollback()
        other.close()

        async def add(number: int) -> None:
            async with in_transaction("atomic"):
                count = await parent.all().count()
                await parent.create(name=f"{number}-{count}")

        await asyncio.wait_for(asyncio.gather(*(add(number) for number in range(5))), 10)
        names = {row.name.split("-")[1] for row in await parent.all()}
        assert names == {"0", "1", "2", "3", "4"}


async def test_what_is_told_once_committed_is_told_then_and_only_then(project, tmp_path):
    app = project("told")
    await app.release(MODELS_1)
    told: list[str] = []
    once_committed(told.append, "outside")
    assert told == ["outside"]
    async with databases([app.spec(tmp_path / "told.sqlite3")]):
        async with in_transaction("told"):
            once_committed(told.append, "first")
            async with in_transaction("told"):
                once_committed(told.append, "within")
            with pytest.raises(ZeroDivisionError):
                async with in_transaction("told"):
                    once_committed(told.append, "undone")
                    raise ZeroDivisionError
            once_committed(told.append, "last")
            assert told == ["outside"]
        assert told == ["outside", "first", "within", "last"]
        with pytest.raises(ZeroDivisionError):
            async with in_transaction("told"):
                async with in_transaction("told"):
                    once_committed(told.append, "undone with what is around it")
                raise ZeroDivisionError
        once_committed(told.append, "after")
        assert told[3:] == ["last", "after"]


async def test_written_by_a_newer_version(project, tmp_path):
    app = project("newer")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "newer.sqlite3")
    async with databases([spec]):
        pass
    connection = sqlite3.connect(spec.path)
    connection.execute(
        "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('newer', '0009_x', '2030')"
    )
    connection.commit()
    connection.close()
    with pytest.raises(ConfigError, match=r"newer version.*0009_x"):
        async with databases([spec]):
            pytest.fail("opened")


async def test_damaged_file(project, tmp_path):
    app = project("damaged")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "damaged.sqlite3")
    spec.path.write_bytes(b"this is no database, " * 400)
    with pytest.raises(ConfigError, match="damaged"):
        async with databases([spec]):
            pytest.fail("opened")


@pytest.mark.parametrize("empty", [False, True], ids=["no file", "an empty file"])
async def test_one_that_is_lost_is_not_made_anew(project, tmp_path, empty):
    app = project("lost")
    await app.release(MODELS_1)
    trace = tmp_path / "acts"
    spec = replace(app.spec(tmp_path / "lost.sqlite3"), trace=trace)
    trace.touch()
    async with databases([spec]):
        await model(app, "Parent").create(name="a")
    trace.write_text("somebody did something")
    kept = spec.path.rename(tmp_path / "kept")
    if empty:
        spec.path.touch()
    with pytest.raises(ConfigError, match="is not there, and there was one before") as caught:
        async with databases([spec]):
            pytest.fail("opened")
    assert f"move {trace} away" in caught.value.hint
    assert spec.path.exists() is empty
    kept.replace(spec.path)
    async with databases([spec]):
        assert [row.name for row in await model(app, "Parent").all()] == ["a"]
    spec.path.unlink()
    trace.unlink()
    async with databases([spec]):
        assert await model(app, "Parent").all() == []


async def test_folder_that_can_not_be_written(project, tmp_path):
    app = project("folder")
    await app.release(MODELS_1)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be written") as caught:
        async with databases([app.spec(tmp_path / "file" / "x.sqlite3")]):
            pytest.fail("opened")
    assert "data folder" in caught.value.hint


async def test_locked_by_another_process(project, tmp_path, monkeypatch):
    app = project("locked")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "locked.sqlite3")
    async with databases([spec]):
        pass
    monkeypatch.setitem(sqlite.PRAGMAS, "busy_timeout", 50)
    other = sqlite3.connect(spec.path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigError, match="in use by another process"):
        async with databases([spec]):
            pytest.fail("opened")
    other.close()


async def test_moved_away_while_it_is_open_nothing_is_confirmed_until_it_is_back(project, tmp_path):
    app = project("moved")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "moved.sqlite3")
    away = tmp_path / "away"
    async with databases([spec]):
        parent = model(app, "Parent")
        await parent.create(name="before")
        with pytest.raises(OperationalError, match="has been moved or removed: put"):
            async with in_transaction("moved"):
                await parent.create(name="lost")
                spec.path.rename(away)
        for attempt in (parent.all, lambda: parent.create(name="lost too")):
            with pytest.raises(OperationalError, match=str(spec.path)):
                await attempt()
        with pytest.raises(OperationalError, match="has been moved"):
            async with in_transaction("moved"):
                pytest.fail("began")
        shutil.copy(away, spec.path)
        with pytest.raises(OperationalError, match="has been moved"):
            await parent.all()
        away.rename(spec.path)
        await parent.create(name="after")
    assert rows(spec.path, "SELECT name FROM parent ORDER BY id") == [("before",), ("after",)]


async def test_once_at_a_time(project, tmp_path):
    app = project("once")
    await app.release(MODELS_1)
    spec = app.spec(tmp_path / "once.sqlite3")
    async with databases([spec]):
        with pytest.raises(RuntimeError):
            async with databases([spec]):
                pytest.fail("opened twice")
        assert await model(app, "Parent").all().count() == 0


def test_the_command_says_what_to_do(capsys):
    with pytest.raises(SystemExit):
        database_command(["--help"])
    assert "makemigrations" in capsys.readouterr().out
