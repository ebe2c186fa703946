"""What a person types for a component alone, and what they are told when it can't be done."""

import os
import socket
import subprocess
import sys

import pytest

from dit4c_p2p.admin import key_proof
from dit4c_p2p.cli import main
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import generate, parse_public, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.enrol import ENROL_NAMESPACE, enrol_statement
from dit4c_p2p.run.process import locked_data_folder
from dit4c_p2p.settings.value import quoted_value

KEY = public_line(generate(), "portal-main")


@pytest.fixture
def file(tmp_path):
    """Writes a component's file; returns its path."""

    def write(kind, **changes):
        lines = {"id": '"main"', "data_folder": f'"{tmp_path / kind}"'}
        if kind == "portal":
            lines |= {
                "url": '"http://localhost:8080"',
                "listen": '["127.0.0.1:0"]',
                "user_url": '"http://{id}.localhost:8081/"',
                "routers": '[{id = "r1", ssh = ["localhost:8022"], http = ["localhost:8081"]}]',
            }
        else:
            lines["portal"] = f'{{url = "http://localhost:1", key = "{KEY}"}}'
        if kind == "router":
            lines |= {"listen": '["127.0.0.1:0"]', "listen_ssh": '["127.0.0.1:0"]'}
        lines |= changes
        path = tmp_path / f"{kind}.toml"
        path.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        return path

    return write


@pytest.fixture
def dit4c(capsys):
    """The exit status, and what was written to standard output and standard error."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


HELP = [[kind, action] for kind in ("portal", "scheduler", "router", "node")
        for action in ("run", "key")]  # fmt: skip
HELP += [["portal", "init"], ["node", "prove"], ["config", "check"], ["config", "example"],
         ["key", "challenge"], ["images", "build"]]  # fmt: skip


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_is_worth_reading(command, dit4c):
    status, said, _ = dit4c(*command, "--help")
    assert status == 0
    assert len(said) > 200


def test_check_says_everything_a_line_each(file, dit4c):
    path = file("node", scheduller='"main"', policy="{memory = 5}")
    status, _, said = dit4c("config", "check", "node", path)
    assert (status, said.count("\n")) == (1, 2)
    assert "Did you mean scheduler?" in said
    assert f"{path}: policy.memory: 5 has no unit" in said
    assert dit4c("config", "check", "node", file("node"))[0] == 0


def test_check_needs_to_know_the_kind(file, dit4c):
    path = file("node")
    status, _, said = dit4c("config", "check", path)
    assert (status, said.count("\n")) == (1, 1)
    assert "does not say which component" in said
    assert dit4c("config", "check", file("node", **{"kind ": '"node"'}))[0] == 0
    assert "no component 'nodes'" in dit4c("config", "check", "nodes", path)[2]
    assert "[KIND] FILE\n" in dit4c("config", "check", "--help")[1]
    assert "one file at a time" in dit4c("config", "check", path, path)[2]


@pytest.mark.parametrize("kind", ["portal", "scheduler", "router", "node"])
def test_run_with_a_file_that_is_wrong(file, dit4c, kind):
    status, _, said = dit4c(kind, "run", "--config", file(kind, colour='"red"'))
    assert (status, said.count("\n")) == (1, 1)
    assert "colour: there is no such setting" in said
    status, _, said = dit4c(kind, "run", "--config", "/nowhere.toml")
    assert (status, said.count("\n")) == (1, 1)
    assert "/nowhere.toml can't be read: No such file" in said


LISTENING = [
    *(("portal", name) for name in ("listen", "listen_tls", "redirect", "observe.listen")),
    *(
        ("router", name)
        for name in ("listen", "listen_tls", "redirect", "listen_ssh", "observe.listen")
    ),
    ("scheduler", "observe.listen"),
    ("node", "observe.listen"),
]


def listening(name, *addresses):
    """The lines of a file that have a setting be these addresses."""
    if name == "observe.listen":
        return {"observe": f'{{listen = "{addresses[0]}"}}'}
    lines = {name: f"[{', '.join(map(quoted_value, addresses))}]"}
    if name in ("listen_tls", "redirect"):
        lines |= {"tls": '{certificate = "/nowhere.pem", key = "/nowhere.key"}'}
        lines.setdefault("listen_tls", '["127.0.0.1:0"]')
    return lines


@pytest.mark.parametrize("kind, name", LISTENING)
def test_a_port_that_is_taken_names_the_setting(file, dit4c, tmp_path, kind, name):
    """issue, bad input: port taken; before anything is made or asked."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = file(kind, **listening(name, f"127.0.0.1:{port}"))
        status, printed, said = dit4c(kind, "run", "--config", path)
    assert (status, printed, said) == (
        1,
        "",
        f"dit4c: {name}: port {port} on 127.0.0.1 is taken by another program. "
        "End that program, or give another address in the file\n",
    )
    folder = tmp_path / kind
    assert [path.name for path in folder.iterdir()] == ["lock"]
    with locked_data_folder(folder):
        pass


