"""``/files``: browse, upload, download, rename and delete one's files, also while nothing runs.

Every page works without JavaScript; with it, uploads show their progress and take whole folders.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from dit4c_p2p.messages.snapshot_names import snapshot_time
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    PortalError,
    TooSlow,
    Unauthorized,
    UnsupportedMedia,
)
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.models import Group, Instance
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.login import current
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.services import files
from dit4c_p2p.portal.storage import file_actions
from dit4c_p2p.portal.storage.file_actions import Item
from dit4c_p2p.portal.storage.files import moment_text, size_text
from dit4c_p2p.portal.storage.paths import (
    FilePath,
    checked_name,
    form_name,
    name_of_form,
    shown_name,
)

_SHOWN = 500
_BLOCK_BYTES = 256 * 1024
# Without a byte of an upload for so long, it is given up.
_SILENCE_S = 60.0
_MAX_FIELD_BYTES = 8 * 1024
# Of an upload that was refused. Scripts ask before they send more than that.
_MAX_DRAINED_BYTES = 16 * 1024 * 1024
_DRAIN_S = 20.0
# A download is nothing that a browser shows, whatever is in it.
_DOWNLOAD_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"


def files_page_routes() -> list[web.RouteDef]:
    """The pages, their forms, uploads and downloads."""
    return [
        web.get("/files", page_handler(places_on_files_page)),
        web.get("/files/usage", page_handler(usage_on_files_page)),
        web.get("/files/browse/{path:.+}", page_handler(folder_on_files_page)),
        web.post(
            "/files/browse/{path:.+}",
            form_handler(change_on_files_page, again=folder_on_files_page),
        ),
        web.get("/files/ask/{path:.+}", page_handler(ask_on_files_page)),
        web.get(
            "/files/download/{path:.+}", page_handler(download_on_files_page), allow_head=False
        ),
        web.post("/files/upload/{path:.+}", upload_form_on_files_page),
        web.put("/files/upload/{path:.+}", upload_script_on_files_page),
        web.get("/files/upload/{path:.+}", check_upload_on_files_page),
    ]


# ---- pages


async def places_on_files_page(call: PageCall) -> web.Response:
    """Where one's files are: one's own, those of instances, those of groups."""
    placed = await call.parts.grants.folders_of(call.by)
    instances = {one.id: one async for one in Instance.filter(owner_id=call.by)}
    titles = {group.id: group.title async for group in Group.all()}
    used = await call.parts.usage.of(call.by, placed)
    shown: dict[str, list[dict[str, Any]]] = {"private": [], "instances": [], "shared": []}
    for folder in placed:
        kind, _, id = folder.grant.path.partition("/")
        title = {"private": "Your files", "shared": titles.get(id, id)}.get(kind, "")
        note = ""
        if kind == "instances":
            title = instances[id].name if id in instances else id
            gone = id in instances and instances[id].state == "discarded"
            note = "Discarded; its files are kept for a while" if gone else ""
        shown[kind].append(
            {
                "title": title,
                "url": f"/files/browse/{quote(folder.grant.path)}",
                "mount": f"/mnt/{folder.grant.path}" if kind != "instances" else "/mnt/instance",
                "write": folder.grant.write,
                "note": note,
                "usage": used.get(folder.grant.tree) if kind != "instances" else None,
            }
        )
    return call.page(
        "files.html", places=shown, ready=any(folder.server is not None for folder in placed)
    )


async def usage_on_files_page(call: PageCall) -> web.Response:
    """How much of one's own quota is used, for the dashboard's script; 204 if it is not known."""
    placed = [one for one in await call.parts.grants.folders_of(call.by) if one.is_own]
    for found in (await call.parts.usage.of(call.by, placed)).values():
        words = f"{size_text(found.used_bytes)} of {size_text(found.total_bytes)}"
        return json_answer({"text": words, "fraction": found.fraction})
    return web.Response(status=204)


async def folder_on_files_page(call: PageCall) -> web.Response:
    """What is in a folder, and what can be done there; a file is downloaded."""
    place = await files.find_place(call.parts, call.by, path_of_on_files_page(call.request))
    if place.is_past and place.snapshot is None:
        return go_to(f"/files/earlier/{place.live.url}")
    items: list[Item] = []
    error = call.error
    try:
        async with files.session(call.parts, call.by, place) as sftp:
            found = await file_actions.look(sftp, place.path)
            if found.kind != "folder":
                return go_to(f"/files/download/{place.path.url}")
            items = await file_actions.list_folder(sftp, place.path)
    except NotFound:
        # What was granted and never used has no folder yet.
        if not place.is_top:
            raise
    number = _page_number_for_files_page(call.request)
    first = number * _SHOWN
    return call.page(
        "folder.html",
        place=place,
        past=snapshot_time(place.snapshot or b""),
        title=await folder_title_on_files_page(place),
        crumbs=await _crumbs_for_files_page(place),
        items=[_row_for_files_page(place, item) for item in items[first : first + _SHOWN]],
        count=len(items),
        first=first,
        before=number - 1 if number else None,
        after=number + 1 if first + _SHOWN < len(items) else None,
        form={"name": "", **(call.form if error else {})},
    )


async def ask_on_files_page(call: PageCall) -> web.Response:
    """Another name, or whether something is to be deleted: for one thing in a folder."""
    path = path_of_on_files_page(call.request)
    what = call.request.query.get("what", "")
    if what not in ("rename", "delete") or not path.names:
        raise NotFound("there is no such page")
    place = await files.find_place(call.parts, call.by, path)
    if place.is_top:
        raise NotFound("there is no such page")
    files.check_writable(place)
    async with files.session(call.parts, call.by, place) as sftp:
        item = await file_actions.look_at(sftp, path)
    return call.page(
        "file_ask.html",
        what=what,
        kind=item.kind,
        name=shown_name(path.name),
        value=form_name(path.name),
        folder=path.parent.url,
    )


async def change_on_files_page(call: PageCall) -> web.Response:
    """A folder's forms: a new folder, another name, an end to something."""
    form = call.form
    folder = await files.find_place(call.parts, call.by, path_of_on_files_page(call.request))
    match form.get("do"):
        case "mkdir":
            await files.make_folder(
                call.parts, call.by, folder, _typed_for_files_page(form.get("name", ""))
            )
        case "rename":
            old = name_of_form(form.get("old", ""))
            await files.rename(
                call.parts, call.by, folder, old, _typed_for_files_page(form.get("name", ""))
            )
        case "delete":
            await files.delete(call.parts, call.by, folder, name_of_form(form.get("old", "")))
        case _:
            raise BadRequest("the form does not say what to do", field="do")
    return go_to(f"/files/browse/{folder.path.url}")


