"""security.md section 2 row 12: logs never hold a token or a key."""

import io
import json
import logging
import stat
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.identity.keys import generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.tokens import issue
from dit4c_p2p.observe import logs
from dit4c_p2p.observe.logs import JsonFormatter, TextFormatter, log_lines_lost, log_to
from dit4c_p2p.observe.redact import redact_secrets

NODE = PeerName.parse("node-home")
# Unicode's: control, line separator, paragraph separator.
CONTROLS = {"Cc", "Zl", "Zp"}
TOKEN = "mFqB3k0vJ2T_8-SomeRandomBase64urlThatIsATokenXY"


def jwt():
    return issue(generate(), NODE, "http://localhost:8080", now=1_790_000_000)


def pem():
    return generate().export_private_key("pkcs8-pem").decode()


@pytest.fixture(params=[TextFormatter, JsonFormatter])
def log(request):
    """A logger, and a function that gives what it has written."""
    return logger_with(request.param())


def logger_with(formatter):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("dit4c_p2p.test")
    logger.addHandler(handler)
    return logger, stream.getvalue


@pytest.mark.parametrize(
    "line",
    [
        f"Authorization: Bearer {TOKEN}",
        f"authorization: bearer {TOKEN}",
        f"GET /login/{TOKEN} HTTP/1.1",
        f"http://localhost:8080/login/{TOKEN}",
        f"Cookie: a=b; __Host-dit4c={TOKEN}; c=d",
        f"__Host-dit4c-instance-8081={TOKEN}",
        f"/.dit4c/callback?code={TOKEN}&state={TOKEN[::-1]}",
        f'{{"access_token": "{TOKEN}", "token_type": "Bearer"}}',
        f"{{'client_assertion': '{TOKEN}'}}",
        f"postgres://dit4c:{TOKEN}@db.example.org/portal",
    ],
)
def test_a_secret_never_gets_into_a_line(log, line):
    logger, written = log
    logger.warning("it failed: %s", line)
    assert TOKEN not in written()
    assert TOKEN[::-1] not in written()
    assert "redacted" in written()


def test_neither_does_a_jwt_or_a_private_key(log):
    logger, written = log
    token, key = jwt(), pem()
    logger.warning("refused %s", token)
    logger.warning("can't be read: %r and %s", key, key[:-30])
    for secret in (token, token.split(".")[2], key.splitlines()[1]):
        assert secret not in written()


def test_neither_is_one_in_a_traceback(log):
    logger, written = log
    token = jwt()
    try:
        raise ValueError(f"Bearer {token}")
    except ValueError:
        logger.exception("it failed")
    assert token not in written()
    assert "ValueError" in written()


@pytest.mark.parametrize(
    "line",
    [
        f"key {'Ab0-' * 10}Ab0 of node-home revoked",
        "the app ended by itself with exit code=137",
        "POST /login/{token} failed",
        "the token is not in force",
        "instance abcdefghij: running",
        "the state: waiting_for_image",
        "see http://localhost:8080/ and node-home@router",
    ],
)
def test_ordinary_lines_stay_as_they_are(line):
    assert redact_secrets(line) == line


def test_json_lines_have_their_fields():
    logger, written = logger_with(JsonFormatter())
    logger.info("%s logged in from %s", NODE, "192.0.2.1", extra={"connection": "192.0.2.1"})
    logger.error("%s: gone", PeerName.parse("instance-abc"))
    logger.info("pod of %s: reachable on %s", "xyz", NODE)
    first, second, third = map(json.loads, written().splitlines())
    assert (first["level"], first["logger"]) == ("info", "dit4c_p2p.test")
    assert first["message"] == "node-home logged in from 192.0.2.1"
    assert (first["peer"], first["connection"]) == ("node-home", "192.0.2.1")
    assert first["time"].endswith("Z")
    assert (second["instance"], second["peer"]) == ("abc", "instance-abc")
    assert (third["instance"], third["peer"]) == ("xyz", "node-home")