@pytest.mark.parametrize("kind, name", LISTENING)
def test_an_address_of_another_machine_names_the_setting(file, dit4c, kind, name):
    path = file(kind, **listening(name, "192.0.2.1:8080"))
    status, _, said = dit4c(kind, "run", "--config", path)
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith(f"dit4c: {name}: 192.0.2.1:8080 can't be listened on")


ALL, LOOPBACK = "0.0.0.0:8080", "127.0.0.1:8080"
TWICE = [
    (kind, [("listen", LOOPBACK), (name, LOOPBACK)],
     f"{name}: port 8080 on 127.0.0.1 is in listen already, on 127.0.0.1")
    for kind, name in LISTENING if kind in ("portal", "router") and name != "listen"
]  # fmt: skip
TWICE += [
    ("router", [("listen", LOOPBACK), ("listen_ssh", ALL)],
     "listen_ssh: port 8080 on 0.0.0.0 is in listen already, on 127.0.0.1"),
    ("router", [("listen", "[::]:8080"), ("listen_ssh", "[::1]:8080")],
     "listen_ssh: port 8080 on ::1 is in listen already, on ::"),
    ("portal", [("listen", LOOPBACK, LOOPBACK)],
     "listen: port 8080 on 127.0.0.1 is here already, on 127.0.0.1"),
]  # fmt: skip


def all_listening(settings):
    """The lines for several settings."""
    return {key: line for one in settings for key, line in listening(*one).items()}


@pytest.mark.parametrize("kind, settings, said", TWICE)
def test_one_port_twice_is_said_by_check_and_run(file, dit4c, kind, settings, said):
    path = file(kind, **all_listening(settings))
    for command in (("config", "check", kind, path), (kind, "run", "--config", path)):
        status, _, printed = dit4c(*command)
        assert (status, printed.count("\n")) == (1, 1)
        assert f"{path}: {said}. Give each a port of its own" in printed


@pytest.mark.parametrize(
    "listen, listen_ssh",
    [("127.0.0.1:0", "127.0.0.1:0"), (LOOPBACK, "127.0.0.2:8080"), (ALL, "[::]:8080")],
)
def test_one_port_at_several_addresses_is_fine(file, dit4c, listen, listen_ssh):
    path = file("router", **all_listening([("listen", listen), ("listen_ssh", listen_ssh)]))
    assert dit4c("config", "check", "router", path)[0] == 0


def test_a_key_that_others_may_read(file, dit4c, tmp_path):
    path = file("node")
    assert dit4c("node", "key", "--config", path)[0] == 0
    key = tmp_path / "node" / "key"
    key.chmod(0o640)
    for command in ("key", "run"):
        status, _, said = dit4c("node", command, "--config", path)
        assert status == 1
        assert (
            said.splitlines()[-1]
            == f"dit4c: {key} can be read by others. Make it yours alone: chmod 600 {key}"
        )


