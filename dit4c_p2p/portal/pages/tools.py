"""``/admin/tools``: what people can start, and more of it by reference. For others there is no such
page."""

from collections.abc import Callable, Mapping

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal import tools
from dit4c_p2p.portal.api.tools import add_tool, change_tool, tool_view
from dit4c_p2p.portal.catalogue import catalogue, entry_of
from dit4c_p2p.portal.config import CatalogueImage
from dit4c_p2p.portal.errors import PortalError
from dit4c_p2p.portal.pages.forms import checked_form
from dit4c_p2p.portal.pages.login import current, login_needed, only_admins
from dit4c_p2p.portal.paging import MAX_CURSOR_CHARS, part
from dit4c_p2p.portal.services import services
from dit4c_p2p.portal.sessions import LoggedIn
from dit4c_p2p.portal.tools import Change

_SHOWN = 50
_FIELDS = ("name", "title", "description", "icon", "image")
_NEW = dict.fromkeys(_FIELDS, "")


def routes() -> list[web.RouteDef]:
    """The list, adding, one tool and what can be done."""
    one = "/admin/tools/{name}"
    return [
        web.get("/admin/tools", everything),
        web.post("/admin/tools", add),
        web.get(one, something),
        web.post(one, change),
        web.post(f"{one}/withdraw", withdraw),
        web.post(f"{one}/offer", offer),
    ]


async def everything(request: web.Request) -> web.Response:
    """What there is, in the catalogue's order, and a form for one more."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    return await _list(request, session, _NEW)


async def add(request: web.Request) -> web.Response:
    """One more, offered at once."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    form = await checked_form(request, session)
    typed = {field: form.get(field, "") for field in _FIELDS}
    wanted = CatalogueImage(**{**typed, "name": typed["name"].strip()})
    try:
        await add_tool(services(request), wanted, by=session.who.id)
    except PortalError as error:
        return await _list(request, session, typed, error)
    return web.Response(status=303, headers={"Location": "/admin/tools"})


async def something(request: web.Request) -> web.Response:
    """One tool."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    return await _one(request, session)


async def change(request: web.Request) -> web.Response:
    """Another title, description, icon or image; from the next start on."""
    return await _change(
        request,
        lambda form: Change(
            title=form.get("title", ""),
            description=form.get("description", ""),
            icon=form.get("icon", ""),
            image=form.get("image", ""),
        ),
    )


async def withdraw(request: web.Request) -> web.Response:
    """Nobody starts it any more."""
    return await _change(request, lambda _: Change(offered=False))


async def offer(request: web.Request) -> web.Response:
    """It can be started again."""
    return await _change(request, lambda _: Change(offered=True))


async def _change(
    request: web.Request, wanted: Callable[[Mapping[str, str]], Change]
) -> web.Response:
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    form = await checked_form(request, session)
    name = request.match_info["name"]
    try:
        await change_tool(services(request), name, wanted(form), by=session.who.id)
    except PortalError as error:
        return await _one(request, session, form, error)
    return web.Response(status=303, headers={"Location": f"/admin/tools/{name}"})


async def _list(
    request: web.Request,
    session: LoggedIn,
    form: Mapping[str, str],
    error: PortalError | None = None,
) -> web.Response:
    known = await catalogue(services(request).config)
    cursor = request.query.get("cursor", "")[:MAX_CURSOR_CHARS]
    found, further = part(known.entries, _SHOWN, cursor, place=lambda entry: entry.place)
    return aiohttp_jinja2.render_template(
        "admin_tools.html",
        request,
        {
            "session": session,
            "tools": [tool_view(entry) for entry in found],
            "first": not cursor,
            "further": further,
            "form": form,
            "error": error,
        },
        status=error.status if error else 200,
    )


async def _one(
    request: web.Request,
    session: LoggedIn,
    form: Mapping[str, str] | None = None,
    error: PortalError | None = None,
) -> web.Response:
    """A tool's page; what was typed stays in its form.

    :raises NotFound, Conflict: it is none that can be changed.
    """
    tool = await tools.get(services(request).config, request.match_info["name"])
    shown = {field: getattr(tool, field) for field in _FIELDS}
    return aiohttp_jinja2.render_template(
        "admin_tool.html",
        request,
        {
            "session": session,
            "tool": tool_view(entry_of(tool)),
            "form": {**shown, **(form or {})},
            "error": error,
        },
        status=error.status if error else 200,
    )
