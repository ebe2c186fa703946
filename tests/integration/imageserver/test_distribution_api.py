"""The OCI distribution-spec 1.1, each case named after the rule that it is written from.

Every case runs against our image server and against Debian's docker-registry (CNCF Distribution
2.8, which implements the specification's version 1.0); where that differs is listed.
"""

import json
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
import pytest_asyncio
from systems.docker_registry import ImageRegistry
from systems.image_server import (
    ImageServerAtWork,
    RegistryApi,
    descriptor,
    image_manifest,
)

from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.manifest import MediaType

Case = Callable[[RegistryApi], Awaitable[None]]
CASES: list[Case] = []

BLOB = bytes(range(256)) * 1000
UNKNOWN = Digest.of(b"nobody has this")
CONFIG = b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'

# What docker-registry does otherwise, and why.
DIFFERENCES = {
    "a_part_out_of_order_is_refused_with_416": "it does not look at Content-Range of a PATCH",
    "a_range_past_the_end_is_416": "its body is shorter than its Content-Length says",
    "what_is_no_manifest_is_refused": "an empty body is no JSON error",
    "tags_are_listed_in_order": "in no order",
    "n_and_last_page_through_tags_with_a_link": "no paging of tags before version 3",
    "n_0_lists_no_tag": "no paging of tags before version 3",
    "referrers_are_listed_as_an_index_with_type_and_annotations": "no referrers before version 3",
    "referrers_are_filtered_by_artifact_type_and_it_is_said": "no referrers before version 3",
    "no_referrers_are_an_empty_index": "no referrers before version 3",
    "referrers_of_what_is_no_digest_are_400": "no referrers before version 3",
    "a_tag_is_deleted_and_the_manifest_stays": "tags can't be deleted before version 3",
}


def case(function: Case) -> Case:
    """Add a case to the table."""
    CASES.append(function)
    return function


# ---- end-1


@case
async def the_base_answers_200(api: RegistryApi) -> None:
    assert (await api.ask("GET", "/v2/")).status == 200


# ---- pull: blobs (end-2)


@case
async def a_blob_is_got_with_its_digest_and_length(api: RegistryApi) -> None:
    digest = await api.push_blob("spec/pull", BLOB)
    answer = await api.ask("GET", f"/v2/spec/pull/blobs/{digest}")
    assert (answer.status, answer.body) == (200, BLOB)
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Content-Length"] == str(len(BLOB))


@case
async def a_head_of_a_blob_has_its_length_and_no_body(api: RegistryApi) -> None:
    digest = await api.push_blob("spec/pull", BLOB)
    answer = await api.ask("HEAD", f"/v2/spec/pull/blobs/{digest}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(BLOB))
    assert answer.headers["Docker-Content-Digest"] == digest


@case
async def an_unknown_blob_is_404_blob_unknown(api: RegistryApi) -> None:
    await api.push_blob("spec/pull", BLOB)
    assert (await api.ask("HEAD", f"/v2/spec/pull/blobs/{UNKNOWN}")).status == 404
    answer = await api.ask("GET", f"/v2/spec/pull/blobs/{UNKNOWN}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


@case
async def a_blob_of_another_repository_is_404(api: RegistryApi) -> None:
    digest = await api.push_blob("spec/pull", b"only in spec/pull")
    await api.push_blob("spec/other", BLOB)
    assert (await api.ask("HEAD", f"/v2/spec/other/blobs/{digest}")).status == 404


@case
async def a_malformed_digest_is_400_or_404(api: RegistryApi) -> None:
    for text in ("sha256:abc", "sha256:" + "g" * 64, "latest"):
        assert (await api.ask("GET", f"/v2/spec/pull/blobs/{text}")).status in (400, 404)


@case
async def a_range_of_a_blob_is_206_with_content_range(api: RegistryApi) -> None:
    digest = await api.push_blob("spec/pull", BLOB)
    for field, start, stop in (
        ("bytes=10-19", 10, 20),
        ("bytes=255990-", 255990, 256000),
        ("bytes=-10", 255990, 256000),
        ("bytes=255990-999999", 255990, 256000),
    ):
        answer = await api.ask("GET", f"/v2/spec/pull/blobs/{digest}", headers={"Range": field})
        assert (answer.status, answer.body) == (206, BLOB[start:stop]), field
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BLOB)}"


