"""What a mount sends behind its programs: it arrives, in order, by itself and when asked for."""

import contextlib
import os
import shutil
import subprocess
import time

import pytest
from systems.storage_line import Line
from systems.storage_mount import Mount, needs_fuse

from dit4c_p2p.node.pods.files_mount import said_at_its_end

pytestmark = needs_fuse


@pytest.fixture
def mount(server, tmp_path):
    mount = Mount(server, server.shown, tmp_path / "m")
    yield mount
    mount.end()


def write_files(folder, count, data=b"contents"):
    folder.mkdir()
    for number in range(count):
        (folder / f"f{number}").write_bytes(data + b"%d" % number)


def fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def test_all_is_at_the_server_when_a_folder_has_been_synced(server, mount):
    write_files(mount.path / "synced", 60)
    for number in range(0, 60, 2):
        (mount.path / "synced" / f"f{number}").unlink()
    fsync(mount.path / "synced")
    stored = server.stored / "synced"
    assert sorted(os.listdir(stored)) == sorted(f"f{number}" for number in range(1, 60, 2))
    assert (stored / "f59").read_bytes() == b"contents59"


def test_all_is_at_the_server_a_second_after_its_writer_has_fallen_quiet(server, mount):
    write_files(mount.path / "quiet", 40)
    (mount.path / "quiet" / "f0").unlink()
    end = time.monotonic() + 5
    while len(list((server.stored / "quiet").glob("f*"))) != 39 and time.monotonic() < end:
        time.sleep(0.02)
    assert (server.stored / "quiet" / "f39").read_bytes() == b"contents39"
    assert not (server.stored / "quiet" / "f0").exists()


def test_attributes_that_were_set_behind_are_those_that_are_read(server, mount):
    write_files(mount.path / "set", 3)
    for number in range(3):
        path = mount.path / "set" / f"f{number}"
        with path.open("ab") as file:
            file.write(b"more")
            file.flush()
            os.utime(file.fileno(), ns=(5, 1_234_567_890_123_456_789))
        path.chmod(0o640)
        status = path.stat()
        assert (status.st_mtime_ns, status.st_mode & 0o777) == (1_234_567_890_123_456_789, 0o640)
    fsync(mount.path / "set")
    stored = (server.stored / "set" / "f2").stat()
    assert (stored.st_mtime_ns, stored.st_mode & 0o777) == (1_234_567_890_123_456_789, 0o640)
    assert (server.stored / "set" / "f2").read_bytes() == b"contents2more"


def test_what_is_sent_behind_is_seen_by_the_next_program(mount):
    for _ in range(3):
        write_files(mount.path / "seen", 20)
        assert len(os.listdir(mount.path / "seen")) == 20
        assert (mount.path / "seen" / "f7").read_bytes() == b"contents7"
        (mount.path / "seen" / "f7").unlink()
        assert not (mount.path / "seen" / "f7").exists()
        (mount.path / "seen" / "f7").write_bytes(b"again")
        (mount.path / "seen" / "f7").rename(mount.path / "seen" / "f8")
        assert (mount.path / "seen" / "f8").read_bytes() == b"again"
        shutil.rmtree(mount.path / "seen")
        assert not (mount.path / "seen").exists()


def test_a_second_mount_sees_everything_at_once(server, mount, tmp_path):
    other = Mount(server, server.shown, tmp_path / "other")
    try:
        for turn in range(3):
            folder = f"both{turn}"
            write_files(mount.path / folder, 25)
            for number in range(0, 25, 5):
                (mount.path / folder / f"f{number}").unlink()
            left = sorted(f"f{number}" for number in range(25) if number % 5)
            assert sorted(os.listdir(other.path / folder)) == left
            assert [(other.path / folder / name).read_bytes() for name in left] == [
                b"contents" + name[1:].encode() for name in left
            ]
    finally:
        other.end()


def test_nothing_is_lost_when_a_mount_is_told_to_end_at_once(server, tmp_path):
    mount = Mount(server, server.shown, tmp_path / "ended")
    write_files(mount.path / "ended", 300, b"x" * 3000)
    for number in range(0, 300, 3):
        (mount.path / "ended" / f"f{number}").unlink()
    assert said_at_its_end(mount.drain()) == ""
    subprocess.run(["umount", "-l", mount.path], check=True)
    names = sorted(os.listdir(server.stored / "ended"))
    assert names == sorted(f"f{number}" for number in range(300) if number % 3)
    assert all(
        (server.stored / "ended" / name).read_bytes() == b"x" * 3000 + name[1:].encode()
        for name in names
    )


def test_what_can_not_be_sent_when_a_mount_is_told_to_end_is_named(server, tmp_path):
    line = Line(server)
    mount = Mount(line, server.shown, tmp_path / "named")
    try:
        write_files(mount.path / "named", 300, b"x" * 3000)
        with (mount.path / "named" / "open").open("wb") as file:
            line.fall_silent()
            for number in range(300):
                (mount.path / "named" / f"f{number}").chmod(0o640)
            file.write(b"too late")
            file.flush()
            told = said_at_its_end(mount.drain())
            subprocess.run(["umount", "-l", mount.path], check=True)
            with contextlib.suppress(OSError):
                file.close()
    finally:
        mount.end()
        line.close()
    there = [path for path in (server.stored / "named").glob("f*") if path.stat().st_mode & 0o20]
    sentence, _, names = told.partition(": ")
    assert sentence == "these files were not sent to the file server"
    named, _, more = names.partition(" and ")
    missing = len(named.split(", ")) + int(more.removesuffix(" more"))
    assert len(there) + missing == 301 and "named/open" in named