def test_a_stranger_can_not_begin_a_line(log):
    logger, written = log
    logger.warning("no host %s", "a\n2026-01-01 INFO all is well\x1b[2J")
    assert len(written().splitlines()) == 1
    assert "\x1b" not in written()


def test_no_control_character_gets_into_a_line(log):
    """Every line end that Python, a terminal or a browser knows, C0, C1, and turned text."""
    logger, written = log
    every = "".join(map(chr, (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E, 0x2066)))
    logger.warning("it sent %s", every)
    try:
        raise ValueError(every)
    except ValueError as error:
        logger.warning("it failed", exc_info=error)
    controls = {char for char in written() if unicodedata.category(char) in CONTROLS}
    assert controls <= {"\n", "\t"}
    assert written().splitlines() == written().rstrip("\n").split("\n")
    if written().startswith("{"):
        assert [json.loads(line)["message"] for line in written().splitlines()] == [
            f"it sent {every}", "it failed"
        ]  # fmt: skip


def test_a_stranger_can_not_fill_the_log_with_one_line(log):
    """Redacting it would take long as well, and everybody else waits meanwhile."""
    logger, written = log
    much = "eyJaaaaaa-" * 10_000
    try:
        raise ValueError(f"{much} the end")
    except ValueError:
        logger.exception("begin %s end", much, extra={"instance": much})
    assert len(written()) < 40_000
    assert "begin" in written() and "end" in written() and "the end" in written()


def test_a_stranger_can_not_begin_a_line_in_a_traceback_either():
    logger, written = logger_with(TextFormatter())
    try:
        raise ValueError("a\n2026-01-01 00:00:00,000 INFO    dit4c_p2p: all is well")
    except ValueError:
        logger.exception("it failed")
    first, *traceback = written().splitlines()
    assert first.endswith("dit4c_p2p.test: it failed")
    assert traceback[0] == "    Traceback (most recent call last):"
    assert traceback[-1].endswith("all is well")
    assert all(line.startswith("    ") for line in traceback)


@contextmanager
def logging_to(*arguments, **more):
    """The log of the process goes there meanwhile."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        log_to(*arguments, **more)
        yield logging.getLogger("dit4c_p2p.test")
    finally:
        for handler in [one for one in root.handlers if one not in before]:
            root.removeHandler(handler)
            with suppress(OSError):  # it is on a full disk
                handler.close()
        root.setLevel(level)


def test_the_file_is_private_and_so_is_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_MAX_LOG_BYTES", 200)
    with logging_to(tmp_path / "dit4c.log", form="json") as log:
        for number in range(4):
            log.info("hello %d from \ud800", number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [
        "dit4c.log",
        "dit4c.log.1",
        "dit4c.log.2",
        "dit4c.log.3",
    ]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(files[0].read_text())["message"] == "hello 3 from \ud800"


def test_a_line_that_can_not_be_written_is_shown_to_nobody(capfd):
    """security.md section 5, disk full: the library would print the line as it is, and why."""
    before = log_lines_lost()
    with logging_to(Path("/dev/full"), terminal=logging.ERROR) as log:
        log.warning("it failed: Bearer %s", TOKEN)
        assert capfd.readouterr().err == ""
        assert log_lines_lost() == before + 1
        log.error("this is said")
        assert capfd.readouterr().err.endswith(": this is said\n")


class TestOnAFullDisk:
    pytestmark = ONLY_ROOT

    def test_the_file_goes_on_with_whole_lines(self, tmp_path):
        with SmallDisk(tmp_path / "small", size="64k") as disk:
            file = disk.folder / "dit4c.log"
            with logging_to(file, terminal=logging.CRITICAL, form="json") as log:
                disk.fill()
                before = log_lines_lost()
                for number in range(500):
                    log.info("%d %s", number, "x" * 100)
                assert log_lines_lost() > before
                disk.make_room()
                log.info("there is room")
            said = [json.loads(line)["message"] for line in file.read_text().splitlines()]
            assert said[0].startswith("0 ")
            assert said[-1] == "there is room"
