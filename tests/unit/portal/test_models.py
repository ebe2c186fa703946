"""The portal's tables come out of its migrations, on an empty file and on one that is there."""

import pytest

from dit4c_p2p.database import DatabaseSpec, databases, in_transaction, missing_migrations
from dit4c_p2p.portal import models
from dit4c_p2p.portal.models import Instance, Model, Person

pytestmark = pytest.mark.both_databases


async def test_no_migration_is_missing(tmp_path):
    assert await missing_migrations(DatabaseSpec("portal", tmp_path / "portal.sqlite3")) == []


async def test_an_empty_file_becomes_a_database(tmp_path, engine):
    spec = engine.database("portal", tmp_path)
    async with databases([spec]):
        for name in dir(models):
            model = getattr(models, name)
            if isinstance(model, type) and issubclass(model, Model) and model is not Model:
                assert await model.all().count() == 0
        async with in_transaction("portal") as connection:
            if not engine.is_postgresql:
                (found,) = await connection.execute_query_dict("PRAGMA synchronous")
                assert found["synchronous"] == 2, "FULL: a commit outlives a power cut"


async def test_opening_again_keeps_what_is_there(tmp_path, engine):
    spec = engine.database("portal", tmp_path)
    async with databases([spec]):
        person = await Person.create(id="ada", name="Ada", is_admin=False, created_at=1.0)
        await Instance.create(
            id="a123456789",
            owner=person,
            name="One",
            image_name="jupyterlab",
            image="sha256:0",
            scheduler="main",
            key_nonce="n",
            state="running",
            info="",
            progress=None,
            sequence=3,
            log_tail="",
            answers_on=["router-main"],
            created_at=1.0,
            changed_at=2.0,
        )
    async with databases([spec]):
        found = await Instance.get(id="a123456789").prefetch_related("owner")
        assert (found.owner.name, found.answers_on) == ("Ada", ["router-main"])
