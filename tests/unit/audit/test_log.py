"""security.md section 4: append-only, each line carries the hash of the one before."""

import json
import resource
import signal
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from dit4c_p2p.audit import AuditBroken, AuditLog, verify


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "audit" / "audit.jsonl"
    writer = AuditLog(path, clock=lambda: 1_790_000_000.5)
    writer.write("login", who="admin", origin="127.0.0.1")
    writer.write("key.revoke", who="admin", about="node-home", key="abc")
    writer.write("instance.start", who="grace", about="x1", outcome="refused: too many")
    writer.close()
    return path


def test_who_key_from_where_what_outcome(log):
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    first, second, third = map(json.loads, log.read_text().splitlines())
    assert first["at"] == "2026-09-21T14:13:20.500Z"
    assert (first["who"], first["from"], first["what"], first["outcome"]) == (
        *("admin", "127.0.0.1", "login", "done"),
    )
    assert (second["key"], second["about"]) == ("abc", "node-home")
    assert third["outcome"] == "refused: too many"
    assert verify(log).lines == 3


def test_it_goes_on_after_a_restart(log):
    writer = AuditLog(log)
    writer.write("login", who="grace")
    writer.close()
    assert verify(log).lines == 4


@pytest.mark.parametrize("line", [0, 1])
def test_a_changed_line_shows(log, line):
    lines = log.read_text().splitlines()
    lines[line] = lines[line].replace("admin", "nobody")
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(AuditBroken, match=f"line {line + 2}"):
        verify(log)


def test_a_removed_and_an_added_line_show(log):
    lines = log.read_text().splitlines()
    for wrong in (lines[1:], [lines[0], *lines[2:]], [*lines, lines[2]], [lines[1], lines[0]]):
        log.write_text("\n".join(wrong) + "\n")
        with pytest.raises(AuditBroken):
            verify(log)


def test_the_newest_hash_shows_what_a_rewritten_end_hides(log):
    before = verify(log)
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines[:2], lines[2].replace("refused: too many", "done")]) + "\n")
    assert verify(log).newest != before.newest


def test_a_line_that_a_crash_cut_off_is_taken_away(log):
    with log.open("a") as file:
        file.write('{"n": 4, "at": "20')
    with pytest.raises(AuditBroken, match="cut off"):
        verify(log)
    writer = AuditLog(log)
    writer.write("login", who="grace")
    writer.close()
    assert verify(log).lines == 4


@pytest.mark.parametrize("text", ["hello\n", "hello", "hello\nworld", '{"n": 12', "[]\n{"])
def test_what_is_no_audit_log_is_left_alone(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(AuditBroken, match="not a line"):
        AuditLog(path)
    assert path.read_text() == text
    path.write_text("hello\n")
    with pytest.raises(AuditBroken, match="line 1"):
        verify(path)


@pytest.mark.parametrize("text", ["hello", '{"n": 3, "at": "20', '{"n": 40'])
def test_neither_is_what_somebody_put_after_its_end(log, text):
    with log.open("a") as file:
        file.write(text)
    before = log.read_text()
    with pytest.raises(AuditBroken, match="newest line"):
        AuditLog(log)
    assert log.read_text() == before


def test_several_processes_and_threads_write_one_chain(tmp_path):
    """A command beside the portal writes into the same log; each has the file open by itself."""
    path = tmp_path / "audit.jsonl"
    logs = [AuditLog(path) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        for number in range(60):
            pool.submit(logs[number % 3].write, "login", who=f"p{number}")
    for log in logs:
        log.close()
    assert verify(path).lines == 60
    assert {json.loads(line)["who"] for line in path.read_text().splitlines()} == {
        f"p{number}" for number in range(60)
    }


def test_a_full_disk_leaves_no_half_line(tmp_path):
    """security.md section 5: a clear error, nothing corrupt, goes on when there is room."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    log.write("login", who="admin")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, before[1]))
        for _ in range(2):
            with pytest.raises(OSError, match=r"(No space left|too large)") as caught:
                log.write("key.revoke", who="admin")
            assert caught.value.filename == str(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert verify(path).lines == 1
    log.write("key.revoke", who="admin")
    log.close()
    assert verify(path).lines == 2
