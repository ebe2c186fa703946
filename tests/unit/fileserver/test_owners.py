"""Owners that mounts give files to, and where they are kept."""

import errno
import os
import sqlite3

import pytest

from dit4c_p2p.fileserver.owners import OWN, Owner, Owners
from dit4c_p2p.sftp.operations import OWN_ID


@pytest.fixture
def root(tmp_path):
    (tmp_path / "files").mkdir()
    descriptor = os.open(tmp_path / "files", os.O_PATH)
    yield descriptor
    os.close(descriptor)


def test_owners_outlast_the_server(tmp_path, root):
    path = tmp_path / "owners.sqlite"
    owners = Owners(path, root)
    assert owners.get(7) == OWN and not path.exists(), "nothing is made before it is needed"
    owners.set(7, 1000, None)
    owners.set(7, None, 100)
    owners.set(8, 1, 1)
    owners.set(9, 5, 5)
    owners.set(9, OWN_ID, OWN_ID)
    owners.forget(8)
    owners.close()
    again = Owners(path, root)
    assert [again.get(one) for one in (7, 8, 9)] == [Owner(1000, 100), OWN, OWN]
    again.close()


def test_owners_of_another_directory_are_not_used(tmp_path, root):
    """A backup that was restored has other file ids."""
    path = tmp_path / "owners.sqlite"
    owners = Owners(path, root)
    owners.set(7, 1000, 100)
    owners.close()
    (tmp_path / "other").mkdir()
    other = os.open(tmp_path / "other", os.O_PATH)
    try:
        for _ in range(2):
            restored = Owners(path, other)
            assert restored.get(7) == OWN
            restored.close()
    finally:
        os.close(other)


def test_a_damaged_database_is_set_aside(tmp_path, root):
    path = tmp_path / "owners.sqlite"
    path.write_bytes(b"nonsense" * 1000)
    owners = Owners(path, root)
    owners.set(7, 1, 1)
    owners.close()
    assert Owners(path, root).get(7) == Owner(1, 1)
    assert (tmp_path / "owners.damaged").read_bytes().startswith(b"nonsense")


def test_an_owner_that_cannot_be_written_down_is_not_changed(tmp_path, root):
    owners = Owners(tmp_path / "owners.sqlite", root)
    owners.set(7, 1, 1)
    blocker = sqlite3.connect(tmp_path / "owners.sqlite")
    blocker.execute("DROP TABLE owners")
    blocker.close()
    with pytest.raises(OSError) as failed:
        owners.set(7, 2, 2)
    assert failed.value.errno == errno.EIO
    assert owners.get(7) == Owner(1, 1)
    owners.close()
