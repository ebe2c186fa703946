"""Opening and migrating databases on a PostgreSQL server, and what can be wrong with one."""

import asyncio
import sys

import asyncpg
import pytest
from lib.database_engines import MIGRATE, connection
from lib.throwaway_component import MODELS_1, MODELS_2, model
from systems.all_in_one import free_ports
from systems.postgresql import name_of
from tortoise.exceptions import IntegrityError, OperationalError

from dit4c_p2p.database import DatabaseSpec, databases, in_transaction
from dit4c_p2p.errors import ConfigError

pytestmark = pytest.mark.postgresql


@pytest.fixture
def empty(postgresql):
    """The URL of an empty database."""
    url = postgresql.create("empty")
    yield url
    postgresql.drop(url)


@pytest.fixture
async def app(project):
    """A throw-away component with its first release."""
    made = project("grown")
    await made.release(MODELS_1)
    return made


async def refused(spec) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        async with databases([spec]):
            pytest.fail("opened")
    assert "\n" not in caught.value.one_line()
    return caught.value


async def test_it_is_migrated_and_keeps_what_is_there(app, empty):
    async with databases([app.spec(empty)]):
        parent = await model(app, "Parent").create(name="a", colour="red")
        await model(app, "Child").create(parent=parent)
    await app.release(MODELS_2)
    async with databases([app.spec(empty)]):
        assert [row.colour for row in await model(app, "Parent").all()] == ["red"]
        assert await model(app, "Child").all().count() == 1
        await model(app, "Parent").create(name="b", colour="x" * 40)
        with pytest.raises(IntegrityError):
            await model(app, "Parent").create(name="a", colour="blue")
        with pytest.raises(IntegrityError):
            await model(app, "Child").create(parent_id=99)


async def test_a_migration_that_fails_leaves_everything_as_it_was(app, empty, postgresql):
    async with databases([app.spec(empty)]):
        await model(app, "Parent").create(name="a")
    columns = (
        "SELECT table_name, column_name, character_maximum_length"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    before = postgresql.sql(columns, name_of(empty))
    await app.release(MODELS_2)
    newest = max((app.folder / "migrations").glob("0*.py"))
    text = newest.read_text()
    head, _, tail = text.rpartition("]")
    newest.write_text(f"{head}    ops.RunSQL('SELECT * FROM nothing_like_it'),\n    ]{tail}")
    app.forget()
    assert "can't be brought up to date" in str(await refused(app.spec(empty)))
    assert postgresql.sql(columns, name_of(empty)) == before
    newest.write_text(text)
    app.forget()
    async with databases([app.spec(empty)]):
        assert await model(app, "Parent").all().count() == 1


async def test_of_several_that_migrate_at_once_one_does(empty):
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MIGRATE, "portal", empty), stderr=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = await asyncio.wait_for(asyncio.gather(*(each.communicate() for each in processes)), 60)
    assert [each.returncode for each in processes] == [0] * 4, said


async def test_written_by_a_newer_version(app, empty, postgresql):
    async with databases([app.spec(empty)]):
        pass
    postgresql.sql(
        "INSERT INTO tortoise_migrations (app, name, applied_at)"
        " VALUES ('grown', '0009_x', '2030-01-01')",
        name_of(empty),
    )
    assert "newer version of dit4c-p2p (it has 0009_x)" in str(await refused(app.spec(empty)))


async def test_another_components_database(app, project, empty):
    async with databases([app.spec(empty)]):
        pass
    other = project("other")
    await other.release(MODELS_1)
    assert "is the grown's already" in str(await refused(other.spec(empty)))


async def test_no_server(app, tmp_path):
    (port,) = free_ports(1)
    for url in (f"postgres://ada:geheim@127.0.0.1:{port}/x", f"postgres://ada@/x?host={tmp_path}"):
        error = await refused(app.spec(url))
        assert "can't be reached" in str(error)
        assert "geheim" not in error.one_line()


