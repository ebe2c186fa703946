"""Requests that want out of the store, or into what they may not have, or just too much."""

import json
import os

import pytest
from systems.image_server import ImageServerAtWork, descriptor, image_manifest

from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.manifest import GIB, MediaType
from dit4c_p2p.oci.names import BaseRepository

ONE = "instances/one"
CONFIG = json.dumps(
    {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}
).encode()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd",
        "/v2/a/../b/blobs/sha256:" + "0" * 64,
        "/v2/a%2f..%2fb/manifests/x",
        "/v2/%2e%2e/%2e%2e/blobs/uploads/",
        "/v2/a/blobs/..%2f..%2findex.sqlite3",
        "/v2/a/blobs/uploads/..%2f..%2fblobs",
        "/v2/a/blobs/uploads/%00",
        "/v2/a/manifests/..",
        "/v2/" + "a/" * 500 + "tags/list",
        "/v2/a/_dit4c/blobs/..%2fx",
        "/v2//blobs/x",
        "/v2/_catalog",
        "/v1/search",
        "/",
    ],
)
async def test_a_path_that_is_none_of_the_api_is_refused(work, api, path):
    before = sorted(work.folder.rglob("*"))
    for method in ("GET", "PUT", "POST", "PATCH", "DELETE"):
        answer = await api.ask(method, path, data=None if method == "GET" else b"x")
        assert 400 <= answer.status < 500, (method, answer.status)
        assert answer.json["errors"][0]["code"]
    assert sorted(work.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"x" * (4 * 1024 * 1024 + 1), 413, "SIZE_INVALID"),
        (b"[" * 1_000_000, 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2, "a": ' + b'{"a":' * 100_000, 400, "MANIFEST_INVALID"),
        (json.dumps(image_manifest(CONFIG, *[b"x"] * 129)).encode(), 413, "SIZE_INVALID"),
        (
            json.dumps(
                image_manifest(CONFIG)
                | {"layers": [descriptor(b"x", MediaType.LAYER) | {"size": 21 * GIB}]}
            ).encode(),
            413,
            "SIZE_INVALID",
        ),
        (
            json.dumps(
                image_manifest(CONFIG)
                | {"layers": [descriptor(b"x", MediaType.LAYER) | {"size": 10**400}]}
            ).encode(),
            413,
            "SIZE_INVALID",
        ),
    ],
    ids=["4 MiB", "deep", "deeper", "129 layers", "21 GiB", "a number of 400 digits"],
)
async def test_a_hostile_manifest_is_refused(api, body, status, code):
    answer = await api.ask(
        "PUT", f"/v2/{ONE}/manifests/x", data=body, headers={"Content-Type": MediaType.MANIFEST}
    )
    assert (answer.status, answer.code) == (status, code)


async def test_a_size_that_is_not_the_blobs_own_is_refused(api):
    await api.push_blob(ONE, CONFIG)
    await api.push_blob(ONE, b"layer")
    document = image_manifest(CONFIG, b"layer")
    document["layers"][0]["size"] = 6
    answer = await api.push_manifest(ONE, "x", document)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


async def test_a_blob_over_the_limit_is_refused_and_given_up(tmp_path):
    async with ImageServerAtWork(tmp_path, keep_free=0, blob=1_000_000) as work, work.api() as api:
        location = await api.begin(ONE)
        answer = await api.ask("PATCH", location, data=os.urandom(1_000_001))
        assert (answer.status, answer.code) == (413, "SIZE_INVALID")
        assert (await api.ask("GET", location)).status == 404
        assert work.server.store.files.all_incoming() == []


async def test_a_base_takes_only_the_image_of_its_name(api):
    """issue, decision 1: whoever holds it may upload it, its digest verified."""
    layer = b"the tool's own layer"
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]},
        }
    ).encode()
    base = str(BaseRepository(Digest.of(config)))
    other = b"another layer"
    for content in (layer, other, CONFIG):
        await api.push_blob(base, content)
    answer = await api.push_manifest(base, "x", image_manifest(CONFIG))
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    answer = await api.push_manifest(base, "x", image_manifest(config, layer))
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    await api.push_blob(base, config)
    for wrong in ((other,), (layer, other), ()):
        answer = await api.push_manifest(base, "x", image_manifest(config, *wrong))
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert (await api.push_manifest(base, "x", image_manifest(config, layer))).status == 201


async def test_a_repository_has_a_cap_of_unfinished_uploads(api):
    answers = [(await api.ask("POST", f"/v2/{ONE}/blobs/uploads/")).status for _ in range(257)]
    assert answers.count(202) == 256
    assert answers[-1] == 429


async def test_a_blob_that_a_manifest_names_is_not_deleted(api):
    await api.push_image(ONE, "v1", b"layer")
    answer = await api.ask("DELETE", f"/v2/{ONE}/blobs/{Digest.of(b'layer')}")
    assert (answer.status, answer.code) == (409, "DENIED")
