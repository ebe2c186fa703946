"""What is sent to the engine."""

import io
import os
import tarfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.imagebuild.context import (
    ContextFile,
    context_files_below,
    context_hash,
    pack_context,
)


def tree(root: Path) -> Path:
    (root / "sub/__pycache__").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\n")
    (root / "sub/data").write_bytes(b"\0\1")
    (root / "sub/__pycache__/x.pyc").touch()
    return root


def test_files_below_are_named_from_the_folder(tmp_path: Path) -> None:
    files = context_files_below(tree(tmp_path), "in/")
    assert [file.name for file in files] == ["in/Dockerfile", "in/sub/data"]


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "Dockerfile", (0, 0))
    (two / "sub/data").chmod(0o700)
    archives = []
    for root in (one, two):
        archive = io.BytesIO()
        pack_context(reversed(context_files_below(root)), archive)
        assert archive.tell() == 0
        archives.append(archive.read())
    assert archives[0] == archives[1]
    assert context_hash(context_files_below(one), "p") == context_hash(
        context_files_below(two), "p"
    )


def test_the_archive_is_plain_and_owned_by_root(tmp_path: Path) -> None:
    archive = io.BytesIO()
    pack_context(context_files_below(tree(tmp_path)), archive)
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == ["Dockerfile", "sub/data"]
        assert {(member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0o644)}
        contents = tar.extractfile("sub/data")
        assert contents is not None
        assert contents.read() == b"\0\1"


def test_contents_names_and_facts_all_count(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("y")
    one, two = ContextFile("n", tmp_path / "a"), ContextFile("n", tmp_path / "b")
    renamed = ContextFile("m", tmp_path / "a")
    hashes = [
        context_hash([one], "parent"),
        context_hash([two], "parent"),
        context_hash([renamed], "parent"),
        context_hash([one], "other"),
        context_hash([], "parent"),
        context_hash([one, renamed], "parent"),
    ]
    assert len(set(hashes)) == len(hashes)


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_facts_do_not_run_into_each_other(one: list[str], two: list[str]) -> None:
    assert (context_hash([], *one) == context_hash([], *two)) == (one == two)