@case
async def a_range_past_the_end_is_416(api: RegistryApi) -> None:
    digest = await api.push_blob("spec/pull", BLOB)
    headers = {"Range": "bytes=256000-"}
    answer = await api.ask("GET", f"/v2/spec/pull/blobs/{digest}", headers=headers)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(BLOB)}"


# ---- push: blobs


@case
async def a_blob_is_pushed_by_post_then_put(api: RegistryApi) -> None:
    digest = Digest.of(BLOB)
    location = await api.begin("spec/push")
    answer = await api.finish(
        location, digest, data=BLOB, headers={"Content-Type": "application/octet-stream"}
    )
    assert answer.status == 201
    assert (await api.ask("GET", answer.location)).body == BLOB


@case
async def a_blob_is_pushed_by_a_single_post_or_an_upload_begins(api: RegistryApi) -> None:
    content = b"in a single post"
    digest = Digest.of(content)
    answer = await api.ask(
        "POST", f"/v2/spec/push/blobs/uploads/?digest={digest}", data=content,
        headers={"Content-Type": "application/octet-stream"},
    )  # fmt: skip
    if answer.status == 202:
        answer = await api.finish(answer.location, digest, data=content)
    assert answer.status == 201
    assert (await api.ask("GET", answer.location)).body == content


@case
async def a_blob_is_pushed_in_chunks_in_order(api: RegistryApi) -> None:
    content = b"in chunks " * 5000
    location = await api.begin("spec/push")
    for start, stop in ((0, 20000), (20000, 40000)):
        answer = await api.ask(
            "PATCH", location, data=content[start:stop],
            headers={"Content-Range": f"{start}-{stop - 1}",
                     "Content-Type": "application/octet-stream"},
        )  # fmt: skip
        assert answer.status == 202
        assert answer.headers["Range"] == f"0-{stop - 1}"
        location = answer.location
    digest = Digest.of(content)
    answer = await api.finish(
        location, digest, data=content[40000:], headers={"Content-Range": "40000-49999"}
    )
    assert answer.status == 201
    assert (await api.ask("GET", answer.location)).body == content


@case
async def a_blob_is_pushed_by_one_streamed_patch(api: RegistryApi) -> None:
    async def parts():
        for _ in range(20):
            yield b"streamed" * 1000

    answer = await api.ask("PATCH", await api.begin("spec/push"), data=parts())
    assert answer.status == 202
    digest = Digest.of(b"streamed" * 20000)
    assert (await api.finish(answer.location, digest)).status == 201


@case
async def a_part_out_of_order_is_refused_with_416(api: RegistryApi) -> None:
    location = await api.begin("spec/push")
    answer = await api.ask("PATCH", location, data=b"12345", headers={"Content-Range": "0-4"})
    assert answer.status == 202
    late = await api.ask("PATCH", answer.location, data=b"12345", headers={"Content-Range": "7-11"})
    assert late.status == 416
    done = await api.ask("GET", answer.location)
    assert (done.status, done.headers["Range"]) == (204, "0-4")


@case
async def a_get_of_an_upload_says_how_far_it_is(api: RegistryApi) -> None:
    location = await api.begin("spec/push")
    location = (await api.ask("PATCH", location, data=b"0123456789")).location
    answer = await api.ask("GET", location)
    assert answer.status == 204
    assert answer.headers["Range"] == "0-9"
    assert answer.location


@case
async def an_upload_is_given_up_by_delete(api: RegistryApi) -> None:
    location = await api.begin("spec/push")
    assert (await api.ask("DELETE", location)).status == 204
    answer = await api.ask("GET", location)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


