"""What an owner agrees to."""

import pytest

from dit4c_p2p.node.failures import PolicyRefused
from dit4c_p2p.node.policy import Policy, check_image, check_instance, check_room

IMAGE = "sha256:" + "a" * 64


@pytest.mark.parametrize("image", ["busybox", "sha256:abc", IMAGE.upper(), IMAGE + "\n", ""])
def test_images_by_digest_only(image):
    with pytest.raises(PolicyRefused, match="not an image digest"):
        check_image(Policy(), image)


def test_images_that_the_owner_names():
    check_image(Policy(), IMAGE)
    check_image(Policy(images=frozenset({IMAGE})), IMAGE)
    with pytest.raises(PolicyRefused, match="does not allow"):
        check_image(Policy(images=frozenset({"sha256:" + "b" * 64})), IMAGE)


@pytest.mark.parametrize("instance", ["", "../x", "A", "a_b", "x" * 41, "-a", "a\n"])
def test_an_instance_is_an_id(instance):
    with pytest.raises(PolicyRefused):
        check_instance(instance)


def test_places():
    check_room(Policy(max_pods=2), "a", {"b"})
    check_room(Policy(max_pods=2), "a", {"a", "b"})
    with pytest.raises(PolicyRefused, match="lends 2 places and 2 are taken"):
        check_room(Policy(max_pods=2), "a", {"b", "c"})
    with pytest.raises(PolicyRefused, match="lends 0 places"):
        check_room(Policy(max_pods=0), "a", set())
