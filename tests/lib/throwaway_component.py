"""Throw-away components with a model or two, for tests of the databases themselves."""

import importlib
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dit4c_p2p.database import DatabaseSpec, missing_migrations
from dit4c_p2p.database.command import make_migrations_package

MODELS_1 = """
from tortoise import fields, models

class Parent(models.Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=20, unique=True)
    colour = fields.CharField(max_length=20, null=True, db_index=True)

    class Meta:
        table = "parent"
        unique_together = (("name", "colour"),)

class Child(models.Model):
    id = fields.IntField(primary_key=True)
    parent = fields.ForeignKeyField("{app}.Parent", on_delete=fields.CASCADE)

    class Meta:
        table = "child"
"""
# Altering a column makes SQLite rebuild the table that Child refers to.
MODELS_2 = MODELS_1.replace(
    "fields.CharField(max_length=20, null=True, db_index=True)",
    "fields.CharField(max_length=40, null=True, db_index=True)",
)


@dataclass
class Project:
    """A throw-away package with the models and migrations of one app."""

    name: str
    app: str
    folder: Path

    def spec(self, location: Path | str) -> DatabaseSpec:
        return DatabaseSpec(self.app, location, f"{self.name}.models", f"{self.name}.migrations")

    async def release(self, models: str) -> None:
        """Replace the models, and write the migration."""
        (self.folder / "models.py").write_text(models.format(app=self.app))
        for module in [name for name in sys.modules if name.startswith(self.name)]:
            del sys.modules[module]
        sys.path_importer_cache.clear()
        make_migrations_package(f"{self.name}.migrations")
        for writer in await missing_migrations(self.spec(Path(":memory:"))):
            writer.write()
        self.forget()

    def forget(self) -> None:
        for module in [name for name in sys.modules if name.startswith(self.name)]:
            del sys.modules[module]
        sys.path_importer_cache.clear()


FIRST = {"portal": "0001_first", "scheduler": "0001_initial"}


def first_release(spec: DatabaseSpec, folder: Path) -> DatabaseSpec:
    """The same database with no migration but the first; ``folder`` has to be on the path."""
    package = folder / f"first_release_of_{spec.app}"
    package.mkdir()
    (package / "__init__.py").touch()
    source = importlib.import_module(f"dit4c_p2p.{spec.app}.migrations.{FIRST[spec.app]}").__file__
    shutil.copy(str(source), package)
    return replace(spec, migrations_module=package.name)


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    """Make a throw-away package for an app."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(app: str) -> Project:
        name = f"throwaway_{app}_{abs(hash(request.node.nodeid))}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        return Project(name, app, folder)

    return make


def model(project: Project, name: str):
    """A model of the project as it is now."""
    return getattr(sys.modules[f"{project.name}.models"], name)