@case
async def a_wrong_digest_is_400_digest_invalid(api: RegistryApi) -> None:
    answer = await api.finish(await api.begin("spec/push"), UNKNOWN, data=b"something else")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await api.ask("HEAD", f"/v2/spec/push/blobs/{UNKNOWN}")).status == 404


@case
async def an_upload_of_another_repository_is_404(api: RegistryApi) -> None:
    location = await api.begin("spec/push")
    moved = location.replace("spec/push", "spec/elsewhere")
    assert (await api.ask("PATCH", moved, data=b"x")).status == 404


@case
async def an_empty_blob_can_be_pushed(api: RegistryApi) -> None:
    digest = Digest.of(b"")
    answer = await api.finish(await api.begin("spec/push"), digest)
    assert answer.status == 201
    assert (await api.ask("GET", f"/v2/spec/push/blobs/{digest}")).body == b""


# ---- mount (end-11)


@case
async def a_blob_is_mounted_from_another_repository(api: RegistryApi) -> None:
    digest = await api.push_blob("spec/from", b"mounted")
    answer = await api.ask("POST", f"/v2/spec/to/blobs/uploads/?mount={digest}&from=spec/from")
    assert answer.status == 201
    assert answer.headers["Docker-Content-Digest"] == digest
    assert (await api.ask("GET", f"/v2/spec/to/blobs/{digest}")).body == b"mounted"


@case
async def a_mount_that_can_not_be_begins_an_upload(api: RegistryApi) -> None:
    for query in (f"mount={UNKNOWN}&from=spec/from", f"mount={UNKNOWN}&from=spec/nowhere"):
        answer = await api.ask("POST", f"/v2/spec/to/blobs/uploads/?{query}")
        assert answer.status == 202
        assert answer.location


# ---- manifests (end-3, end-7)


@case
async def a_manifest_is_got_by_tag_and_by_digest_as_it_was_put(api: RegistryApi) -> None:
    digest = await api.push_image("spec/manifest", "one", b"layer")
    for reference in ("one", digest):
        for method in ("GET", "HEAD"):
            answer = await api.ask(
                method, f"/v2/spec/manifest/manifests/{reference}",
                headers={"Accept": MediaType.MANIFEST},
            )  # fmt: skip
            assert answer.status == 200
            assert answer.headers["Content-Type"] == MediaType.MANIFEST
            assert answer.headers["Docker-Content-Digest"] == digest
            assert int(answer.headers["Content-Length"]) > 0
            assert method == "HEAD" or Digest.of(answer.body) == digest


@case
async def a_put_of_a_manifest_says_where_it_is(api: RegistryApi) -> None:
    config, layer = CONFIG, b"layer"
    for content in (config, layer):
        await api.push_blob("spec/manifest", content)
    document = image_manifest(config, layer)
    answer = await api.push_manifest("spec/manifest", "two", document)
    assert answer.status == 201
    assert answer.headers["Docker-Content-Digest"] == Digest.of(json.dumps(document).encode())
    found = await api.ask("GET", answer.location, headers={"Accept": MediaType.MANIFEST})
    assert found.json == document


