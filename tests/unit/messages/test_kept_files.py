"""References to what an instance has left on a node."""

from dit4c_p2p.messages.kept_files import kept_reference, split_kept
from dit4c_p2p.oci.reference import split_image


def test_a_reference_names_an_instance_and_a_node():
    reference = kept_reference("abc", "node-away")
    assert split_kept(reference) == ("abc", "node-away")
    assert split_image(reference) is not None


def test_others_are_none():
    good = kept_reference("abc", "node-away")
    for text in (
        good.replace("abc", "other"),
        good[:-1] + "x",
        good.partition("@")[0],
        f"saved.dit4c.internal/instances/abc@sha256:{'0' * 64}",
        "",
    ):
        assert split_kept(text) is None, text
