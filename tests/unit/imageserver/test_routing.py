"""What a path asks for; repositories may have the API's own words in their names."""

import pytest

from dit4c_p2p.imageserver.routing import Asked, InvalidRepository, RegistryEndpoint, read_path

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v2/", Asked(RegistryEndpoint.BASE)),
        ("/v2", Asked(RegistryEndpoint.BASE)),
        ("/v2/_oci/ext/discover", Asked(RegistryEndpoint.EXTENSIONS)),
        (f"/v2/a/b/blobs/{DIGEST}", Asked(RegistryEndpoint.BLOB, "a/b", DIGEST)),
        ("/v2/a/b/blobs/uploads/", Asked(RegistryEndpoint.UPLOADS, "a/b")),
        ("/v2/a/b/blobs/uploads", Asked(RegistryEndpoint.UPLOADS, "a/b")),
        ("/v2/a/blobs/uploads/x1", Asked(RegistryEndpoint.UPLOAD, "a", "x1")),
        ("/v2/a/manifests/v1", Asked(RegistryEndpoint.MANIFEST, "a", "v1")),
        ("/v2/a/tags/list", Asked(RegistryEndpoint.TAGS, "a")),
        (f"/v2/a/referrers/{DIGEST}", Asked(RegistryEndpoint.REFERRERS, "a", DIGEST)),
        ("/v2/a/_dit4c/chunks/missing", Asked(RegistryEndpoint.CHUNKS_MISSING, "a")),
        ("/v2/a/_dit4c/chunks/bundle", Asked(RegistryEndpoint.CHUNKS_BUNDLE, "a")),
        ("/v2/a/_dit4c/chunks/fetch", Asked(RegistryEndpoint.CHUNKS_FETCH, "a")),
        (f"/v2/a/_dit4c/blobs/{DIGEST}", Asked(RegistryEndpoint.CHUNKED_BLOB, "a", DIGEST)),
        ("/v2/blobs/manifests/tags/list", Asked(RegistryEndpoint.TAGS, "blobs/manifests")),
        ("/v2/tags/list/manifests/v1", Asked(RegistryEndpoint.MANIFEST, "tags/list", "v1")),
        (
            "/v2/a/blobs/uploads/manifests/v1",
            Asked(RegistryEndpoint.MANIFEST, "a/blobs/uploads", "v1"),
        ),
        ("/v2/_catalog", None),
        ("/v2/a", None),
        ("/v2/manifests/v1", None),
        ("/", None),
        ("/v1/a/tags/list", None),
        ("/v2/a\n/tags/list", None),
    ],
)
def test_a_path_is_read(path: str, asked: Asked | None) -> None:
    assert read_path(path) == asked


@pytest.mark.parametrize("name", ["A", "..", "a/..", "a//b", "_dit4c", "a/_dit4c", "a b", "ä"])
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(InvalidRepository):
        read_path(f"/v2/{name}/manifests/v1")