@case
async def an_unknown_manifest_is_404_manifest_unknown(api: RegistryApi) -> None:
    await api.push_image("spec/manifest", "one", b"layer")
    for reference in ("nothing", UNKNOWN):
        answer = await api.ask("GET", f"/v2/spec/manifest/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


@case
async def a_manifest_that_names_an_unknown_blob_is_refused(api: RegistryApi) -> None:
    await api.push_blob("spec/manifest", CONFIG)
    answer = await api.push_manifest("spec/manifest", "x", image_manifest(CONFIG, b"not there"))
    assert answer.status in (400, 404)
    assert answer.code == "MANIFEST_BLOB_UNKNOWN"


@case
async def a_manifest_under_another_digest_is_refused(api: RegistryApi) -> None:
    await api.push_blob("spec/manifest", CONFIG)
    answer = await api.push_manifest("spec/manifest", UNKNOWN, image_manifest(CONFIG))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@case
async def what_is_no_manifest_is_refused(api: RegistryApi) -> None:
    for body in (b"", b"{}", b"not json", b"[1]"):
        answer = await api.ask(
            "PUT", "/v2/spec/manifest/manifests/x", data=body,
            headers={"Content-Type": MediaType.MANIFEST},
        )  # fmt: skip
        assert answer.status == 400, body
        assert answer.code == "MANIFEST_INVALID"


@case
async def an_index_is_kept_once_its_manifests_are_there(api: RegistryApi) -> None:
    await api.push_image("spec/index", "amd64", b"layer")
    found = await api.ask(
        "GET", "/v2/spec/index/manifests/amd64", headers={"Accept": MediaType.MANIFEST}
    )
    index = {
        "schemaVersion": 2,
        "mediaType": MediaType.INDEX,
        "manifests": [descriptor(found.body, MediaType.MANIFEST)],
    }
    assert (await api.push_manifest("spec/index", "all", index)).status == 201
    got = await api.ask("GET", "/v2/spec/index/manifests/all", headers={"Accept": MediaType.INDEX})
    assert got.json == index


# ---- tags (end-8a, end-8b)


@case
async def tags_are_listed_in_order(api: RegistryApi) -> None:
    for tag in ("b", "a", "c"):
        await api.push_image("spec/tags", tag, b"layer")
    answer = await api.ask("GET", "/v2/spec/tags/tags/list")
    assert answer.json == {"name": "spec/tags", "tags": ["a", "b", "c"]}


@case
async def tags_of_an_unknown_repository_are_404_name_unknown(api: RegistryApi) -> None:
    answer = await api.ask("GET", "/v2/spec/nothing/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


@case
async def n_and_last_page_through_tags_with_a_link(api: RegistryApi) -> None:
    for tag in ("b", "a", "c"):
        await api.push_image("spec/paging", tag, b"layer")
    answer = await api.ask("GET", "/v2/spec/paging/tags/list?n=2")
    assert answer.json["tags"] == ["a", "b"]
    link = answer.headers["Link"]
    assert 'rel="next"' in link
    rest = await api.ask("GET", link[1 : link.index(">")])
    assert rest.json["tags"] == ["c"]
    assert "Link" not in rest.headers
    assert (await api.ask("GET", "/v2/spec/paging/tags/list?last=b")).json["tags"] == ["c"]


@case
async def n_0_lists_no_tag(api: RegistryApi) -> None:
    await api.push_image("spec/paging", "a", b"layer")
    assert (await api.ask("GET", "/v2/spec/paging/tags/list?n=0")).json["tags"] == []


# ---- referrers (end-12a, end-12b)


async def _refer(api: RegistryApi, subject: bytes, artifact_type: str) -> str:
    await api.push_blob("spec/refer", b"{}")
    document = {
        **image_manifest(b"{}", b"{}"),
        "config": descriptor(b"{}", MediaType.EMPTY),
        "artifactType": artifact_type,
        "subject": descriptor(subject, MediaType.MANIFEST),
        "annotations": {"by": "test"},
    }
    digest = Digest.of(json.dumps(document).encode())
    answer = await api.push_manifest("spec/refer", digest, document)
    assert answer.status == 201, answer.body
    assert answer.headers.get("OCI-Subject") == Digest.of(subject)
    return digest


@case
async def referrers_are_listed_as_an_index_with_type_and_annotations(api: RegistryApi) -> None:
    subject = b"a manifest that need not be there"
    digest = await _refer(api, subject, "application/vnd.test.signature")
    answer = await api.ask("GET", f"/v2/spec/refer/referrers/{Digest.of(subject)}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == MediaType.INDEX
    (entry,) = answer.json["manifests"]
    assert entry["digest"] == digest
    assert entry["artifactType"] == "application/vnd.test.signature"
    assert entry["annotations"] == {"by": "test"}
    assert entry["mediaType"] == MediaType.MANIFEST


@case
async def referrers_are_filtered_by_artifact_type_and_it_is_said(api: RegistryApi) -> None:
    subject = b"another manifest"
    await _refer(api, subject, "application/vnd.test.one")
    two = await _refer(api, subject, "application/vnd.test.two")
    path = f"/v2/spec/refer/referrers/{Digest.of(subject)}"
    answer = await api.ask("GET", f"{path}?artifactType=application/vnd.test.two")
    assert [entry["digest"] for entry in answer.json["manifests"]] == [two]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"


@case
async def no_referrers_are_an_empty_index(api: RegistryApi) -> None:
    answer = await api.ask("GET", f"/v2/spec/refer/referrers/{UNKNOWN}")
    assert (answer.status, answer.json["manifests"]) == (200, [])


@case
async def referrers_of_what_is_no_digest_are_400(api: RegistryApi) -> None:
    assert (await api.ask("GET", "/v2/spec/refer/referrers/latest")).status == 400


# ---- delete (end-9, end-10)


@case
async def a_tag_is_deleted_and_the_manifest_stays(api: RegistryApi) -> None:
    digest = await api.push_image("spec/delete-tag", "gone", b"layer")
    assert (await api.ask("DELETE", "/v2/spec/delete-tag/manifests/gone")).status == 202
    assert (await api.ask("GET", "/v2/spec/delete-tag/manifests/gone")).status == 404
    accept = {"Accept": MediaType.MANIFEST}
    found = await api.ask("GET", f"/v2/spec/delete-tag/manifests/{digest}", headers=accept)
    assert found.status == 200


@case
async def a_manifest_is_deleted_with_its_tags(api: RegistryApi) -> None:
    digest = await api.push_image("spec/delete", "gone", b"layer")
    assert (await api.ask("DELETE", f"/v2/spec/delete/manifests/{digest}")).status == 202
    assert (await api.ask("GET", f"/v2/spec/delete/manifests/{digest}")).status == 404
    assert (await api.ask("GET", "/v2/spec/delete/manifests/gone")).status == 404
    assert (await api.ask("DELETE", f"/v2/spec/delete/manifests/{digest}")).status == 404


@case
async def a_blob_is_deleted(api: RegistryApi) -> None:
    digest = await api.push_blob("spec/delete-blob", b"to be deleted")
    assert (await api.ask("DELETE", f"/v2/spec/delete-blob/blobs/{digest}")).status == 202
    assert (await api.ask("HEAD", f"/v2/spec/delete-blob/blobs/{digest}")).status == 404
    answer = await api.ask("DELETE", f"/v2/spec/delete-blob/blobs/{digest}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


# ---- names and methods


@case
async def a_malformed_name_is_refused(api: RegistryApi) -> None:
    for name in ("UPPER", "a..b", "-a", "a/-/b"):
        answer = await api.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status in (400, 404), name


@case
async def a_method_that_is_not_served_is_405(api: RegistryApi) -> None:
    assert (await api.ask("POST", "/v2/spec/pull/tags/list")).status == 405


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["ours", "docker-registry"])
async def server(request, tmp_path_factory):
    """An API client of the server, and which it is."""
    folder = tmp_path_factory.mktemp("registry")
    if request.param == "ours":
        async with ImageServerAtWork(folder) as work, work.api() as api:
            yield request.param, api
    else:
        async with ImageRegistry(folder, deletes=True) as registry:
            async with RegistryApi(registry.address, "") as api:
                yield request.param, api


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.__name__)
async def test_the_distribution_specification(server, rule):
    which, api = server
    if which == "docker-registry" and rule.__name__ in DIFFERENCES:
        with pytest.raises((AssertionError, KeyError, ValueError, aiohttp.ClientPayloadError)):
            await rule(api)
    else:
        await rule(api)
