"""``/files/earlier`` and ``/files/restore``: a folder as it was, and back from there."""

from aiohttp import web

from dit4c_p2p.portal.pages.files import folder_title_on_files_page, path_of_on_files_page
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.services import files, snapshots
from dit4c_p2p.portal.storage.paths import shown_name


def earlier_files_page_routes() -> list[web.RouteDef]:
    """The pages and the form."""
    return [
        web.get("/files/earlier/{path:.+}", page_handler(versions_on_earlier_files_page)),
        web.get("/files/restore/{path:.+}", page_handler(restore_form_on_earlier_files_page)),
        web.post(
            "/files/restore/{path:.+}",
            form_handler(restore_on_earlier_files_page, again=restore_form_on_earlier_files_page),
        ),
    ]


async def versions_on_earlier_files_page(call: PageCall) -> web.Response:
    """The snapshots of a folder."""
    place = await files.find_place(call.parts, call.by, path_of_on_files_page(call.request))
    live = files.Place(place.live, place.grant, place.server)
    return call.page(
        "earlier.html",
        title=await folder_title_on_files_page(live),
        folder=live.path.url,
        versions=await snapshots.file_versions(call.parts, call.by, live),
    )


async def restore_form_on_earlier_files_page(call: PageCall) -> web.Response:
    """Whether something is to be restored, and whether what is there now may go."""
    place = await files.find_place(call.parts, call.by, path_of_on_files_page(call.request))
    found = await snapshots.restorable_version(call.parts, call.by, place)
    return call.page(
        "restore.html",
        form={},
        name=shown_name(place.path.name),
        item=found.item,
        there=found.there,
        at=found.at,
        target=place.live.text,
        url=place.path.url,
        back=place.path.parent.url,
    )


async def restore_on_earlier_files_page(call: PageCall) -> web.Response:
    """Restore it, and show the folder that it is in now."""
    place = await files.find_place(call.parts, call.by, path_of_on_files_page(call.request))
    replace = call.form.get("replace") == "1"
    await snapshots.restore_version(call.parts, call.by, place, replace=replace)
    return go_to(f"/files/browse/{place.live.parent.url}")