async def test_a_server_without_a_certificate_on_another_machine(app, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    error = await refused(app.spec("postgres://ada@192.0.2.1/x"))
    assert "sslrootcert" in error.hint


async def test_no_database_and_no_right_to_it(app, empty, postgresql):
    assert "is not there" in str(await refused(app.spec(postgresql.url("nothing_like_it"))))
    assert "does not let us in" in str(
        await refused(app.spec(empty.replace("postgres@", "nobody_like_it@")))
    )
    postgresql.sql("CREATE ROLE guest LOGIN")
    try:
        error = await refused(app.spec(empty.replace("postgres@", "guest@")))
    finally:
        postgresql.sql("DROP ROLE guest")
    assert "not ours to write" in str(error)
    assert "owner" in error.hint


async def test_in_use_by_one_that_does_not_end(app, empty, monkeypatch):
    monkeypatch.setattr("dit4c_p2p.database.postgresql._MIGRATION_LOCK_S", 0.1)
    other = await asyncpg.connect(empty)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", 0x44495434)
        assert "in use by another process" in str(await refused(app.spec(empty)))
    await other.close()


async def test_a_transaction_is_all_or_nothing_and_gives_back_what_it_took(app, empty):
    async with databases([app.spec(empty)]):
        parent = model(app, "Parent")
        for _ in range(30):
            with pytest.raises(ZeroDivisionError):
                async with in_transaction("grown"):
                    await parent.create(name="a")
                    raise ZeroDivisionError
        assert await parent.all().count() == 0
        async with in_transaction("grown"):
            with pytest.raises(ZeroDivisionError):
                async with in_transaction("grown"):
                    await parent.create(name="inner")
                    raise ZeroDivisionError
            await parent.create(name="outer")
        assert [row.name for row in await parent.all()] == ["outer"]


async def test_given_up_in_the_middle_the_next_one_begins(app, empty):
    async with databases([app.spec(empty)]):
        parent, began = model(app, "Parent"), asyncio.Event()

        async def hang() -> None:
            async with in_transaction("grown"):
                await parent.create(name="a")
                began.set()
                await connection("grown").execute_query("SELECT pg_sleep(60)")

        hanging = asyncio.create_task(hang())
        await began.wait()
        waiting = [asyncio.create_task(hang()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in (*waiting, hanging):
            task.cancel()
        await asyncio.gather(*waiting, hanging, return_exceptions=True)
        async with asyncio.timeout(5):
            async with in_transaction("grown"):
                assert await parent.all().count() == 0


async def test_a_line_that_breaks_in_a_transaction_undoes_it(app, empty, postgresql):
    async with databases([app.spec(empty)]):
        parent = model(app, "Parent")
        with pytest.raises(OperationalError):
            async with in_transaction("grown"):
                await parent.create(name="a")
                postgresql.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE datname = '{name_of(empty)}'"
                )
                await parent.create(name="b")
        assert await parent.all().count() == 0, "and there is a new line"
        async with in_transaction("grown"):
            await parent.create(name="c")
        assert await parent.all().count() == 1


async def test_two_components_with_a_database_each(project, empty, postgresql):
    first, second = project("first"), project("second")
    await first.release(MODELS_1)
    await second.release(MODELS_1)
    url = postgresql.create("second")
    async with databases([first.spec(empty), second.spec(url)]):
        async with in_transaction("first"), in_transaction("second"):
            await model(first, "Parent").create(name="a")
            await model(second, "Parent").create(name="b")
        assert [row.name for row in await model(second, "Parent").all()] == ["b"]
    postgresql.drop(url)


async def test_a_database_on_a_server_beside_a_file(app, project, empty, tmp_path):
    filed = project("filed")
    await filed.release(MODELS_1)
    async with databases([app.spec(empty), filed.spec(tmp_path / "filed.sqlite3")]):
        await model(app, "Parent").create(name="a")
        await model(filed, "Parent").create(name="b")
    assert DatabaseSpec("filed", tmp_path / "filed.sqlite3").path.exists()
