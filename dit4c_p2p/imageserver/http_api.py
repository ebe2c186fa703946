"""The OCI Distribution API 1.1 over the store; the comments name the specification's end points."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlencode

from aiohttp import web

from dit4c_p2p.imageserver import http_body
from dit4c_p2p.imageserver.http_errors import Refused
from dit4c_p2p.imageserver.http_request import Call
from dit4c_p2p.imageserver.http_sendfile import plain_socket, send_parts
from dit4c_p2p.imageserver.routing import RegistryEndpoint
from dit4c_p2p.imageserver.store.blobs import Blob
from dit4c_p2p.imageserver.store.errors import NotThere, WrongOffset
from dit4c_p2p.imageserver.store.manifests import Referrer
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.exchange import EXTENSION
from dit4c_p2p.oci.manifest import MAX_MANIFEST_BYTES, MediaType, parse_manifest
from dit4c_p2p.oci.names import is_repository, split_reference

T = TypeVar("T")
Handler = Callable[[Call], Awaitable[web.StreamResponse]]

MAX_TAGS = 1000
# Less is sent as it is read.
_SENDFILE_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d{1,19})-(\d{1,19})(?:/[\d*]+)?", re.ASCII)
_DIGEST_FIELD = "Docker-Content-Digest"


def registry_api_handlers() -> dict[RegistryEndpoint, Handler]:
    """Who answers what; the caller has been found to be allowed to."""
    return {
        RegistryEndpoint.BLOB: answer_blob_request,
        RegistryEndpoint.UPLOADS: answer_begin_upload_request,
        RegistryEndpoint.UPLOAD: answer_upload_request,
        RegistryEndpoint.MANIFEST: answer_manifest_request,
        RegistryEndpoint.TAGS: answer_tags_request,
        RegistryEndpoint.REFERRERS: answer_referrers_request,
    }


def answer_extensions_request() -> dict[str, object]:
    """The extensions that are served, as the OCI's discovery extension lists them."""
    names = [
        {
            "name": EXTENSION,
            "description": "exchange of content-defined chunks",
            "endpoints": [
                f"{EXTENSION}/chunks/missing",
                f"{EXTENSION}/chunks/bundle",
                f"{EXTENSION}/chunks/fetch",
                f"{EXTENSION}/blobs/<digest>",
            ],
        }
    ]
    return {"extensions": names}


# ---- blobs


async def answer_blob_request(call: Call) -> web.StreamResponse:
    """end-2 (whole or a range, or only its head), end-10 (delete)."""
    digest = Digest.parse(call.last)
    if call.method == "DELETE":
        await call.store.blobs.delete(call.repository, digest)
        return web.Response(status=202)
    found = await call.store.blobs.find(call.repository, digest)
    start, stop, status = _range_for_registry_api(call, found)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(stop - start),
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        _DIGEST_FIELD: digest,
    }
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
    response = web.StreamResponse(status=status, headers=headers)
    if call.method == "HEAD":
        await response.prepare(call.request)
        return response
    if f'"{digest}"' in call.request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers={"ETag": f'"{digest}"'})
    call.metrics.sent(stop - start)
    sock = plain_socket(call.request)
    if sock is not None and stop - start >= _SENDFILE_BYTES:
        places = call.store.blobs.parts(found, start, stop)
        return await send_parts(
            call.request, response, sock, places, call.threads, call.limits.stalled
        )
    parts = await call.store.blobs.content(found, start, stop)
    return await http_body.send_registry_body(call.request, response, parts)


def _range_for_registry_api(call: Call, found: Blob) -> tuple[int, int, int]:
    """From where to before where, and the status (RFC 9110 section 14.2; one range)."""
    field = call.request.headers.get("Range", "")
    read = _RANGE.fullmatch(field.strip())
    if call.method == "HEAD" or read is None or (not read[1] and not read[2]):
        return 0, found.size, 200  # also several ranges: a server may send the whole
    condition = call.request.headers.get("If-Range", "")
    if condition and condition != f'"{found.digest}"':
        return 0, found.size, 200
    if not read[1]:
        start, stop = max(found.size - int(read[2]), 0), found.size
    else:
        start = int(read[1])
        stop = min(int(read[2]) + 1, found.size) if read[2] else found.size
        if read[2] and int(read[2]) < start:
            return 0, found.size, 200
    if start >= stop:
        raise Refused(
            416,
            "BLOB_UNKNOWN",
            f"the blob has {found.size} bytes",
            headers={"Content-Range": f"bytes */{found.size}"},
        )
    return start, stop, 206


