"""security.md section 5, disk full when a database is opened: a clear error, nothing corrupt, and
on when there is room."""

import sqlite3

import pytest
from lib.throwaway_component import MODELS_1, MODELS_2, model
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.database import databases, serving
from dit4c_p2p.errors import ConfigError

pytestmark = ONLY_ROOT


@pytest.fixture
def disk(tmp_path):
    with SmallDisk(tmp_path / "small", size="1m") as disk:
        yield disk


async def is_refused(spec, opened=databases):
    with pytest.raises(ConfigError) as caught:
        async with opened([spec]):
            pytest.fail("opened")
    assert str(caught.value) == f"no room for {spec}"
    assert caught.value.hint == "make room on its disk, and try again"


@pytest.mark.parametrize("files", [False, True], ids=["no byte", "no byte and no file"])
async def test_one_that_is_there_is_left_as_it_was(project, disk, files):
    app = project(f"there{files}")
    await app.release(MODELS_1)
    spec = app.spec(disk.folder / "app.sqlite3")
    async with databases([spec]):
        await model(app, "Parent").create(name="a")
    disk.fill(files=files)
    await is_refused(spec)
    await is_refused(spec)
    disk.make_room()
    async with databases([spec]):
        assert [row.name for row in await model(app, "Parent").all()] == ["a"]


@pytest.mark.parametrize("opened", [databases, serving])
async def test_a_new_one_that_can_have_no_file_is_made_when_there_is_room(project, disk, opened):
    app = project(f"new{opened.__name__}")
    await app.release(MODELS_1)
    spec = app.spec(disk.folder / "app.sqlite3")
    disk.fill()
    await is_refused(spec, opened)
    disk.make_room()
    async with opened([spec]):
        assert await model(app, "Parent").all() == []


async def test_a_migration_that_finds_no_room_changes_nothing(project, disk):
    app = project("migrated")
    await app.release(MODELS_1)
    spec = app.spec(disk.folder / "app.sqlite3")
    async with databases([spec]):
        await model(app, "Parent").create(name="a")
    await app.release(MODELS_2)
    before = schema(spec)
    # Enough to open it, and not for what changes.
    disk.fill(leaving=40 * 1024)
    await is_refused(spec)
    assert schema(spec) == before
    disk.make_room()
    async with databases([spec]):
        assert await model(app, "Parent").all().count() == 1
    assert schema(spec) != before


def schema(spec):
    connection = sqlite3.connect(spec.path)
    try:
        return connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    finally:
        connection.close()
