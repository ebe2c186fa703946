"""A saved image as a download, which can be resumed (RFC 9110 section 14)."""

import re

from aiohttp import web

from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import PortalError
from dit4c_p2p.portal.instances.image_store import SavedArchive

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})", re.ASCII)


async def send_archive(
    request: web.Request, repository: str, digest: str, file_name: str
) -> web.StreamResponse:
    """The archive of an image that the caller may have.

    :param file_name: without an ending; letters, digits and hyphens.
    :raises NotFound, Unavailable: it can't be had.
    """
    store = services(request).image_store
    name = f"{file_name}:saved"
    archive = await store.archive(repository, digest, name)
    tag = f'"{digest}"'
    start, end = _wanted_archive_range(request, archive, tag)
    partial = (start, end) != (0, archive.size)
    response = web.StreamResponse(
        status=206 if partial else 200,
        headers={
            "Content-Type": "application/x-tar",
            "Content-Length": str(end - start),
            "Content-Disposition": f'attachment; filename="{file_name}.tar"',
            "Accept-Ranges": "bytes",
            "ETag": tag,
            "Cache-Control": "no-store",
        },
    )
    if partial:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{archive.size}"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async for data in store.read(archive, start, end):
            await response.write(data)
    except PortalError as error:
        # The length was said: whoever reads notices that it is not whole, and resumes.
        raise ConnectionResetError(str(error)) from None
    await response.write_eof()
    return response


def _wanted_archive_range(request: web.Request, archive: SavedArchive, tag: str) -> tuple[int, int]:
    """The bytes that are asked for; all of them where the range is of no use.

    :raises HTTPRequestRangeNotSatisfiable: there are not so many.
    """
    found = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if found is None or request.headers.get("If-Range", tag) != tag:
        return 0, archive.size
    start = int(found[1])
    end = min(archive.size, int(found[2]) + 1) if found[2] else archive.size
    if start >= end:
        raise web.HTTPRequestRangeNotSatisfiable(
            headers={"Content-Range": f"bytes */{archive.size}"}
        )
    return start, end