# ---- uploads


async def answer_begin_upload_request(call: Call) -> web.StreamResponse:
    """end-4a (begin), end-4b (a whole blob at once), end-11 (mount)."""
    query = call.request.query
    if "mount" in query:
        mounted = await _mount_for_registry_api(call, query["mount"], query.get("from", ""))
        if mounted is not None:
            return mounted
    digest = Digest.parse(query["digest"]) if "digest" in query else None
    name = await call.store.uploads.begin(call.repository)
    if digest is None:
        return _upload_answer_for_registry_api(call, name, 0, 202)
    try:
        await call.store.uploads.append(call.repository, name, 0, _body_for_registry_api(call))
    except http_body.Cut:
        await call.store.uploads.cancel(call.repository, name)
        raise
    return await _finish_for_registry_api(call, name, digest)


async def _mount_for_registry_api(call: Call, mount: str, source: str) -> web.Response | None:
    """None: it can't be mounted, and has to be uploaded; why, is not said."""
    digest = Digest.parse(mount)
    if not is_repository(source):
        return None
    if not await call.access.readable(call.credentials, [source]):
        return None
    if not await call.store.blobs.mount(call.repository, source, digest):
        return None
    return _created_for_registry_api(call, f"blobs/{digest}", digest)


async def answer_upload_request(call: Call) -> web.StreamResponse:
    """end-5 (a part), end-6 (finish), end-13 (how far it is), and giving it up."""
    uploads, name = call.store.uploads, call.last
    match call.method:
        case "GET":
            return _upload_answer_for_registry_api(
                call, name, await uploads.offset(call.repository, name), 204
            )
        case "DELETE":
            await uploads.cancel(call.repository, name)
            return web.Response(status=204)
        case "PATCH":
            size = await _append_for_registry_api(call, name)
            return _upload_answer_for_registry_api(call, name, size, 202)
        case _:
            digest = Digest.parse(call.request.query.get("digest", ""))
            if call.request.body_exists:
                await _append_for_registry_api(call, name)
            return await _finish_for_registry_api(call, name, digest)


async def _append_for_registry_api(call: Call, name: str) -> int:
    start = None
    field = call.request.headers.get("Content-Range")
    if field is not None:
        read = _CONTENT_RANGE.fullmatch(field.strip())
        length = call.request.content_length
        if read is None or (length is not None and length != int(read[2]) - int(read[1]) + 1):
            raise Refused(
                416, "BLOB_UPLOAD_INVALID", "Content-Range does not say where the body belongs"
            )
        start = int(read[1])
    try:
        return await call.store.uploads.append(
            call.repository, name, start, _body_for_registry_api(call)
        )
    except WrongOffset as error:
        headers = _upload_headers_for_registry_api(call, name, error.offset)
        raise Refused(
            416, "BLOB_UPLOAD_INVALID", str(error), hint=error.hint, headers=headers
        ) from None


async def _body_for_registry_api(call: Call) -> AsyncIterator[bytes]:
    async for part in http_body.parts_of_registry_body(call.request, call.limits.silence):
        call.metrics.received(len(part))
        yield part


async def _finish_for_registry_api(call: Call, name: str, digest: Digest) -> web.Response:
    await call.store.uploads.finish(call.repository, name, digest)
    return _created_for_registry_api(call, f"blobs/{digest}", digest)


def _upload_headers_for_registry_api(call: Call, name: str, size: int) -> dict[str, str]:
    return {
        "Location": call.location(f"blobs/uploads/{name}"),
        # An empty upload says 0-0, as there is no way to write none.
        "Range": f"0-{max(size - 1, 0)}",
        "Docker-Upload-UUID": name,
    }


