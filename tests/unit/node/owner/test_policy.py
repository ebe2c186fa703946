"""What an owner agrees to."""

import pytest

from dit4c_p2p.node.errors import PolicyRefused
from dit4c_p2p.node.owner.policy import (
    Policy,
    check_image_by_policy,
    check_instance,
    check_room_by_policy,
    parse_image,
)

IMAGE = "sha256:" + "a" * 64


@pytest.mark.parametrize("image", ["busybox", "sha256:abc", IMAGE.upper(), IMAGE + "\n", ""])
def test_images_by_digest_only(image):
    with pytest.raises(PolicyRefused, match="not an image digest"):
        check_image_by_policy(Policy(), image)


@pytest.mark.parametrize(
    "repository", ["tool", "library/tool", "127.0.0.1:5000/a/b_c", "Registry.example.org/x.y/z"]
)
def test_references_by_digest(repository):
    assert parse_image(f"{repository}@{IMAGE}") == (repository, IMAGE)
    check_image_by_policy(Policy(images=(IMAGE,)), f"{repository}@{IMAGE}")
    check_image_by_policy(Policy(images=(f"{repository}@{IMAGE}",)), f"{repository}@{IMAGE}")


@pytest.mark.parametrize(
    "repository",
    ["", "A", "../x", "x/../y", "x:latest", "h:99999999/x", "x ", "x?y", "x%2fy", "a" * 400, "ä"],
)
def test_references_that_are_none(repository):
    with pytest.raises(PolicyRefused, match="not an image digest"):
        check_image_by_policy(Policy(), f"{repository}@{IMAGE}")


def test_images_that_the_owner_names():
    check_image_by_policy(Policy(), IMAGE)
    check_image_by_policy(Policy(images=(IMAGE,)), IMAGE)
    with pytest.raises(PolicyRefused, match="does not allow"):
        check_image_by_policy(Policy(images=("sha256:" + "b" * 64,)), IMAGE)


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("registry.example.org/lab/tool", "registry.example.org"),
        ("Registry.Example.org/tool", "registry.example.org"),
        ("192.168.1.1:5000/tool", "192.168.1.1:5000"),
        ("localhost/tool", "localhost"),
        ("tool", "docker.io"),
        ("lab/tool", "docker.io"),
    ],
)
def test_registries_that_the_owner_names(reference, registry):
    """The engine asks them from inside the owner's network."""
    image = f"{reference}@{IMAGE}"
    check_image_by_policy(Policy(), image)
    check_image_by_policy(Policy(registries=(registry,)), image)
    others = Policy(registries=("example.org",), images=(image,))
    with pytest.raises(PolicyRefused, match=f"does not allow images from {registry}"):
        check_image_by_policy(others, image)


def test_what_is_on_the_machine_comes_from_no_registry():
    check_image_by_policy(Policy(registries=("registry.example.org",)), IMAGE)


@pytest.mark.parametrize("instance", ["", "../x", "A", "a_b", "x" * 41, "-a", "a\n"])
def test_an_instance_is_an_id(instance):
    with pytest.raises(PolicyRefused):
        check_instance(instance)


def test_places():
    check_room_by_policy(Policy(instances=2), "a", {"b"})
    check_room_by_policy(Policy(instances=2), "a", {"a", "b"})
    with pytest.raises(PolicyRefused, match="lends 2 places and 2 are taken"):
        check_room_by_policy(Policy(instances=2), "a", {"b", "c"})
    with pytest.raises(PolicyRefused, match="lends 0 places"):
        check_room_by_policy(Policy(instances=0), "a", set())
