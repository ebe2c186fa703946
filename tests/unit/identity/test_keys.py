import asyncssh
import pytest

from dit4c_p2p.identity import keys
from dit4c_p2p.identity.errors import InvalidKey


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "portal" / "key"
    first = keys.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.fingerprint(keys.load_or_create(path)) == keys.fingerprint(first)
    assert [p.name for p in path.parent.iterdir()] == ["key"]


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "key"
    keys.load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(InvalidKey) as caught:
        keys.load_or_create(path)
    assert "chmod 600" in caught.value.hint


def test_the_fingerprint_is_that_of_openssh_in_url_form():
    key = keys.generate()
    openssh = key.get_fingerprint().removeprefix("SHA256:")
    assert keys.fingerprint(key) == openssh.replace("+", "-").replace("/", "_")


def test_public_lines_round_trip():
    key = keys.generate()
    line = keys.public_line(key, "node-home")
    assert line.endswith(" node-home")
    assert keys.fingerprint(keys.parse_public(line)) == keys.fingerprint(key)


@pytest.mark.parametrize(
    ("algorithm", "options"), [("ssh-rsa", {"key_size": 2048}), ("ssh-dss", {})]
)
def test_weak_keys_are_refused_with_what_to_do(algorithm, options):
    key = asyncssh.generate_private_key(algorithm, **options)
    with pytest.raises(InvalidKey) as caught:
        keys.parse_public(key.export_public_key().decode())
    assert "ssh-keygen" in caught.value.hint


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "hello world", "\0"])
def test_what_is_no_key_is_refused(line):
    with pytest.raises(InvalidKey):
        keys.parse_public(line)