def _upload_answer_for_registry_api(call: Call, name: str, size: int, status: int) -> web.Response:
    return web.Response(status=status, headers=_upload_headers_for_registry_api(call, name, size))


def _created_for_registry_api(call: Call, tail: str, digest: Digest, **more: str) -> web.Response:
    headers = {"Location": call.location(tail), _DIGEST_FIELD: str(digest), **more}
    return web.Response(status=201, headers=headers)


# ---- manifests


async def answer_manifest_request(call: Call) -> web.StreamResponse:
    """end-3 (get), end-7 (put), end-9 (delete)."""
    if call.method == "PUT":
        return await _put_manifest_for_registry_api(call)
    tag, digest = _reference_for_registry_api(call)
    if call.method == "DELETE":
        await _found_for_registry_api(call.store.manifests.delete(call.repository, tag, digest))
        return web.Response(status=202)
    found = await _found_for_registry_api(call.store.manifests.find(call.repository, tag, digest))
    headers = {_DIGEST_FIELD: str(found.digest), "ETag": f'"{found.digest}"'}
    # A HEAD has the length of the body that is not sent.
    return web.Response(body=found.body, content_type=found.media_type, headers=headers)


async def _put_manifest_for_registry_api(call: Call) -> web.Response:
    try:
        tag, digest = split_reference(call.last)
    except InvalidImage as error:
        raise Refused(400, "TAG_INVALID", str(error)) from None
    limit = MAX_MANIFEST_BYTES
    body = await http_body.small_body(call.request, limit, call.limits.silence)
    media_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
    read = parse_manifest(body, media_type)
    if digest is not None and digest != read.digest:
        raise Refused(400, "DIGEST_INVALID", "the manifest has another digest than its URL says")
    await call.store.manifests.put(call.repository, tag, body, read)
    more = {} if read.subject is None else {"OCI-Subject": read.subject.digest}
    return _created_for_registry_api(call, f"manifests/{read.digest}", read.digest, **more)


def _reference_for_registry_api(call: Call) -> tuple[str, Digest | None]:
    try:
        return split_reference(call.last)
    except InvalidImage:
        raise Refused(404, "MANIFEST_UNKNOWN", "there is no such manifest") from None


async def _found_for_registry_api(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except NotThere as error:
        raise Refused(404, "MANIFEST_UNKNOWN", str(error), hint=error.hint) from None


async def answer_tags_request(call: Call) -> web.StreamResponse:
    """end-8a, end-8b: in the order of their bytes, ``n`` after ``last``."""
    query = call.request.query
    text = query.get("n", "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refused(400, "UNSUPPORTED", "n is a number of tags")
    wanted = min(int(text), MAX_TAGS) if text else MAX_TAGS
    try:
        found = await call.store.manifests.tags(call.repository, query.get("last", ""), wanted + 1)
    except NotThere:
        raise Refused(404, "NAME_UNKNOWN", "there is no such repository") from None
    headers = {}
    names = found[:wanted]
    if len(found) > wanted and names:
        more = urlencode({"n": wanted, "last": names[-1]})
        headers["Link"] = f'<{call.location("tags/list")}?{more}>; rel="next"'
    return web.json_response({"name": call.repository, "tags": names}, headers=headers)


async def answer_referrers_request(call: Call) -> web.StreamResponse:
    """end-12a, end-12b: an index of the manifests whose subject is the digest."""
    subject = Digest.parse(call.last)
    found = await call.store.manifests.referrers(call.repository, subject)
    headers = {}
    wanted = call.request.query.get("artifactType", "")
    if wanted:
        found = [one for one in found if one.artifact_type == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    index = {
        "schemaVersion": 2,
        "mediaType": MediaType.INDEX,
        "manifests": [_descriptor_for_registry_api(one) for one in found],
    }
    body = json.dumps(index).encode()
    return web.Response(body=body, content_type=MediaType.INDEX, headers=headers)


def _descriptor_for_registry_api(one: Referrer) -> dict[str, object]:
    entry: dict[str, object] = {
        "mediaType": one.media_type,
        "digest": one.digest,
        "size": one.size,
        "artifactType": one.artifact_type,
    }
    return entry | ({"annotations": one.annotations} if one.annotations else {})
