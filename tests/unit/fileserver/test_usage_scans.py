"""Scans of a tree that changes while it is scanned."""

import asyncio
import os

import pytest
import pytest_asyncio

from dit4c_p2p.fileserver.lease_service import LeaseService
from dit4c_p2p.fileserver.quota import BLOCK_BYTES, scan_usage
from dit4c_p2p.fileserver.trees import Tree
from dit4c_p2p.fileserver.usage_scans import UsageScans


@pytest_asyncio.fixture
async def tree(tmp_path):
    leases = LeaseService(asyncio.get_running_loop(), lambda notices: None)
    tree = Tree("user-ada", tmp_path / "user-ada", leases)
    yield tree
    tree.close()


def make_folder(tree: Tree, name: str) -> None:
    tree.usage.take(BLOCK_BYTES)
    (tree.files_path / name).mkdir()


def remove_folder(tree: Tree, name: str) -> None:
    (tree.files_path / name).rmdir()
    tree.usage.give_back(BLOCK_BYTES)


@pytest.mark.parametrize("moment", ["before the scan reads it", "after the scan has read it"])
@pytest.mark.parametrize("change, blocks", [(make_folder, 3), (remove_folder, 1)])
async def test_a_change_during_a_scan_is_counted_once(tree: Tree, moment, change, blocks):
    """A tree of two folders, one of which is new to the count."""
    for name in ("first", "second"):
        (tree.files_path / name).mkdir()
    exact = asyncio.Event()
    scans = 0

    def count(folder, stopped):
        nonlocal scans
        scans += 1
        if scans == 1 and moment == "before the scan reads it":
            change(tree, "third" if change is make_folder else "second")
        counted = scan_usage(folder, stopped)
        if scans == 1 and moment == "after the scan has read it":
            change(tree, "third" if change is make_folder else "second")
        return counted

    correct = tree.usage.correct

    def report(scanned, start):
        if is_exact := correct(scanned, start):
            exact.set()
        return is_exact

    tree.usage.correct = report  # type: ignore[method-assign]
    counting = UsageScans(count, first_pause_s=0.01)
    try:
        counting.add(tree)
        async with asyncio.timeout(10):
            await exact.wait()
        assert tree.usage.used_bytes == blocks * BLOCK_BYTES
        assert scans == 2
    finally:
        await counting.close()


async def test_a_removed_file_that_is_open_counts_until_it_is_closed(tree: Tree):
    path = tree.files_path / "file"
    path.write_bytes(b"x" * BLOCK_BYTES * 2)
    status = path.stat()
    file = tree.opened(status.st_ino, status.st_size, tree.files_path.stat().st_ino)
    path.unlink()
    tree.removed(status.st_ino, status.st_size)
    start = tree.usage.begin_scan()
    assert tree.usage.correct(scan_usage(tree.root_fd, lambda: False) + tree.removed_bytes(), start)
    assert tree.usage.used_bytes == 2 * BLOCK_BYTES
    tree.closed(file)
    assert tree.usage.used_bytes == 0


def test_folders_that_the_tree_makes_count(tree: Tree):
    os.close(tree.folder_fd("instances/one"))
    os.close(tree.folder_fd("instances/one"))
    os.close(tree.folder_fd("private", snapshots=True))
    assert tree.usage.used_bytes == 2 * BLOCK_BYTES == scan_usage(tree.root_fd, lambda: False)
