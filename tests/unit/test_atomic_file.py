"""security.md section 5, disk full: a clear error, nothing corrupt, goes on when there is room."""

import os
import stat
from pathlib import Path

import pytest
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.atomic_file import NotWritten, is_full_disk_error, write_whole
from dit4c_p2p.cli import main
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import fingerprint, load_or_create
from dit4c_p2p.run.process import locked_data_folder


@pytest.fixture
def disk(tmp_path):
    with SmallDisk(tmp_path / "small", size="64k") as disk:
        yield disk


def test_a_file_is_for_its_owner_only_and_its_folder_too(tmp_path):
    path = tmp_path / "new" / "ready.json"
    write_whole(path, b"hello")
    assert path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["ready.json"]


@pytest.mark.parametrize("kind", ["file", "symlink", "hardlink"])
def test_what_others_have_put_in_its_place_gets_none_of_it(tmp_path, kind):
    """In a folder that is everybody's, such as /tmp."""
    path, theirs = tmp_path / "ready.json", tmp_path / "theirs"
    partial = tmp_path / f"ready.json.{os.getpid()}.partial"
    theirs.write_bytes(b"theirs")
    if kind == "file":
        theirs = partial
        theirs.write_bytes(b"theirs")
        theirs.chmod(0o666)
    elif kind == "symlink":
        partial.symlink_to(theirs)
    else:
        partial.hardlink_to(theirs)
    with theirs.open("rb") as held:
        write_whole(path, b"a token")
        assert held.read() == b"theirs"
    assert path.read_bytes() == b"a token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_on_disk_with_its_name_before_anybody_relies_on_it(tmp_path, monkeypatch):
    """What a power cut would leave behind, at each step."""
    path = tmp_path / "new" / "run"
    steps = []

    def synced(descriptor):
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append((os.path.relpath(target, tmp_path), path.exists()))

    monkeypatch.setattr(os, "fsync", synced)
    write_whole(path, b"2 ")
    partial = f"new/run.{os.getpid()}.partial"
    assert steps == [(partial, False), ("new", True), (".", True)]
    steps.clear()
    write_whole(path, b"3 ")
    assert steps == [(partial, True), ("new", True)]
    steps.clear()
    write_whole(path, b"4 ", lasting=False)
    assert steps == []


def test_a_place_where_no_file_can_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotWritten, match=f"{tmp_path}/file/below can't be written"):
        write_whole(tmp_path / "file" / "below", b"")


class TestOnAFullDisk:
    pytestmark = ONLY_ROOT

    def test_what_was_there_stays_and_nothing_else(self, disk):
        path = disk.folder / "about.json"
        write_whole(path, b"before")
        disk.fill()
        with pytest.raises(NotWritten) as caught:
            write_whole(path, b"after" * 100)
        assert str(caught.value) == f"{path} can't be written: No space left on device"
        assert "make room" in caught.value.hint
        assert is_full_disk_error(caught.value.error)
        assert path.read_bytes() == b"before"
        assert not list(disk.folder.glob("*.partial"))
        disk.make_room()
        write_whole(path, b"after")
        assert path.read_bytes() == b"after"

    def test_a_key_is_made_when_there_is_room(self, disk):
        path = disk.folder / "node" / "key"
        disk.fill()
        with pytest.raises(NotWritten, match="key can't be written"):
            load_or_create(path)
        assert not list(disk.folder.glob("**/key*"))
        disk.make_room()
        made = load_or_create(path)
        assert fingerprint(load_or_create(path)) == fingerprint(made)

    def test_a_command_says_it_in_one_line(self, disk, tmp_path, capsys):
        file = tmp_path / "portal.toml"
        file.write_text(
            f'kind = "portal"\ndata_folder = "{disk.folder}"\nurl = "http://localhost:8080"\n'
            'listen = ["127.0.0.1:8080"]\nuser_url = "http://{id}.localhost:8081/"\n'
            'routers = [{id = "r1", ssh = ["127.0.0.1:22"], http = ["127.0.0.1:80"]}]\n'
        )
        disk.fill()
        assert main(["portal", "key", "--config", str(file)]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(disk.folder) in said
        assert "No space left on device. Make room" in said


def test_a_data_folder_on_a_full_disk_needs_room_and_not_another_place(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with (
        pytest.raises(ConfigError, match="No space left") as caught,
        locked_data_folder(tmp_path / "data"),
    ):
        pass
    assert "make room" in caught.value.hint