# ---- downloads


async def download_on_files_page(call: PageCall) -> web.StreamResponse:
    """A file, or a folder as a ZIP archive; always an attachment that nothing is run from."""
    path = path_of_on_files_page(call.request)
    place = await files.find_place(call.parts, call.by, path)
    async with files.session(call.parts, call.by, place) as sftp:
        item = await file_actions.look(sftp, path)
        if item.kind not in ("file", "folder"):
            raise NotFound(f"{shown_name(path.name)} is no file and no folder")
        await call.parts.audit.record_required("files.download", who=call.by, about=path.text)
        name = shown_name(path.name)
        if item.kind == "folder":
            name, contents = f"{name}.zip", file_actions.zip_folder(sftp, path)
        else:
            contents = file_actions.read(sftp, path, item.size_bytes)
        response = web.StreamResponse(headers=_download_headers_for_files_page(name))
        if item.kind == "file":
            response.content_length = item.size_bytes
        # What can't be read at all is an error page, not a broken download.
        first = await anext(contents, b"")
        await response.prepare(call.request)
        try:
            await response.write(first)
            async for block in contents:
                await response.write(block)
            await response.write_eof()
        except PortalError:
            # The headers are gone: a broken connection is all that tells a browser.
            _break_off_for_files_page(call.request)
        except ConnectionError:
            pass
        finally:
            await contents.aclose()
    return response


