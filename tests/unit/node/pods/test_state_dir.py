"""What is kept of an instance."""

from dit4c_p2p.node.pods.state_dir import InstanceFolder, instances_with_files


def test_the_key_is_made_once_private_and_goes(tmp_path):
    folder = InstanceFolder(tmp_path, "abc")
    assert instances_with_files(tmp_path) == set()
    first = folder.key()
    assert folder.key().public_data == first.public_data
    path = tmp_path / "instances" / "abc"
    assert (path / "key").stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o700
    assert instances_with_files(tmp_path) == {"abc"}
    folder.remove()
    folder.remove()
    assert instances_with_files(tmp_path) == set()


def test_notes_outlive_the_agent(tmp_path):
    folder = InstanceFolder(tmp_path, "abc")
    assert (folder.published, folder.reason) == (False, "")
    folder.set_published()
    folder.set_reason("it was stopped as asked")
    again = InstanceFolder(tmp_path, "abc")
    assert (again.published, again.reason) == (True, "it was stopped as asked")
    again.set_reason("")
    again.set_reason("")
    assert folder.reason == ""
