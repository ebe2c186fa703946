"""The dashboard: what can be started, what is running, live."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal import presentation
from dit4c_p2p.portal.answers import json_answer
from dit4c_p2p.portal.catalogue import catalogue
from dit4c_p2p.portal.errors import Conflict, PortalError, Unauthorized
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.pages.forms import checked_form
from dit4c_p2p.portal.pages.login import current, login_needed, still_in
from dit4c_p2p.portal.people import Who
from dit4c_p2p.portal.services import Services, services
from dit4c_p2p.portal.sessions import LoggedIn
from dit4c_p2p.portal.sse import KEEPALIVE_S, EventStream


def routes() -> list[web.RouteDef]:
    """The page, its buttons, its events."""
    return [
        web.get("/", dashboard),
        web.get("/events", events, allow_head=False),
        web.post("/start", start),
        web.post("/instances/{id}/stop", stop),
        web.post("/instances/{id}/start", start_again),
        web.get("/instances/{id}/discard", confirm_discard),
        web.post("/instances/{id}/discard", discard),
    ]


async def dashboard(request: web.Request) -> web.Response:
    """Everything of a person's at one glance."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    return await _show(request, session)


async def start(request: web.Request) -> web.Response:
    """The Start button of an image."""
    session = await _session(request)
    form = await checked_form(request, session)
    try:
        instance = await services(request).instances.start(
            session.who, form.get("image", ""), form.get("name", "")
        )
    except PortalError as error:
        if _is_script(request):
            raise
        return await _show(request, session, error)
    if _is_script(request):
        return json_answer(await _view(services(request), instance), status=201)
    return _back()


async def stop(request: web.Request) -> web.Response:
    """The Stop button of an instance."""
    return await _wish(request, services(request).instances.stop)


async def start_again(request: web.Request) -> web.Response:
    """The Start button of an instance that is stopped."""
    return await _wish(request, services(request).instances.start_again)


async def _wish(
    request: web.Request, ask: Callable[[Who, str], Awaitable[Instance]]
) -> web.Response:
    session = await _session(request)
    await checked_form(request, session)
    try:
        instance = await ask(session.who, request.match_info["id"])
    except Conflict as error:
        if _is_script(request):
            raise
        return await _show(request, session, error)
    if _is_script(request):
        return json_answer(await _view(services(request), instance), status=202)
    return _back()


async def confirm_discard(request: web.Request) -> web.Response:
    """The question, as a page of its own: for browsers without JavaScript."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    parts = services(request)
    instance = await parts.instances.get(session.who, request.match_info["id"])
    return aiohttp_jinja2.render_template(
        "discard.html", request, {"session": session, "instance": await _view(parts, instance)}
    )


async def discard(request: web.Request) -> web.Response:
    """The answer "yes"."""
    session = await _session(request)
    await checked_form(request, session)
    parts = services(request)
    instance = await parts.instances.discard(session.who, request.match_info["id"])
    if _is_script(request):
        return json_answer(await _view(parts, instance), status=202)
    return _back()


async def events(request: web.Request) -> web.StreamResponse:
    """``all`` first, then ``instance`` whenever one changes, ``session`` when it has ended."""
    parts, session = services(request), await _session(request)
    with parts.hub.subscribe(f"person:{session.who.id}") as subscription:
        async with EventStream(request) as stream:
            found = await parts.instances.of(session.who)
            await stream.send(_json(await _views(parts, found)), "all")
            while not subscription.closed:
                changed = await subscription.changed(KEEPALIVE_S)
                if not await still_in(request):
                    await stream.send("{}", "session")
                    break
                found = await Instance.filter(owner_id=session.who.id, id__in=changed)
                for shown in await _views(parts, found):
                    await stream.send(_json(shown), "instance")
                if not changed:
                    await stream.keep_alive()
    return stream.response


async def _show(
    request: web.Request, session: LoggedIn, error: PortalError | None = None
) -> web.Response:
    parts = services(request)
    found = await parts.instances.of(session.who)
    return aiohttp_jinja2.render_template(
        "dashboard.html",
        request,
        {
            "session": session,
            "images": (await catalogue(parts.config)).offered,
            "instances": await _views(parts, found),
            "error": error,
        },
        status=error.status if error else 200,
    )


async def _session(request: web.Request) -> LoggedIn:
    session = await current(request)
    if session is None:
        raise Unauthorized("you are not logged in any more", hint="open a new login link")
    return session


async def _view(parts: Services, instance: Instance) -> dict[str, Any]:
    (shown,) = await _views(parts, [instance])
    return shown


async def _views(parts: Services, instances: list[Instance]) -> list[dict[str, Any]]:
    known = await catalogue(parts.config)
    return [presentation.page_view(instance, parts.config, known) for instance in instances]


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


def _is_script(request: web.Request) -> bool:
    return "application/json" in request.headers.get("Accept", "")


def _back() -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})
