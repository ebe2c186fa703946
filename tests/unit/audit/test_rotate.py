"""An audit log that is put aside while it is written into: one chain over several files."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from dit4c_p2p.atomic_file import NotWritten
from dit4c_p2p.audit import AuditBroken, AuditLog, rotate_audit_log, verify
from dit4c_p2p.audit.rotate import NothingToRotate
from dit4c_p2p.cli import main

NOW = 1_790_000_000.5


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log(path):
    """Open, as the portal has it, with two lines."""
    log = AuditLog(path)
    log.write("login", who="admin")
    log.write("key.revoke", who="admin")
    yield log
    log.close()


def put_aside(path):
    return rotate_audit_log(path, who="local:root", clock=lambda: NOW)


def acts(path):
    return [json.loads(line)["what"] for line in path.read_text().splitlines()]


def test_whoever_has_it_open_goes_on_in_the_new_file(path, log):
    aside = put_aside(path)
    log.write("login", who="grace")
    assert aside.name == "audit-20260921-2.jsonl"
    assert acts(aside) == ["login", "key.revoke"]
    assert acts(path) == ["audit.rotate", "login"]
    begun = json.loads(path.read_text().splitlines()[0])
    assert (begun["n"], begun["who"], begun["about"]) == (3, "local:root", aside.name)


def test_the_files_are_one_chain_and_each_holds_by_itself(path, log):
    older = put_aside(path)
    log.write("login", who="grace")
    newer = put_aside(path)
    log.write("logout", who="grace")
    whole = verify(newer, path, older)
    assert (whole.first, whole.lines) == (1, 6)
    assert verify(newer).first == 3
    assert verify(newer).follows == verify(older).newest
    assert verify(newer, path).newest == verify(path).newest == whole.newest


def test_a_file_that_is_missing_between_two_shows(path, log):
    older = put_aside(path)
    log.write("login", who="grace")
    put_aside(path)
    log.write("logout", who="grace")
    with pytest.raises(AuditBroken, match=f"{path}, line 1: .* last line of {older}") as caught:
        verify(older, path)
    assert "missing" in caught.value.hint


def test_an_older_file_that_was_changed_shows_beside_the_newer(path, log):
    older = put_aside(path)
    older.write_text(older.read_text().replace("key.revoke", "key.accept"))
    assert verify(older).lines == 2
    with pytest.raises(AuditBroken, match="does not follow from the last line"):
        verify(older, path)


def test_only_a_file_that_says_so_may_begin_later(path, log):
    put_aside(path)
    log.write("login", who="grace")
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(AuditBroken, match="line 1"):
        verify(path)


@pytest.mark.parametrize("remake", [False, True])
def test_a_file_moved_away_by_hand_is_followed_as_well(path, log, remake):
    aside = path.with_name("old")
    path.rename(aside)
    if remake:
        path.touch(0o600)
    log.write("login", who="grace")
    assert acts(path) == ["audit.rotate", "login"]
    assert verify(aside, path).lines == 4


def test_a_restart_goes_on_in_the_new_file(path, log):
    put_aside(path)
    again = AuditLog(path)
    again.write("login", who="grace")
    again.close()
    log.write("logout", who="grace")
    assert acts(path) == ["audit.rotate", "login", "logout"]
    assert verify(path).lines == 3


def test_nothing_is_lost_while_others_write(path):
    logs = [AuditLog(path) for _ in range(3)]
    asides = []
    with ThreadPoolExecutor(6) as pool:
        written = [pool.submit(logs[n % 3].write, "login", who=f"p{n}") for n in range(90)]
        for at in (10, 40, 70):
            written[at].result()
            asides.append(put_aside(path))
    for log in logs:
        log.close()
    assert verify(*asides, path).lines == 93
    lines = [json.loads(line) for one in (*asides, path) for line in one.read_text().splitlines()]
    assert {one["who"] for one in lines} == {"local:root", *(f"p{n}" for n in range(90))}


def test_the_new_file_belongs_to_whom_the_old_one_did(path, log):
    """The command is root's, the portal is not: it must be able to go on."""
    if os.geteuid() == 0:
        os.chown(path, 65534, 65533)
    path.chmod(0o640)
    before = path.stat()
    put_aside(path)
    after = path.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o640


def test_what_somebody_has_put_in_the_new_files_place_is_not_written_to(path, log, tmp_path):
    """Whoever rotates may be another user than whose folder it is."""
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    theirs.chmod(0o640)
    path.with_name(f"{path.name}.{os.getpid()}.partial").symlink_to(theirs)
    put_aside(path)
    assert theirs.read_text() == "theirs" and stat.S_IMODE(theirs.stat().st_mode) == 0o640
    assert not path.is_symlink() and acts(path) == ["audit.rotate"]


def test_without_news_it_stays_as_it_is(path, log, tmp_path):
    put_aside(path)
    before = sorted(one.name for one in tmp_path.iterdir())
    with pytest.raises(NothingToRotate, match="nothing happened"):
        put_aside(path)
    with pytest.raises(NothingToRotate, match="no such log"):
        put_aside(tmp_path / "elsewhere.jsonl")
    assert sorted(one.name for one in tmp_path.iterdir()) == before


def test_one_that_can_not_be_put_aside_stays_as_it_is(path, log, tmp_path):
    (tmp_path / "audit-20260921-2.jsonl").write_text("somebody's")
    with pytest.raises(NotWritten):
        put_aside(path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("audit-20260921-2.jsonl", "audit.jsonl", "audit.newest"),
    ]
    log.write("login", who="grace")
    assert acts(path) == ["login", "key.revoke", "login"]


def test_the_commands_say_what_is_where(path, log, capsys):
    assert main(["audit", "rotate", str(path)]) == 0
    aside = capsys.readouterr().out.strip()
    assert main(["audit", "verify", str(path), aside]) == 0
    assert "3 lines, unbroken" in capsys.readouterr().out
    assert main(["audit", "verify", str(path)]) == 0
    assert f"older file, which ends in {verify(path).follows}" in capsys.readouterr().out
    assert main(["audit", "rotate", str(path)]) == 1
    assert "nothing happened" in capsys.readouterr().err