def test_a_data_folder_that_cannot_be_written(file, dit4c, tmp_path):
    (tmp_path / "file").touch()
    path = file("scheduler", data_folder=f'"{tmp_path / "file" / "below"}"')
    status, _, said = dit4c("scheduler", "run", "--config", path)
    assert (status, said.count("\n")) == (1, 1)
    assert "can't be written" in said
    assert "data_folder" in said


def test_the_public_line_is_all_that_goes_to_a_file(file, dit4c):
    path = file("router")
    status, line, said = dit4c("router", "key", "--config", path)
    assert status == 0
    assert line.count("\n") == 1
    assert line.split()[2] == "router-main"
    parse_public(line)
    assert said.startswith("fingerprint ")
    assert dit4c("router", "key", "--config", path)[1] == line
    named = file("router", key=f'"{path.parent / "elsewhere" / "k"}"')
    assert dit4c("router", "key", "--config", named)[1] != line
    assert (path.parent / "elsewhere" / "k").stat().st_mode & 0o777 == 0o600


def test_a_proof_is_of_this_key_for_this_portal_and_nonce(file, dit4c):
    path = file("node", scheduler='"lab"')
    status, line, _ = dit4c("node", "prove", "dit4c-nonce:-abc", "--config", path)
    assert (status, line.count("\n")) == (0, 1)
    name = PeerName.parse("node-main")
    new_key = key_proof.decode_key_proof(line, name, None)
    assert (new_key.nonce, new_key.scheduler) == ("-abc", "lab")
    statement = enrol_statement("http://localhost:1", "node-main", "-abc")
    key = parse_public(new_key.public_key)
    sshsig.verify(statement, new_key.signature, ENROL_NAMESPACE, [key])
    with pytest.raises(ConfigError, match="the proof is for node-main"):
        key_proof.decode_key_proof(line, PeerName.parse("node-other"), None)
    with pytest.raises(ConfigError, match="serves scheduler-lab"):
        key_proof.decode_key_proof(line, name, "main")
    for bad in ("", "dit4c-proof:", "dit4c-proof:e30=", line[:-9], "-----BEGIN SSH SIGNATURE-----"):
        with pytest.raises(ConfigError, match="this is no proof"):
            key_proof.decode_key_proof(bad, name, None)
    status, _, said = dit4c("node", "prove", "abc", "--config", path)
    assert (status, said.count("\n")) == (1, 1)
    assert "no nonce" in said


def test_a_key_is_in_a_file_or_proved(dit4c):
    for more in ([], ["file", "--proof", "dit4c-proof:x"]):
        status, _, said = dit4c("key", "add", "node", "home", *more)
        assert (status, said.count("\n")) == (1, 1)
        assert "Give one of them" in said


def test_the_first_admin_and_another_link(file, dit4c):
    path = file("portal")
    status, link, said = dit4c("portal", "init", "--config", path)
    assert status == 0, said
    assert link.startswith("http://localhost:8080/login/")
    status, again, said = dit4c("login-link", "admin", "--config", path)
    assert (status, again != link) == (0, True), said
    status, _, said = dit4c("login-link", "nobody", "--config", path)
    assert (status, said.count("\n")) == (1, 1)


def test_an_absent_portal_is_waited_for_and_a_signal_ends_that(file):
    path = file("router")
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dit4c_p2p", "router", "run", "--config", str(path)],
        stderr=subprocess.PIPE, text=True, env=environ,
    )  # fmt: skip
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "waiting for it" in line:
                break
        assert "the portal does not answer" in said[-1]
        # A second one beside it is refused.
        twice = subprocess.run(
            [sys.executable, "-m", "dit4c_p2p", "router", "run", "--config", str(path)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (twice.returncode, twice.stderr.count("\n")) == (1, 1)
        assert "another 'dit4c router run'" in twice.stderr
        process.terminate()
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
