"""Where a database is, as a setting says it."""

import os
import pwd
import sys
from pathlib import Path

import pytest

from dit4c_p2p.database import DatabaseSpec
from dit4c_p2p.database.postgresql import PostgresqlServer
from dit4c_p2p.errors import ConfigError

SECRET = "postgres://ada:geheim@db.example.org:5433/portal?password=geheim"


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (Path("/d/portal.sqlite3"), "/d/portal.sqlite3"),
        ("/d/portal.sqlite3", "/d/portal.sqlite3"),
        ("sqlite:///d/portal.sqlite3", "/d/portal.sqlite3"),
        ("sqlite:////d/portal.sqlite3", "/d/portal.sqlite3"),
        ("sqlite:///d/a%20b", "/d/a b"),
    ],
)
def test_a_file(location, path):
    spec = DatabaseSpec("portal", location)
    assert (spec.path, spec.is_postgresql) == (Path(path), False)
    with pytest.raises(ValueError, match="is a file"):
        assert spec.url


@pytest.mark.parametrize(
    ("url", "needs_certificate"),
    [
        ("postgres:///portal", False),
        ("postgresql:///portal?host=/run/postgresql", False),
        ("postgres://ada@localhost/portal", False),
        ("postgres://ada:x@[::1]:5433/portal", False),
        ("postgres://ada@db.example.org/portal", True),
        ("postgres://ada@/portal?host=db.example.org", True),
        ("postgres://ada@db.example.org/portal?sslmode=require", False),
    ],
)
def test_a_server(url, needs_certificate):
    spec = DatabaseSpec("portal", url)
    assert (spec.url, spec.is_postgresql) == (url, True)
    assert spec.needs_certificate is needs_certificate
    with pytest.raises(ValueError, match="not a file"):
        assert spec.path


@pytest.mark.parametrize(
    "location",
    [
        "mysql://a/b",
        "sqlite://",
        "sqlite://host/file",
        "postgres://ada:geheim@host",
        "postgres://ada:geh[eim@host/portal",
        "postgres://ada:geheim@host/portal?search_path=mine",
    ],
)
def test_neither(location):
    with pytest.raises(ConfigError, match="can't be right") as caught:
        DatabaseSpec("portal", location)
    assert "geh" not in caught.value.one_line()


def test_who_is_not_named_is_the_user_that_runs_it(monkeypatch):
    """As libpq has it, and not whoever the environment says: ``runuser -u`` leaves that alone."""

    def user(url):
        connection = PostgresqlServer(DatabaseSpec("portal", url)).connection(migrating=False)
        return connection["credentials"].get("user")

    monkeypatch.setenv("USER", "somebody")
    monkeypatch.delenv("PGUSER", raising=False)
    assert user("postgres:///portal") == pwd.getpwuid(os.geteuid()).pw_name
    for url in ("postgres://ada@/portal", "postgres:///portal?user=ada"):
        assert user(url) is None, "asyncpg reads it"
    monkeypatch.setenv("PGUSER", "ada")
    assert user("postgres:///portal") is None


def test_a_password_is_never_shown():
    spec = DatabaseSpec("portal", SECRET)
    assert "geheim" not in f"{spec} {spec!r}"
    assert str(spec) == "the portal's database postgres://db.example.org:5433/portal"


def test_without_the_extra_it_says_which(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        DatabaseSpec("portal", "postgres:///portal")
    assert f"{sys.prefix}/bin/pip install" in caught.value.hint
    assert "[postgresql]'" in caught.value.hint
