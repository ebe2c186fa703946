"""``dit4c token`` on the data folder, as whoever runs the portal uses it."""

import asyncio

import pytest

from dit4c_p2p.cli import main
from dit4c_p2p.database import DatabaseSpec, databases
from dit4c_p2p.portal import people


@pytest.fixture
def folder(tmp_path):
    """A data folder with an admin and a user."""

    async def fill():
        async with databases([DatabaseSpec("portal", tmp_path / "portal" / "portal.sqlite3")]):
            for id, is_admin in (("admin", True), ("max", False)):
                await people.ensure_person(id, name=id.title(), is_admin=is_admin, now=1.0)

    asyncio.run(fill())
    return tmp_path


@pytest.fixture
def dit4c(folder, capsys):
    """Run a ``dit4c token`` command; status, what it printed, what it complained."""

    def run(*arguments):
        status = main(["token", *arguments, "--data-dir", str(folder)])
        return (status, *capsys.readouterr())

    return run


def test_create_list_revoke(dit4c):
    status, token, _ = dit4c("create", "max", "--label", "Laptop", "--days", "30")
    assert status == 0
    assert len(token.strip()) == 43
    _, listed, _ = dit4c("list", "max")
    id, scope, *_ = listed.split()
    assert scope == "user"
    assert "Laptop" in listed
    assert "not used yet" in listed
    assert token.strip() not in listed
    assert dit4c("revoke", "max", id)[0] == 0
    assert dit4c("list", "max") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "max", "--label", "x", "--admin"), "no admin"),
        (("create", "max", "--label", "x", "--days", "0"), "1 to 366"),
        (("create", "nobody", "--label", "x"), "no such person"),
        (("create", "max", "--label", ""), "at least one letter"),
        (("list", "nobody"), "no such person"),
        (("revoke", "max", "nothing"), "no such token"),
    ],
)
def test_errors_are_one_line(dit4c, arguments, text):
    status, printed, complaint = dit4c(*arguments)
    assert (status, printed) == (1, "")
    assert text in complaint
    assert complaint.count("\n") == 1


def test_no_installation_is_made_where_there_is_none(tmp_path, capsys):
    assert main(["token", "list", "admin", "--data-dir", str(tmp_path / "none")]) == 1
    assert "no installation" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_portal_elsewhere_needs_a_token(monkeypatch, capsys):
    monkeypatch.delenv("DIT4C_TOKEN", raising=False)
    assert main(["token", "list", "admin", "--portal", "https://portal.example.org"]) == 1
    assert "DIT4C_TOKEN" in capsys.readouterr().err
