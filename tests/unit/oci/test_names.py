"""Repositories, tags and digests."""

import pytest

from dit4c_p2p.errors import DitError
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import InvalidDigest
from dit4c_p2p.oci.names import (
    BaseRepository,
    InstanceRepository,
    is_repository,
    is_tag,
    parse_repository,
    split_reference,
)

DIGEST = Digest.of(b"")


@pytest.mark.parametrize("name", ["a", "a/b/c", "a.b_c__d-e--f", "instances/x1", "0"])
def test_a_name_of_a_repository(name: str) -> None:
    assert is_repository(name)


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "A", "..", "a/../b", "a/_dit4c", "a___b", "ä", "a" * 201]
)
def test_no_name_of_a_repository(name: str) -> None:
    assert not is_repository(name)


def test_the_two_kinds_of_repositories() -> None:
    for repository in (InstanceRepository("x1"), BaseRepository(DIGEST)):
        assert is_repository(str(repository))
        assert parse_repository(str(repository)) == repository


@pytest.mark.parametrize(
    "name", ["x", "instances", "instances/", "instances/A", "instances/a/b", "bases/sha256-00", ""]
)
def test_no_repository_of_this_system(name: str) -> None:
    with pytest.raises(DitError):
        parse_repository(name)


def test_references() -> None:
    assert split_reference("latest") == ("latest", None)
    assert split_reference(DIGEST) == ("", DIGEST)
    assert is_tag("_" + "a" * 127)
    for wrong in ("", ".a", "a" * 129, "a:b", "sha256:00", "a/b"):
        assert not is_tag(wrong)
        with pytest.raises(DitError):
            split_reference(wrong)


def test_digests() -> None:
    assert Digest.of_raw(DIGEST.raw) == DIGEST == f"sha256:{DIGEST.hex}"
    with pytest.raises(InvalidDigest, match="sha512"):
        Digest.parse("sha512:" + "0" * 128)
    for wrong in ("", "sha256:", DIGEST.upper(), DIGEST + "0", DIGEST + "\n"):
        with pytest.raises(InvalidDigest):
            Digest.parse(wrong)
