"""What an app has written, as a layer: marks, order, the same bytes each time."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from dit4c_p2p.helpers.upload.layer import LayerFailed, layer_parts, measure_layer


def layer(root: Path | None, volumes: dict[str, Path] | None = None) -> bytes:
    """The whole tar."""
    out = bytearray()
    for part in layer_parts(root, volumes or {}):
        out += part.head
        if part.size:
            out += Path(os.fsdecode(part.path)).read_bytes()
        out += bytes(-part.size % 512)
    return bytes(out)


def entries(tar: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {one.name: one for one in archive}


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "root"
    made.mkdir()
    return made


def test_sorted_and_the_same_each_time(root):
    for name in ("b", "a/z", "a/y", "c"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    first = layer(root)
    assert list(entries(first)) == ["a", "a/y", "a/z", "b", "c"]
    os.utime(root / "a/y", (1, (root / "a/y").stat().st_mtime))
    assert layer(root) == first
    assert measure_layer(root, {}) == (len(first), 5)


def test_kinds_modes_and_links(root):
    (root / "private").write_text("x")
    (root / "private").chmod(0o600)
    (root / "tool").write_bytes(b"\x7fELF")
    (root / "link").symlink_to("/nowhere")
    os.link(root / "private", root / "second")
    os.mkfifo(root / "pipe")
    os.chown(root / "tool", 4_000_000, 7)
    (root / "tool").chmod(0o4755)
    found = entries(layer(root))
    assert (found["private"].mode, found["tool"].mode) == (0o600, 0o4755)
    assert (found["tool"].uid, found["tool"].gid) == (4_000_000, 7)
    assert (found["link"].issym(), found["link"].linkname) == (True, "/nowhere")
    assert (found["second"].islnk(), found["second"].linkname) == (True, "private")
    assert found["pipe"].isfifo()


def test_long_and_strange_names(root):
    long = "n" * 200
    (root / long).write_text("x")
    (root / os.fsdecode(b"caf\xe9")).write_text("y")
    names = [one.encode("utf-8", "surrogateescape") for one in entries(layer(root))]
    assert sorted(names) == sorted([long.encode(), b"caf\xe9"])


def test_deleted_files_and_replaced_folders(root):
    os.mknod(root / "gone", 0o600 | 0o020000, os.makedev(0, 0))
    (root / "new").mkdir()
    os.setxattr(root / "new", "trusted.overlay.opaque", b"y")
    (root / "new" / "file").write_text("x")
    assert list(entries(layer(root))) == [".wh.gone", "new", "new/.wh..wh..opq", "new/file"]


def test_attributes_that_programs_set_are_kept(root):
    (root / "file").write_text("x")
    os.setxattr(root / "file", "user.note", b"\xff\x00n")
    os.setxattr(root / "file", "trusted.secret", b"x")
    header = layer(root)
    assert b"SCHILY.xattr.user.note=\xff\x00n\n" in header
    assert b"trusted.secret" not in header


def test_what_is_not_the_apps_is_left_out(root):
    for name in ("etc/hosts", "etc/mine", "mnt/files/theirs", "srv/mnt/mine", ".dockerenv"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert list(entries(layer(root))) == [
        "etc",
        "etc/mine",
        "mnt",
        "srv",
        "srv/mnt",
        "srv/mnt/mine",
    ]


def test_a_volume_takes_the_place_of_what_the_image_had(root, tmp_path):
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    for folder in (outer, inner, root / "data"):
        folder.mkdir()
    (outer / "inner").mkdir()
    (outer / "work").write_text("x")
    (inner / "deep").write_text("y")
    found = list(entries(layer(root, {"/data": outer, "/data/inner": inner})))
    assert found == [
        "data",
        "data/.wh..wh..opq",
        "data/work",
        "data/inner",
        "data/inner/.wh..wh..opq",
        "data/inner/deep",
    ]
    # Where the engine tells the writable layer, what that has below /mnt is hidden.
    assert list(entries(layer(None, {"/data": inner}))) == [
        "mnt",
        "mnt/.wh..wh..opq",
        "data",
        "data/.wh..wh..opq",
        "data/deep",
    ]


def test_what_can_not_be_told_as_a_layer(root, monkeypatch):
    (root / ".wh.mine").write_text("x")
    with pytest.raises(LayerFailed, match="begins with"):
        layer(root)
    (root / ".wh.mine").unlink()
    (root / "moved").mkdir()
    os.setxattr(root / "moved", "trusted.overlay.redirect", b"/there")
    with pytest.raises(LayerFailed, match="patch"):
        layer(root)
    (root / "moved").rmdir()
    for number in range(4):
        (root / str(number)).write_bytes(bytes(3000))
    monkeypatch.setattr("dit4c_p2p.helpers.upload.layer.MAX_ENTRIES", 3)
    with pytest.raises(LayerFailed, match="more than 3 files"):
        layer(root)
    monkeypatch.setattr("dit4c_p2p.helpers.upload.layer.MAX_ENTRIES", 10)
    monkeypatch.setattr("dit4c_p2p.helpers.upload.layer.MAX_IMAGE_BYTES", 8000)
    with pytest.raises(LayerFailed, match="GiB"):
        measure_layer(root, {})
