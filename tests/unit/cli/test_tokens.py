"""``dit4c token`` beside the portal's database, as whoever runs the portal uses it."""

import asyncio
from contextlib import closing

import pytest
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.audit import AuditLog, verify
from dit4c_p2p.cli import main
from dit4c_p2p.database import databases
from dit4c_p2p.portal.accounts import people

PORTAL = """
kind = "portal"
data_folder = "{folder}"
database = "{database}"
url = "http://localhost:1"
listen = ["127.0.0.1:1"]
user_url = "http://{{id}}.localhost:2/"
routers = [{{id = "r1", ssh = ["127.0.0.1:3"], http = ["127.0.0.1:2"]}}]
"""


@pytest.fixture
def where(tmp_path, engine):
    """The options that lead to a database with an admin and a user."""
    spec = engine.database("portal", tmp_path / "portal")

    async def fill():
        async with databases([spec]):
            for id, is_admin in (("admin", True), ("max", False)):
                await people.ensure_person(id, name=id.title(), is_admin=is_admin, now=1.0)

    asyncio.run(fill())
    if not engine.is_postgresql:
        return "--data-dir", str(tmp_path)
    file = tmp_path / "portal.toml"
    file.write_text(PORTAL.format(folder=tmp_path / "portal", database=spec.url))
    return "--config", str(file)


@pytest.fixture
def dit4c(where, capsys):
    """Run a ``dit4c token`` command; status, what it printed, what it complained."""

    def run(*arguments):
        status = main(["token", *arguments, *where])
        return (status, *capsys.readouterr())

    return run


@pytest.mark.both_databases
def test_create_list_revoke(dit4c):
    status, token, _ = dit4c("create", "max", "--label", "Laptop", "--days", "30")
    assert status == 0
    assert len(token.strip()) == 43
    _, listed, _ = dit4c("list", "max")
    id, scopes, *_ = listed.split()
    assert scopes == "instances:read,instances:write"
    assert "Laptop" in listed
    assert "not used yet" in listed
    assert token.strip() not in listed
    assert dit4c("revoke", "max", id)[0] == 0
    assert dit4c("list", "max") == (0, "", "")


class TestOnAFullDisk:
    """security.md section 5, disk full, as it is at the portal: nothing is given, and what is
    taken away is taken away. Here it is the audit log's disk."""

    pytestmark = ONLY_ROOT

    @pytest.fixture
    def folder(self, where, tmp_path):
        (tmp_path / "portal").mkdir(exist_ok=True)
        return tmp_path

    @pytest.fixture
    def disk(self, folder, tmp_path_factory):
        with SmallDisk(tmp_path_factory.mktemp("small") / "disk", size="64k") as disk:
            (disk.folder / "audit.jsonl").touch()
            (folder / "portal" / "audit.jsonl").symlink_to(disk.folder / "audit.jsonl")
            yield disk

    def test_no_token_is_made_and_one_can_be_revoked(self, dit4c, folder, disk, caplog):
        _, token, _ = dit4c("create", "max", "--label", "Laptop")
        file = folder / "portal" / "audit.jsonl"
        disk.fill()
        with closing(AuditLog(file)) as log, pytest.raises(OSError, match="No space left"):
            while True:
                log.write("login")
        status, printed, complaint = dit4c("create", "max", "--label", "Phone")
        assert (status, printed) == (1, "")
        assert complaint == (
            "dit4c: this can't be written into the audit log now, and is not done. "
            "An admin has to make room on the portal's disk\n"
        )
        assert dit4c("list", "max")[1].count("\n") == 1
        assert dit4c("revoke", "max", "Laptop")[:2] == (0, "Revoked Laptop of max.\n")
        assert "done without a line in the audit log: token.revoke" in caplog.text
        assert dit4c("list", "max")[1] == ""
        assert token.strip() not in caplog.text
        disk.make_room()
        assert dit4c("create", "max", "--label", "Phone")[0] == 0
        verify(file)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "max", "--label", "x", "--admin"), "no admin"),
        (("create", "max", "--label", "x", "--days", "0"), "1 to 366"),
        (("create", "nobody", "--label", "x"), "no such person. Everybody's id is on the page"),
        (("create", "max", "--label", ""), "at least one letter"),
        (("list", "nobody"), "no such person"),
        (("revoke", "max", "nothing"), "no such token. 'dit4c token list' and the account page"),
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
