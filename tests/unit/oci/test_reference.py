"""What is an image, for the portal's settings and for a node alike."""

import pytest

from dit4c_p2p.oci.reference import is_digest, split_image, split_tag

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "repository",
    [
        "tool",
        "lab/tool",
        "registry.example.org/lab/tool",
        "Registry.example.org/x.y/b_c",
        "127.0.0.1:5000/tool",
    ],
)
def test_a_reference_by_digest(repository):
    assert split_image(f"{repository}@{DIGEST}") == (repository, DIGEST)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tool:latest", ("tool", "latest")),
        ("127.0.0.1:5000/lab/tool:1.2_b-3", ("127.0.0.1:5000/lab/tool", "1.2_b-3")),
        ("tool", None),
        ("127.0.0.1:5000/tool", None),
        ("tool:", None),
        ("tool:-1", None),
        ("tool:" + "a" * 129, None),
        ("a" * 400 + ":1", None),
        (f"tool:1@{DIGEST}", None),
        (f"tool@{DIGEST}", None),
        (DIGEST, None),
        ("https://registry.example.org/tool:1", None),
        ("tool:1\n", None),
    ],
)
def test_a_reference_by_tag(text, parts):
    assert split_tag(text) == parts


def test_an_id_has_no_repository():
    assert split_image(DIGEST) == ("", DIGEST)
    assert is_digest(DIGEST)


@pytest.mark.parametrize(
    "name",
    [
        "@",
        "tool:1@",
        "registry.example.org/Tool@",
        "registry.example.org//tool@",
        "-/tool@",
        "tool/@",
        "https://registry.example.org/tool@",
        "a" * 400 + "@",
    ],
)
def test_what_is_no_image(name):
    assert split_image(f"{name}{DIGEST}") is None


@pytest.mark.parametrize("text", ["", "tool:latest", DIGEST[:-1], f"{DIGEST}\n", DIGEST.upper()])
def test_what_is_no_digest(text):
    assert split_image(text) is None
    assert not is_digest(text)