# ---- uploads


async def upload_form_on_files_page(request: web.Request) -> web.Response:
    """The upload form as a browser sends it by itself: the token first, then the files."""
    session = await current(request)
    if session is None:
        raise Unauthorized("you are not logged in any more", hint="open a new login link")
    _check_origin_for_files_page(request)
    if not request.content_type.startswith("multipart/form-data"):
        raise UnsupportedMedia("the body must be a form with files")
    parts = services(request)
    folder = await files.find_place(parts, session.who.id, path_of_on_files_page(request))
    checked, replace = False, False
    try:
        async for part in _parts_for_files_page(request):
            if part.name == "csrf":
                value = (await _field_for_files_page(part)).decode(errors="replace")
                checked = hmac.compare_digest(value.encode(), session.csrf.encode())
            elif part.name == "replace":
                replace = await _field_for_files_page(part) == b"1"
            elif part.filename and part.name == "files":
                if not checked:
                    break
                name = FilePath((_typed_for_files_page(part.filename.rpartition("/")[2]),))
                await files.upload(
                    *(parts, session.who.id, folder, name, _part_blocks_for_files_page(part)),
                    replace=replace,
                )
        if not checked:
            raise Forbidden("the page was too old for this", hint="load it again, then try again")
    except PortalError as error:
        return _closing_for_files_page(
            await folder_on_files_page(PageCall(request, session, {"name": ""}, error))
        )
    return go_to(f"/files/browse/{folder.path.url}")


async def upload_script_on_files_page(request: web.Request) -> web.Response:
    """One file as the body; ``?to=`` is its path below the folder, each part percent-encoded."""
    session = await current(request)
    if session is None:
        raise Unauthorized("you are not logged in any more", hint="open a new login link")
    _check_origin_for_files_page(request)
    token = request.headers.get("X-CSRF-Token", "")
    if not hmac.compare_digest(token.encode(errors="replace"), session.csrf.encode()):
        raise Forbidden("the page was too old for this", hint="load it again, then try again")
    parts = services(request)
    folder = await files.find_place(parts, session.who.id, path_of_on_files_page(request))
    relative = FilePath.from_url(request.query.get("to", ""))
    replace = request.query.get("replace") == "1"
    try:
        size = await files.upload(
            parts,
            session.who.id,
            folder,
            relative,
            _body_blocks_for_files_page(request),
            replace=replace,
        )
    except PortalError:
        # A browser that is still sending would not hear why.
        await _drain_for_files_page(request)
        raise
    return json_answer({"size": size}, status=HTTPStatus.CREATED)


async def check_upload_on_files_page(request: web.Request) -> web.Response:
    """Whether a file could be stored; a script asks before it sends a large one."""
    session = await current(request)
    if session is None:
        raise Unauthorized("you are not logged in any more", hint="open a new login link")
    parts = services(request)
    folder = await files.find_place(parts, session.who.id, path_of_on_files_page(request))
    relative = FilePath.from_url(request.query.get("to", ""))
    replace = request.query.get("replace") == "1"
    await files.check_upload(parts, session.who.id, folder, relative, replace=replace)
    return web.Response(status=204)


async def _drain_for_files_page(request: web.Request) -> None:
    """Read what a browser still sends, up to a limit."""
    left = _MAX_DRAINED_BYTES
    try:
        async with asyncio.timeout(_DRAIN_S):
            while left > 0 and (block := await request.content.read(_BLOCK_BYTES)):
                left -= len(block)
    except (TimeoutError, web.RequestPayloadError, HttpProcessingError, ConnectionError):
        return


def _check_origin_for_files_page(request: web.Request) -> None:
    if request.headers.get("Origin") != services(request).config.url:
        raise Forbidden("the request comes from another site", hint="use the portal's own page")


async def _body_blocks_for_files_page(request: web.Request) -> AsyncIterator[bytes]:
    """The body, in blocks.

    :raises TooSlow, BadRequest: it does not come, or breaks off.
    """
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                block = await request.content.read(_BLOCK_BYTES)
        except TimeoutError:
            raise TooSlow("the upload came to a halt", hint="try again") from None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
            raise BadRequest("the upload broke off", hint="try again") from None
        if not block:
            return
        yield block


