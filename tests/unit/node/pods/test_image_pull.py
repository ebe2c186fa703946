"""What an engine says while it fetches an image → what a person is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.node.errors import DiskFull, RegistryError, UnknownImage
from dit4c_p2p.node.pods.image_pull import Layers, pull_failure_in_words

MIB = 1024**2


def says(layers: Layers, id: str, status: str, current: int = 0, total: int = 0) -> None:
    detail = {"current": current, "total": total} if total else {}
    layers.heard({"id": id, "status": status, "progressDetail": detail})


def test_bytes_over_all_layers():
    layers = Layers()
    layers.heard({"id": "sha256:0", "status": "Pulling from tool"})
    assert layers.progress().fraction is None
    for id in "ab":
        says(layers, id, "Pulling fs layer")
    says(layers, "a", "Downloading", 5 * MIB, 10 * MIB)
    first = layers.progress()
    assert first.info == "Fetching the image: 5 MiB of about 20 MiB"
    assert first.fraction == 5 / 40
    says(layers, "b", "Downloading", 0, 30 * MIB)
    assert layers.progress().info == "Fetching the image: 5 MiB of 40 MiB"
    assert layers.progress().fraction == first.fraction, "never back"
    says(layers, "a", "Download complete")
    says(layers, "b", "Verifying Checksum")
    says(layers, "a", "Extracting", 10 * MIB, 10 * MIB)
    assert (layers.progress().info, layers.progress().fraction) == ("Unpacking the image", 50 / 80)
    for id in "ab":
        says(layers, id, "Pull complete")
    assert layers.progress().fraction == 1.0


def test_what_is_here_already_has_no_bytes():
    layers = Layers()
    says(layers, "a", "Pulling fs layer")
    says(layers, "a", "Already exists")
    says(layers, "b", "Pulling fs layer")
    says(layers, "b", "Downloading", 1 * MIB, 4 * MIB)
    assert layers.progress().info.startswith("Fetching the image: 1 MiB of")
    assert layers.progress().fraction == 1 / 8


STATUSES = (
    "Pulling fs layer",
    "Waiting",
    "Downloading",
    "Verifying Checksum",
    "Download complete",
    "Extracting",
    "Pull complete",
    "Already exists",
    "Retrying in 3 seconds",
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(STATUSES),
            st.integers(0, 1000),
            st.integers(0, 1000),
        )
    )
)
def test_whatever_it_says_the_fraction_is_one_and_never_goes_back(said):
    layers, last = Layers(), 0.0
    for id, status, current, total in said:
        says(layers, id, status, current, total)
        fraction = layers.progress().fraction
        assert fraction is None or last <= fraction <= 1.0
        last = fraction or last


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ("dial tcp 192.0.2.1:443: connect: connection refused", RegistryError, "is refused"),
        ("dial tcp: lookup r.example: no such host", RegistryError, "known by its name"),
        ("net/http: TLS handshake timeout", RegistryError, "in time"),
        ("server gave HTTP response to HTTPS client", RegistryError, "no HTTPS"),
        ("unauthorized: authentication required", RegistryError, "asks for a login"),
        ("manifest unknown: manifest unknown", UnknownImage, "has no image"),
        ("write /var/lib/x: no space left on device", DiskFull, "is full"),
        ('error parsing HTTP 404 response body: "<html>of the house"', RegistryError, "otherwise"),
    ],
)
def test_what_answers_in_the_owners_network_is_for_nobody_else_to_read(caplog, words, kind, says):
    """security.md 1: the engine's words hold what it was answered, by whatever is at that name."""
    reference = f"r.example/tool@sha256:{'0' * 64}"
    failure = pull_failure_in_words(reference, "r.example/tool", words)
    assert isinstance(failure, kind)
    assert says in str(failure)
    assert words not in failure.one_line() and "house" not in failure.one_line()
    if kind is RegistryError:
        assert words in caplog.text, "its owner reads it in the log"
