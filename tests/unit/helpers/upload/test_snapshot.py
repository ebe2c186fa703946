"""A copy made while files change: it is what there was when it was finished."""

import os
import time
from pathlib import Path

import pytest

from dit4c_p2p.helpers.upload import snapshot as module
from dit4c_p2p.helpers.upload.layer import LayerFailed, Part, layer_parts, measure_layer
from dit4c_p2p.helpers.upload.snapshot import Snapshot, stored_parts, stored_size


def tar(of) -> bytes:
    out = bytearray()
    for part in of:
        out += part.head + content_of(part) + bytes(-part.size % 512)
    return bytes(out)


def content_of(part: Part) -> bytes:
    if not part.size:
        return b""
    with Path(os.fsdecode(part.path)).open("rb") as file:
        file.seek(part.offset)
        return file.read(part.size)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ROUND_S", 0.05)
    monkeypatch.setattr(module, "_CLOCK_NS", 20_000_000)
    monkeypatch.setattr(module, "_KEEP_FREE_BYTES", 0)
    made = tmp_path / "root"
    (made / "deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c", "gone"):
        (made / name).write_bytes(os.urandom(70_000))
    # What has just been written is not copied by a round.
    time.sleep(0.04)
    return made


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "copy"
    made.mkdir()
    return made


def test_what_changes_after_the_rounds_is_copied_at_the_end(root, folder):
    said = []
    made = Snapshot(folder, root, {}, lambda done, total: said.append((done, total)))
    made.rounds()
    assert not made.is_complete
    before = (root / "a").stat()
    (root / "a").write_bytes(os.urandom(70_000))
    # The time that a program sets says nothing.
    os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    (root / "b").chmod(0o600)
    (root / "gone").unlink()
    (root / "new").write_bytes(b"new")
    made.finish()
    expected = tar(layer_parts(root, {}))
    assert tar(stored_parts(folder)) == expected
    assert stored_size(folder) == measure_layer(root, {}) == (len(expected), 5)
    assert made.changed_bytes == 140_003
    # What the app does after that is none of it.
    (root / "deep/c").write_bytes(b"later")
    assert tar(stored_parts(folder)) == expected
    assert Snapshot(folder, root, {}).is_complete
    assert said[-1] == (280_000, 280_000)


def test_a_file_that_has_just_been_written_is_not_trusted(root, folder, monkeypatch):
    """A mapped page may change again without another stamp until it is flushed."""
    monkeypatch.setattr(module, "_CLOCK_NS", 3600 * 10**9)
    made = Snapshot(folder, root, {})
    made.rounds()
    made.finish()
    assert made.changed_bytes == 280_000
    assert tar(stored_parts(folder)) == tar(layer_parts(root, {}))


def test_files_that_vanish_meanwhile_are_left_out(root, folder, monkeypatch):
    real, lost = os.lstat, []

    def lstat(path):
        if os.fsdecode(path).endswith("/gone") and not lost:
            lost.append(path)
            (root / "gone").unlink()
        return real(path)

    monkeypatch.setattr("dit4c_p2p.helpers.upload.layer.os.lstat", lstat)
    made = Snapshot(folder, root, {})
    made.rounds()
    made.finish()
    assert lost
    assert tar(stored_parts(folder)) == tar(layer_parts(root, {}))


def test_a_volume_is_a_part_of_it(root, folder, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "kept").write_text("kept")
    made = Snapshot(folder, root, {"/data": volume})
    made.rounds()
    (volume / "kept").write_text("changed")
    made.finish()
    assert tar(stored_parts(folder)) == tar(layer_parts(root, {"/data": volume}))


def test_another_file_system_is_copied_by_another_call(root, folder, monkeypatch):
    def refuse(*arguments):
        raise OSError(18, "another file system")

    monkeypatch.setattr("dit4c_p2p.helpers.upload.snapshot.os.copy_file_range", refuse)
    made = Snapshot(folder, root, {})
    made.rounds()
    made.finish()
    assert tar(stored_parts(folder)) == tar(layer_parts(root, {}))


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("_KEEP_FREE_BYTES", 2**60, "no_room"), ("MAX_IMAGE_BYTES", 1000, "too_large")],
)
def test_what_can_not_be_copied(root, folder, monkeypatch, name, value, code):
    monkeypatch.setattr(module, name, value)
    with pytest.raises(LayerFailed) as failed:
        Snapshot(folder, root, {}).rounds()
    assert failed.value.code == code
