"""A mount that is cut off: its programs go on, and what others have changed meanwhile stays."""

import contextlib
import errno
import os
import time

import pytest
from systems.mount_writers import check, end, writing
from systems.storage_line import Line
from systems.storage_mount import Mount, StockServer, needs_fuse

pytestmark = needs_fuse

# How long the network is cut under load; by hand longer.
CUT_S = float(os.environ.get("STORAGE_CUT_S", "2"))

FILES = ("closed", "held", "shorter", "replaced", "removed", "ours", "gone", "kept")
HELD = ("held", "shorter", "replaced", "removed", "ours")
OURS = b"written by the mount that is cut off"


@pytest.fixture
def line(server):
    line = Line(server)
    yield line
    line.close()


@pytest.fixture
def mounts(server, line, tmp_path):
    mounts = [Mount(one, server.shown, tmp_path / name, limit_s=600) for name, one in
              (("cut_off", line), ("other", server))]  # fmt: skip
    yield mounts
    line.flow()
    for mount in mounts:
        mount.end()


@contextlib.contextmanager
def stopped(line, mount):
    """The mount's process does nothing for a while, and what it has sent comes late."""
    mount.stop()
    yield
    mount.go_on()
    line.flow()


@contextlib.contextmanager
def broken_off(line, mount):
    """The connection falls silent, and ends."""
    yield
    line.break_off()
    line.flow()


@contextlib.contextmanager
def held_up(line, mount):
    """The connection falls silent, and then brings everything late."""
    yield
    line.flow()


def eventually(condition, what, limit_s=20):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def told_at_fsync(path):
    """The errno of an error that came after the file had been closed; 0: there was none."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        return error.errno
    else:
        return 0
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)


def close_all(handles):
    for handle in handles.values():
        with contextlib.suppress(OSError):  # who has asked was told before
            os.close(handle)


def conflict_copies(folder):
    return {name for name in os.listdir(folder) if " (conflict 20" in name}


@pytest.mark.parametrize("away", [broken_off, held_up, stopped])
def test_what_was_changed_elsewhere_stays_and_ours_is_kept_beside_it(server, line, mounts, away):
    cut_off, other = mounts
    name = f"conflicts {away.__name__}"
    here, there, stored = cut_off.path / name, other.path / name, server.stored / name
    # A folder in which the mount has changed no name: it has no write lease there.
    unowned = other.path / f"unowned {name}"
    unowned.mkdir()
    (unowned / "plain").write_bytes(b"before")
    plain = cut_off.path / unowned.name / "plain"
    here.mkdir()
    for file in FILES:
        (here / file).write_bytes(b"before")
    (here / "moved").mkdir()
    (here / "moved" / "inside").write_bytes(b"before")
    os.listdir(here)
    (here / "kept").write_bytes(b"before")  # by now it is known that there is room
    with contextlib.ExitStack() as stack:
        handles = {file: os.open(here / file, os.O_RDWR) for file in HELD}
        handles["inside"] = os.open(here / "moved" / "inside", os.O_RDWR)
        handles["plain"] = os.open(plain, os.O_RDWR)
        closed = os.open(here / "closed", os.O_RDWR)
        stack.callback(close_all, handles)
        line.fall_silent()
        os.write(closed, OURS)
        os.close(closed)
        for handle in handles.values():
            os.write(handle, OURS)
        for file in ("gone", "kept"):
            (here / file).unlink()
        with away(line, cut_off):
            for file in ("closed", "held", "kept"):
                (there / file).write_bytes(b"theirs")
            (unowned / "plain").write_bytes(b"theirs")
            (there / "moved").rename(there / "elsewhere")
            (there / "shorter").write_bytes(b"x" * 1000)
            (there / "new").write_bytes(b"theirs")
            (there / "new").rename(there / "replaced")
            (there / "removed").unlink()
        for file in ("held", "shorter", "replaced", "removed", "plain"):
            with pytest.raises(OSError) as caught:
                os.fsync(handles[file])
            assert caught.value.errno == errno.EIO
            with pytest.raises(OSError) as caught:
                os.write(handles[file], b"more")
            assert caught.value.errno == errno.EIO
        os.fsync(handles["ours"])
        assert told_at_fsync(here / "closed") == errno.EIO, "it had been closed before"
        assert told_at_fsync(here / "closed") == 0
        expected = {"closed", "held", "shorter", "replaced", "removed"}
        if away is broken_off:
            expected.add("inside")  # its folder has gone: it is in the next one
        else:
            os.fsync(handles["inside"])
            assert (there / "elsewhere" / "inside").read_bytes() == OURS
        eventually(lambda: len(conflict_copies(stored)) == len(expected), "conflict copies")
        (copy,) = conflict_copies(unowned)
        assert copy.startswith("plain (") and (unowned / copy).read_bytes() == OURS
        assert plain.read_bytes() == b"theirs"
        eventually(lambda: not (stored / "gone").exists(), "what we removed is gone")
        for file in ("closed", "held", "replaced", "kept"):
            assert (there / file).read_bytes() == (here / file).read_bytes() == b"theirs"
        assert (here / "shorter").read_bytes() == b"x" * 1000
        assert (here / "ours").read_bytes() == (there / "ours").read_bytes() == OURS
        assert not (here / "removed").exists() and not (there / "removed").exists()
        copies = conflict_copies(here)
        assert {copy.partition(" (")[0] for copy in copies} == expected
        assert copies == conflict_copies(there) == conflict_copies(stored)
        for copy in copies:
            assert (there / copy).read_bytes() == (here / copy).read_bytes() == OURS
    (here / "held").write_bytes(b"opened anew")
    assert (there / "held").read_bytes() == b"opened anew"


def test_a_file_that_is_removed_at_a_stock_server_is_kept_too(tmp_path):
    server = StockServer(tmp_path)
    stored = tmp_path / "stored"
    stored.mkdir()
    server.start()
    line = Line(server)
    mount = Mount(line, stored, tmp_path / "m")
    try:
        with (mount.path / "f").open("wb") as file:
            line.fall_silent()
            file.write(OURS)
            file.flush()
            (stored / "f").unlink()
            line.break_off()
            line.flow()
            with pytest.raises(OSError) as caught:
                os.fsync(file.fileno())
            assert caught.value.errno == errno.EIO
        (copy,) = os.listdir(stored)
        assert copy.startswith("f (conflict ") and (mount.path / copy).read_bytes() == OURS
    finally:
        mount.end()
        line.close()
        server.kill()


@pytest.mark.parametrize("ends", [False, True], ids=["silent", "ended"])
def test_programs_do_not_notice_that_the_network_is_cut(server, line, mounts, ends):
    folder = mounts[0].path / f"cut {ends}"
    folder.mkdir()
    writers = writing(folder)
    try:
        time.sleep(1)
        line.fall_silent()
        time.sleep(CUT_S)
        if ends:
            line.break_off()
        line.flow()
        before = [writer.rounds for writer in writers]
        eventually(
            lambda: all(w.rounds > b + 5 or w.error for w, b in zip(writers, before, strict=True)),
            "writers go on",
            60,
        )
    finally:
        end(writers)
    print([(writer.rounds, round(writer.slowest_s, 1)) for writer in writers])
    check(writers, server.stored / folder.name)