async def _parts_for_files_page(request: web.Request) -> AsyncIterator[BodyPartReader]:
    """The fields of a form with files.

    :raises BadRequest: it is malformed or breaks off.
    """
    try:
        reader = await request.multipart()
        while True:
            async with asyncio.timeout(_SILENCE_S):
                part = await reader.next()
            if part is None:
                return
            if isinstance(part, BodyPartReader):
                yield part
    except TimeoutError:
        raise TooSlow("the upload came to a halt", hint="try again") from None
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError, ValueError):
        raise BadRequest("the upload broke off, or is no form", hint="try again") from None


async def _part_blocks_for_files_page(part: BodyPartReader) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                block = await part.read_chunk(_BLOCK_BYTES)
        except TimeoutError:
            raise TooSlow("the upload came to a halt", hint="try again") from None
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError, ValueError):
            raise BadRequest("the upload broke off", hint="try again") from None
        if not block:
            return
        yield block


async def _field_for_files_page(part: BodyPartReader) -> bytes:
    """A short field of a form with files.

    :raises BadRequest: it is not short.
    """
    value = b""
    async for block in _part_blocks_for_files_page(part):
        value += block
        if len(value) > _MAX_FIELD_BYTES:
            raise BadRequest(f"{part.name} is too long")
    return value


# ---- inside


def path_of_on_files_page(request: web.Request) -> FilePath:
    """The path in the request's URL, by its raw bytes.

    :raises BadRequest: it is none.
    """
    _, _, rest = request.rel_url.raw_path.removeprefix("/files/").partition("/")
    return FilePath.from_url(rest)


def _page_number_for_files_page(request: web.Request) -> int:
    text = request.query.get("page", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0


def _typed_for_files_page(text: str) -> bytes:
    """A name that somebody typed, or that a browser names a file by.

    :raises BadRequest: it can't be a name.
    """
    return checked_name(text.encode(errors="replace"))


def _row_for_files_page(place: files.Place, item: Item) -> dict[str, Any]:
    path = place.path.child(item.name)
    return {
        "name": shown_name(item.name),
        "kind": item.kind,
        "size": item.size_bytes,
        "modified": item.modified,
        "url": path.url,
    }


async def folder_title_on_files_page(place: files.Place) -> str:
    """What a folder is called."""
    if place.is_past and len(place.below) == 1:
        return "Earlier versions"
    if place.snapshot is not None and len(place.below) == 2:
        at = snapshot_time(place.snapshot)
        return shown_name(place.snapshot) if at is None else f"{moment_text(at)} UTC"
    if not place.is_top:
        return shown_name(place.path.name)
    kind, _, id = place.grant.path.partition("/")
    if kind == "shared":
        group = await Group.get_or_none(id=id)
        return group.title if group else id
    if kind == "instances":
        instance = await Instance.get_or_none(id=id)
        return instance.name if instance else id
    return "Your files"


async def _crumbs_for_files_page(place: files.Place) -> list[tuple[str, str]]:
    """The folders above, each as its title and its path in a URL."""
    top = len(place.grant.path.split("/"))
    crumbs = []
    for depth in range(top, len(place.path.names)):
        above = files.Place(FilePath(place.path.names[:depth]), place.grant, place.server)
        crumbs.append((await folder_title_on_files_page(above), above.path.url))
    return crumbs


def _download_headers_for_files_page(name: str) -> dict[str, str]:
    plain = "".join(char if char.isascii() and char not in '"\\%' else "_" for char in name)
    return {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}",
        "Content-Security-Policy": _DOWNLOAD_POLICY,
        "X-Content-Type-Options": "nosniff",
    }


def _break_off_for_files_page(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _closing_for_files_page(response: web.Response) -> web.Response:
    """The rest of the upload is not read."""
    response.headers["Connection"] = "close"
    response.force_close()
    return response
