"""security.md section 2 row 12: logs never hold a token or a key."""

import io
import json
import logging
import stat

import pytest

from dit4c_p2p.identity.keys import fingerprint, generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.tokens import issue
from dit4c_p2p.observe.logs import JsonFormatter, TextFormatter, log_to
from dit4c_p2p.observe.redact import redact

NODE = PeerName.parse("node-home")
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
        f"key {fingerprint(generate())} of node-home revoked",
        "the app ended by itself with exit code=137",
        "POST /login/{token} failed",
        "the token is not in force",
        "instance abcdefghij: running",
        "the state: waiting_for_image",
        "see http://localhost:8080/ and node-home@router",
    ],
)
def test_ordinary_lines_stay_as_they_are(line):
    assert redact(line) == line


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


def test_the_file_is_private(tmp_path):
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        log_to(tmp_path / "dit4c.log", form="json")
        logging.getLogger("dit4c_p2p.test").info("hello")
        assert stat.S_IMODE((tmp_path / "dit4c.log").stat().st_mode) == 0o600
        assert json.loads((tmp_path / "dit4c.log").read_text())["message"] == "hello"
    finally:
        for handler in [one for one in root.handlers if one not in before]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
