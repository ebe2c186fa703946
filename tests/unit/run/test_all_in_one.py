"""What a person types, and what they are told when it can't be done."""

import socket
import stat
from itertools import product

import aiodocker
import pytest
from systems.all_in_one import free_ports

from dit4c_p2p.cli import main
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imagebuild import DockerDaemon
from dit4c_p2p.run import all_in_one
from dit4c_p2p.run.all_in_one_config import default_data_folder
from dit4c_p2p.run.process import locked_data_folder

# Any address of this machine will do.
BRIDGE = "127.0.0.17"


def run(capsys, *arguments):
    """The exit status, and what was written to standard error."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as ended:
        status = ended.code
    return status, capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["up"], ["down"], ["login-link"], ["key", "add"]])
def test_help_is_worth_reading(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 200


def test_ports_that_are_no_ports(capsys, tmp_path):
    status, said = run(capsys, "up", "--data-dir", tmp_path, "--portal-port", "70000")
    assert status == 1
    assert said == "dit4c: 70000 is not a TCP port. Choose one of 1 to 65535\n"
    status, said = run(capsys, "up", "--data-dir", tmp_path, "--portal-port", "8081")
    assert (status, said.count("\n")) == (1, 1)
    assert "port 8081 is given twice, as --portal-port and as --router-port" in said


def test_a_tool_that_is_none(capsys, tmp_path):
    status, said = run(capsys, "up", "--data-dir", tmp_path / "data", "--tools", "jupiter")
    assert (status, said.count("\n")) == (1, 1)
    assert "no tool 'jupiter'" in said
    assert "jupyterlab, terminal, openrefine" in said
    assert not (tmp_path / "data").exists()


PORTS = (
    "--portal-port",
    "--router-port",
    "--router-ssh-port",
    "--images-port",
    "--files-port",
    "--observe-port",
)


@pytest.mark.parametrize(
    "option, host",
    [
        *product(PORTS[:5], all_in_one._listen_hosts(BRIDGE)),
        ("--observe-port", "127.0.0.1"),
    ],
)
def test_a_port_that_is_taken_names_the_option(capsys, tmp_path, monkeypatch, option, host):
    """issue, bad input: port taken; before anything is built or begun."""

    async def engine(progress):
        return DockerDaemon(version="20.10", architecture="x86_64")

    async def bridge(engine):
        return BRIDGE

    monkeypatch.setattr(all_in_one, "ensure_engine", engine)
    monkeypatch.setattr(all_in_one, "_bridge_address", bridge)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {**dict(zip(PORTS, free_ports(len(PORTS)), strict=True)), option: port}
        arguments = [str(word) for pair in ports.items() for word in pair]
        ready = tmp_path / "ready.json"
        ready.write_text("of the last time")
        status, said = run(capsys, "up", "--data-dir", tmp_path, *arguments)
    assert (status, said) == (
        1,
        f"dit4c: port {port} on {host} is taken by another program. "
        f"End that program, or choose another with {option}\n",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "dit4c.log"}
    with locked_data_folder(tmp_path):
        pass


NO_ENGINE_HERE = (
    "no Docker engine answers and only root can start one. Run as root, or: "
    "sudo apt-get install docker.io && sudo usermod -aG docker $USER, and log in again."
)
SILENT = (
    "the Docker engine at {} does not answer. Start it, or unset DOCKER_HOST and DOCKER_CONTEXT."
)


@pytest.mark.parametrize(
    "address, sentence",
    [
        ("unix:///nowhere/docker.sock", SILENT),
        ("tcp://127.0.0.1:1", SILENT),
        ("what://is-this", SILENT),
        (None, NO_ENGINE_HERE),
    ],
    ids=["socket", "tcp", "no address", "nowhere"],
)
def test_an_engine_out_of_reach_is_said_in_a_line(capsys, tmp_path, monkeypatch, address, sentence):
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setattr(aiodocker.docker, "_sock_search_paths", [tmp_path / "no.sock"])
    if address is None:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setattr("os.geteuid", lambda: 1000)
    else:
        monkeypatch.setenv("DOCKER_HOST", address)
    ready = tmp_path / "ready.json"
    ready.write_text("of the last time")
    ports = [str(word) for pair in zip(PORTS, free_ports(len(PORTS)), strict=True) for word in pair]
    status, said = run(capsys, "up", "--data-dir", tmp_path, *ports)
    assert (status, said) == (1, f"dit4c: {sentence.format(address)}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "dit4c.log"}
    assert "Traceback" not in (tmp_path / "dit4c.log").read_text()


def test_what_is_removed_is_removed_at_the_engine_that_it_was_made_at(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    status, said = run(capsys, "down", "--data-dir", tmp_path)
    assert status == 1
    assert "the container engine does not answer" in said
    assert said.count("\n") == 1


def test_a_data_folder_that_cannot_be_written(capsys, tmp_path):
    file = tmp_path / "file"
    file.touch()
    status, said = run(capsys, "up", "--data-dir", file / "data")
    assert (status, said.count("\n")) == (1, 1)
    assert "can't be written" in said
    assert "--data-dir" in said


def test_two_in_one_folder(tmp_path):
    with locked_data_folder(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        with (
            pytest.raises(ConfigError, match="another 'dit4c up'"),
            locked_data_folder(tmp_path / "data"),
        ):
            raise AssertionError("let in twice")
    with locked_data_folder(tmp_path / "data"):
        assert (tmp_path / "data" / "lock").exists()


def test_a_login_link_without_an_installation(capsys, tmp_path):
    status, said = run(capsys, "login-link", "admin", "--data-dir", tmp_path)
    assert (status, said.count("\n")) == (1, 1)
    assert "no installation" in said


def test_a_key_without_a_portal(capsys, tmp_path):
    status, said = run(capsys, "key", "add", "node", "home", tmp_path / "k", "--data-dir", tmp_path)
    assert (status, said.count("\n")) == (1, 1)
    assert "no running portal" in said


def test_where_data_is_kept(tmp_path):
    assert default_data_folder({"DIT4C_DATA_DIR": "/srv/dit4c"}).as_posix() == "/srv/dit4c"
    assert default_data_folder({"XDG_DATA_HOME": "/x"}).as_posix() == "/x/dit4c-p2p"
