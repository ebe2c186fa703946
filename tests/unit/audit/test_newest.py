"""Lines that were taken away from a log's end: its writer says so, and a kept hash shows it."""

import json

import pytest

from dit4c_p2p.audit import AuditBroken, AuditLog, recent_audit_lines, rotate_audit_log, verify
from dit4c_p2p.cli import main


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log(path):
    """Five lines."""
    writer = AuditLog(path)
    for number in range(5):
        writer.write("login", who=f"person-{number}")
    yield writer
    writer.close()


def cut(path, lines):
    """Only the first so many are left; the file is the same one."""
    kept = b"".join(path.read_bytes().splitlines(keepends=True)[:lines])
    with path.open("r+b") as file:
        file.truncate(len(kept))


def whats(path):
    return [json.loads(line)["what"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("lines", [0, 1, 4])
def test_the_writer_notices_what_is_missing_and_the_chain_stays_broken(path, log, lines, caplog):
    newest = log.newest().newest
    cut(path, lines)
    log.write("logout", who="grace")
    assert log.shortened == 1
    assert f"line 5 was written, and it ends with line {lines}" in caplog.text
    assert whats(path) == ["login"] * lines + ["audit.shortened", "logout"]
    line = json.loads(path.read_text().splitlines()[lines])
    assert (line["about"], line["previous"]) == (f"line 5: {newest}", newest)
    if lines:
        with pytest.raises(AuditBroken, match=f"line {lines + 1}: it does not follow"):
            verify(path)
    else:
        assert verify(path).first == 6
    log.write("logout", who="grace")
    assert log.shortened == 1, "once is enough"


def test_it_is_noticed_at_the_next_start_too(path, log):
    log.close()
    cut(path, 2)
    again = AuditLog(path)
    assert again.shortened == 1
    again.close()
    after = AuditLog(path)
    assert after.shortened == 0, "said once"
    after.close()
    log.__init__(path)


def test_a_look_is_enough(path, log):
    cut(path, 3)
    assert log.newest().count == 6
    assert log.shortened == 1


def test_a_log_that_was_removed_or_filled_anew_is_one_that_lost_lines(path, log):
    path.unlink()
    log.write("logout")
    assert (log.shortened, whats(path)) == (1, ["audit.shortened", "logout"])
    other = AuditLog(path.with_name("other.jsonl"))
    other.write("login")
    other.close()
    path.write_bytes(path.with_name("other.jsonl").read_bytes())
    log.write("logout")
    assert log.shortened == 2


def test_other_writers_and_rotation_are_no_loss(path, log):
    other = AuditLog(path)
    for writer in (log, other, log):
        writer.write("logout")
    rotate_audit_log(path, who="admin").unlink()
    for writer in (other, log):
        writer.write("logout")
    assert (log.shortened, other.shortened) == (0, 0)
    other.close()
    again = AuditLog(path)
    assert again.shortened == 0
    again.close()


def test_without_what_is_kept_beside_it_a_log_is_as_good(path, log):
    log.close()
    path.with_name("audit.newest").write_text("something else")
    again = AuditLog(path)
    again.write("login")
    assert (again.shortened, again.newest().count) == (0, 6)
    again.close()
    log.__init__(path)


def test_expected(path, log, capsys):
    """The hash that was the newest once is that of a line still, whatever came after."""
    kept = log.newest().newest
    log.write("logout")
    assert verify(path, expect=kept).expected == 5
    assert main(["audit", "verify", "--expect", kept.upper(), str(path)]) == 0
    assert "the hash expected is that of line 5; 1 follow" in capsys.readouterr().out
    aside = rotate_audit_log(path, who="admin")
    assert verify(path, expect=log.newest().newest).lines == 1
    with pytest.raises(AuditBroken, match="no line has the hash"):
        verify(path, expect=kept)
    assert verify(path, aside, expect=kept).expected == 5
    cut(aside, 4)
    assert main(["audit", "verify", "--expect", kept, str(aside)]) == 1
    assert "Lines were taken away from the end" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "a" * 65])
def test_what_is_expected_is_a_hash(path, log, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", "--expect", text, str(path)])
    assert ended.value.code == 2
    assert "not a hash" in capsys.readouterr().err


def test_the_newest_lines(path, log):
    assert [line["who"] for line in recent_audit_lines(path, 2)] == ["person-4", "person-3"]
    assert len(recent_audit_lines(path, 100)) == 5
    with path.open("a") as file:
        file.write('{"n": 6, "at"')
    assert len(recent_audit_lines(path, 100)) == 5
