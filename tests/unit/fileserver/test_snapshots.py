"""Snapshots: what has not changed is shared between them, and the old ones are thinned out."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.fileserver.snapshots import (
    FolderSnapshots,
    Stopped,
    snapshots_to_remove,
)
from dit4c_p2p.messages.snapshot_names import snapshot_name, snapshot_time

HOUR, DAY = 3600, 86400
NOW = 1_800_000_000


@pytest.fixture
def live(tmp_path):
    live = tmp_path / "live"
    (live / "deep").mkdir(parents=True)
    (live / "same").write_text("same")
    (live / "deep/changes").write_text("old")
    (live / "link").symlink_to("same")
    (live / "deep/run.sh").write_text("#!/bin/sh\n")
    (live / "deep/run.sh").chmod(0o755)
    os.mkfifo(live / "pipe")
    return live


@pytest.fixture
def snapshots(live, tmp_path):
    return FolderSnapshots(live, tmp_path / "kept", lambda: False)


def at(tmp_path, now):
    return tmp_path / "kept" / snapshot_name(now).decode()


def test_a_snapshot_stays_as_it_was(live, snapshots, tmp_path):
    copied = snapshots.make(NOW)
    assert copied.changed == copied.entries == 5
    (live / "deep/changes").write_text("new")
    (live / "same").unlink()
    first = at(tmp_path, NOW)
    assert (first / "same").read_text() == "same"
    assert (first / "deep/changes").read_text() == "old"
    assert (first / "link").readlink().name == "same"
    assert (first / "deep/run.sh").stat().st_mode & 0o777 == 0o755
    assert not (first / "pipe").exists()


def test_what_has_not_changed_is_shared_between_snapshots_alone(live, snapshots, tmp_path):
    snapshots.make(NOW)
    (live / "deep/changes").write_text("other")
    snapshots.make(NOW + HOUR)
    first, second = at(tmp_path, NOW), at(tmp_path, NOW + HOUR)
    assert (first / "same").samefile(second / "same")
    assert (second / "same").stat().st_nlink == 2, "and not with the live file"
    assert not (second / "same").samefile(live / "same")
    assert (first / "deep/changes").read_text() == "old"
    assert (second / "deep/changes").read_text() == "other"


def test_no_snapshot_is_made_of_what_has_not_changed(live, snapshots):
    assert snapshots.make(NOW) is not None
    assert snapshots.make(NOW + HOUR) is None
    (live / "link").unlink()
    assert snapshots.make(NOW + 2 * HOUR) is not None, "something has gone"
    assert len(snapshots.names()) == 2


def test_one_that_was_not_finished_is_made_anew(live, tmp_path):
    stops = iter([False, True])
    stopping = FolderSnapshots(live, tmp_path / "kept", lambda: next(stops))
    with pytest.raises(Stopped):
        stopping.make(NOW)
    assert stopping.names() == [] and os.listdir(tmp_path / "kept") == []
    (tmp_path / "kept/unfinished/deep").mkdir(parents=True)
    snapshots = FolderSnapshots(live, tmp_path / "kept", lambda: False)
    assert snapshots.make(NOW) is not None
    assert len(snapshots.names()) == 1


def test_folders_that_nobody_may_write_are_thinned_out_too(live, snapshots):
    (live / "deep").chmod(0o500)
    snapshots.make(NOW - 2 * DAY)
    (live / "same").write_text("later")
    snapshots.make(NOW)
    assert snapshots.thin(NOW, hourly=1, daily=1) == 1
    assert snapshots.names() == [snapshot_name(NOW)]


@given(st.sets(st.integers(0, 40 * DAY), max_size=60), st.integers(0, 30), st.integers(0, 30))
def test_of_each_hour_and_day_the_newest_is_kept(ages, hourly, daily):
    names = {snapshot_name(NOW - age): NOW - age for age in ages}
    gone = set(snapshots_to_remove(names, NOW, hourly, daily))
    kept = {name: made for name, made in names.items() if name not in gone}
    assert len(kept) <= 1 + hourly + daily
    if names:
        assert max(names.values()) in kept.values()
    for length, count in ((HOUR, hourly), (DAY, daily)):
        for slot in {made // length for made in names.values()}:
            if NOW // length - slot < count:
                newest = max(made for made in names.values() if made // length == slot)
                assert newest in kept.values()


@pytest.mark.parametrize("name", [b"", b"unfinished", b"2026-13-01T00-00-00Z", b"../x", b"lock"])
def test_other_names_are_no_snapshots(name):
    assert snapshot_time(name) is None


def test_a_name_tells_the_time():
    assert snapshot_time(snapshot_name(NOW)) == NOW
