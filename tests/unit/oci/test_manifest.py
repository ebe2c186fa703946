"""Manifests and indexes: what is read of them, and hostile ones."""

import json
from typing import Any

import pytest

from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import ImageTooLarge, InvalidImage
from dit4c_p2p.oci.manifest import (
    GIB,
    MAX_LAYERS,
    MAX_MANIFEST_BYTES,
    MediaType,
    parse_config,
    parse_manifest,
)

BLOB = Digest.of(b"x")


def blob(media_type: str = MediaType.LAYER, size: int = 1, digest: str = BLOB) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def image(**changes: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MediaType.MANIFEST,
        "config": blob(MediaType.CONFIG),
        "layers": [blob()],
    }
    document.update(changes)
    return json.dumps({k: v for k, v in document.items() if v is not None}).encode()


def test_a_manifest_is_read() -> None:
    body = image(layers=[blob(size=5), blob(size=7)], annotations={"a": "b"}, later="unknown")
    found = parse_manifest(body, "")
    assert found.digest == Digest.of(body)
    assert found.media_type == MediaType.MANIFEST
    assert [one.size for one in found.blobs] == [1, 5, 7]
    assert found.content_bytes == 13
    assert found.artifact_type == MediaType.CONFIG
    assert not found.is_index


def test_an_index_is_read() -> None:
    body = json.dumps({"schemaVersion": 2, "manifests": [blob(MediaType.MANIFEST)]}).encode()
    found = parse_manifest(body, MediaType.INDEX)
    assert found.is_index
    assert found.blobs == ()
    assert len(found.manifests) == 1


def test_a_layer_that_registries_do_not_hold_need_not_be_there() -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    assert len(parse_manifest(image(layers=[blob(foreign)]), "").blobs) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        image(schemaVersion=1),
        image(config=None),
        image(layers=None),
        image(layers={}),
        image(manifests=[]),
        image(mediaType="text/plain"),
        image(mediaType=MediaType.INDEX),
        image(layers=[blob(digest="sha256:abc")]),
        image(layers=[blob(digest="sha512:" + "0" * 128)]),
        image(layers=[blob(digest=f"{BLOB}/../x")]),
        image(layers=[blob(media_type="x")]),
        image(layers=[blob(media_type="a/b\r\nX: y")]),
        image(layers=[{"digest": BLOB}]),
        image(subject={"digest": "latest", "mediaType": "a/b", "size": 1}),
    ],
    ids=range(20),
)
def test_a_malformed_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidImage):
        parse_manifest(body, "")


def test_a_manifest_is_of_the_type_that_it_is_sent_as() -> None:
    with pytest.raises(InvalidImage, match="calls itself"):
        parse_manifest(image(), MediaType.INDEX)


@pytest.mark.parametrize(
    "body",
    [
        b" " * (MAX_MANIFEST_BYTES + 1),
        image(layers=[blob()] * (MAX_LAYERS + 1)),
        image(layers=[blob(size=21 * GIB)]),
        image(layers=[blob(size=7 * GIB)] * 3),
        image(layers=[blob(size=-1)]),
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MediaType.INDEX,
                "manifests": [blob(MediaType.MANIFEST)] * 1001,
            }
        ).encode(),
    ],
    ids=["bytes", "layers", "a layer", "layers together", "a negative size", "manifests"],
)
def test_an_image_over_the_limits_is_refused(body: bytes) -> None:
    with pytest.raises(ImageTooLarge):
        parse_manifest(body, "")


def test_a_configuration_names_its_layers() -> None:
    config = {"os": "linux", "architecture": "amd64"}
    rootfs = {"type": "layers", "diff_ids": [BLOB]}
    assert parse_config(json.dumps(config | {"rootfs": rootfs}).encode()).diff_ids == (BLOB,)
    for wrong in (config, config | {"rootfs": []}, config | {"rootfs": rootfs | {"type": "x"}}, 7):
        with pytest.raises(InvalidImage):
            parse_config(json.dumps(wrong).encode())
