"""The dashboard: tools to start, and the person's instances with live updates."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.context import PortalContext, services
from dit4c_p2p.portal.errors import BadRequest, Conflict, PortalError, TooMany, Unauthorized
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.http.sse import KEEPALIVE_S, EventStream
from dit4c_p2p.portal.instances import view
from dit4c_p2p.portal.instances.catalogue import catalogue
from dit4c_p2p.portal.instances.machines import reached_machines
from dit4c_p2p.portal.live_updates import MEMORY
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.pages import notices
from dit4c_p2p.portal.pages.forms import checked_form, go_to
from dit4c_p2p.portal.pages.login import current, still_in
from dit4c_p2p.portal.pages.page import PageCall, page_handler
from dit4c_p2p.portal.pages.passkeys import offer_passkey_on_passkeys_page
from dit4c_p2p.portal.pages.tool_pictures import tool_picture_url
from dit4c_p2p.portal.services.instances import instance_log_text
from dit4c_p2p.portal.storage import consent

_LOG_LINES = 200


def dashboard_page_routes() -> list[web.RouteDef]:
    """Return the routes of the page, its buttons and its events."""
    return [
        web.get("/", page_handler(show_dashboard_page)),
        web.get("/events", events_on_dashboard_page, allow_head=False),
        web.post("/start", start_on_dashboard_page),
        web.post("/instances/{id}/stop", stop_on_dashboard_page),
        web.get(
            "/instances/{id}/start", page_handler(start_form_on_dashboard_page, after_login=True)
        ),
        web.post("/instances/{id}/start", start_again_on_dashboard_page),
        web.post("/instances/{id}/new-key", new_key_on_dashboard_page),
        web.post("/instances/{id}/save", save_on_dashboard_page),
        web.post("/instances/{id}/checkpoint", checkpoint_on_dashboard_page),
        web.post("/instances/{id}/go-on", go_on_on_dashboard_page),
        web.post("/instances/{id}/copy", copy_on_dashboard_page),
        web.get("/instances/{id}/log", log_on_dashboard_page, allow_head=False),
        web.get("/instances/{id}/rename", page_handler(rename_form_on_dashboard_page)),
        web.post("/instances/{id}/rename", rename_on_dashboard_page),
        web.get("/instances/{id}/discard", page_handler(confirm_discard_on_dashboard_page)),
        web.post("/instances/{id}/discard", discard_on_dashboard_page),
    ]


async def show_dashboard_page(call: PageCall) -> web.Response:
    """Show the tools and the person's instances."""
    found = await call.parts.instances.of(call.session.who)
    return call.page(
        "dashboard.html",
        images=(await catalogue(call.parts.config, call.session.who)).offered,
        instances=await _views_for_dashboard_page(call.parts, found),
        stores=bool(call.parts.public.fileservers),
        machines=await reached_machines(call.parts.config.scheduler, call.parts.reach),
        cluster_away=not call.parts.links.connected(call.parts.config.scheduler),
        offer_passkey=await offer_passkey_on_passkeys_page(call),
    )


async def start_on_dashboard_page(request: web.Request) -> web.Response:
    """Start an image."""
    session = await _session_for_dashboard_page(request)
    form = await checked_form(request, session)
    try:
        instance = await services(request).instances.start(
            session.who, form.get("image", ""), form.get("name", ""), form.get("machine", "")
        )
    except PortalError as error:
        if _is_script_for_dashboard_page(request):
            raise
        return await show_dashboard_page(PageCall(request, session, error=error))
    return await _done_for_dashboard_page(request, instance, status=201)


async def stop_on_dashboard_page(request: web.Request) -> web.Response:
    """Stop an instance."""
    return await _wish_for_dashboard_page(request, services(request).instances.stop)


async def start_form_on_dashboard_page(call: PageCall) -> web.Response:
    """The Start button alone: the page of an instance that is stopped leads here."""
    instance = await call.parts.instances.get(call.session.who, call.path("id"))
    shown = await _view_for_dashboard_page(call.parts, instance)
    return call.page("start_instance.html", instance=shown)


async def start_again_on_dashboard_page(request: web.Request) -> web.Response:
    """The Start button of an instance that is stopped."""
    return await _wish_for_dashboard_page(request, services(request).instances.start_again)


async def new_key_on_dashboard_page(request: web.Request) -> web.Response:
    """The button of an instance whose key was revoked."""
    return await _wish_for_dashboard_page(request, services(request).instances.new_key)


async def save_on_dashboard_page(request: web.Request) -> web.Response:
    """The Save button of an instance."""
    return await _wish_for_dashboard_page(request, services(request).saves.want)


async def checkpoint_on_dashboard_page(request: web.Request) -> web.Response:
    """The Checkpoint button of an instance that runs."""
    return await _wish_for_dashboard_page(request, services(request).checkpoints.want)


async def go_on_on_dashboard_page(request: web.Request) -> web.Response:
    """The button of an instance whose machine is lost, and that has a checkpoint."""
    return await _wish_for_dashboard_page(request, services(request).moves.go_on)


async def copy_on_dashboard_page(request: web.Request) -> web.Response:
    """The "Start a copy" button of an instance that is preserved."""
    return await _wish_for_dashboard_page(request, services(request).saves.copy)


async def log_on_dashboard_page(request: web.Request) -> web.Response:
    """The newest lines of an instance's log, for the drawer of its row; also while it starts."""
    parts, session = services(request), await _session_for_dashboard_page(request)
    instance = await parts.instances.get(session.who, request.match_info["id"])
    text = await instance_log_text(parts, instance, _LOG_LINES)
    if _is_script_for_dashboard_page(request):
        return json_answer({"text": text})
    return web.Response(text=text, content_type="text/plain")


async def rename_form_on_dashboard_page(call: PageCall) -> web.Response:
    """Show the form for another name, for browsers without JavaScript."""
    instance = await call.parts.instances.get(call.session.who, call.path("id"))
    form = {"name": instance.name, **call.form}
    return call.page("rename_instance.html", instance=instance, form=form)


async def rename_on_dashboard_page(request: web.Request) -> web.Response:
    """Give an instance another name; its address stays."""
    session = await _session_for_dashboard_page(request)
    form = await checked_form(request, session)
    id, name = request.match_info["id"], form.get("name", "")
    try:
        instance = await services(request).instances.rename(session.who, id, name)
    except (BadRequest, Conflict) as error:
        if _is_script_for_dashboard_page(request):
            raise
        return await rename_form_on_dashboard_page(
            PageCall(request, session, form=form, error=error)
        )
    return await _done_for_dashboard_page(request, instance, status=200)


async def _wish_for_dashboard_page(
    request: web.Request, ask: Callable[[Caller, str], Awaitable[Instance]]
) -> web.Response:
    session = await _session_for_dashboard_page(request)
    await checked_form(request, session)
    try:
        instance = await ask(session.who, request.match_info["id"])
    except (Conflict, TooMany) as error:
        if _is_script_for_dashboard_page(request):
            raise
        return await show_dashboard_page(PageCall(request, session, error=error))
    return await _done_for_dashboard_page(request, instance, status=202)


async def confirm_discard_on_dashboard_page(call: PageCall) -> web.Response:
    """The question, as a page of its own: for browsers without JavaScript.

    Who comes back to it once the instance is going or gone is not asked again.
    """
    instance = await call.parts.instances.get(call.session.who, call.path("id"))
    asked_of = await _view_for_dashboard_page(call.parts, instance)
    if "discard" not in asked_of["actions"]:
        return go_to("/")
    return call.page("discard.html", instance=asked_of)


async def discard_on_dashboard_page(request: web.Request) -> web.Response:
    """The answer "yes"."""
    session = await _session_for_dashboard_page(request)
    await checked_form(request, session)
    id = request.match_info["id"]
    instance = await services(request).instances.discard(session.who, id)
    return await _done_for_dashboard_page(request, instance, status=202)


async def events_on_dashboard_page(request: web.Request) -> web.StreamResponse:
    """``all`` first, then ``instance`` whenever one changes, ``session`` when it has ended.

    ``memory`` is how much memory one uses, where nothing else of it has changed.
    """
    parts, session = services(request), await _session_for_dashboard_page(request)
    with parts.hub.subscribe(f"person:{session.who.id}") as subscription:
        async with EventStream(request) as stream:
            found = await parts.instances.of(session.who)
            await stream.send(
                _json_for_dashboard_page(await _views_for_dashboard_page(parts, found)), "all"
            )
            while not subscription.closed:
                changed = await subscription.changed(KEEPALIVE_S)
                if not await still_in(request):
                    await stream.send("{}", "session")
                    break
                found = await Instance.filter(
                    owner_id=session.who.id, id__in=[one.removeprefix(MEMORY) for one in changed]
                )
                whole = [one for one in found if one.id in changed]
                for item in await _views_for_dashboard_page(parts, whole):
                    await stream.send(_json_for_dashboard_page(item), "instance")
                for one in found:
                    if one.id not in changed:
                        text = view.memory_text(parts.memory.of(one))
                        await stream.send(
                            _json_for_dashboard_page({"id": one.id, "memory": text}), "memory"
                        )
                if not changed:
                    await stream.keep_alive()
    return stream.response


async def _done_for_dashboard_page(
    request: web.Request, instance: Instance, *, status: int
) -> web.Response:
    """Return the instance as JSON to a script, or redirect a person to the page."""
    if _is_script_for_dashboard_page(request):
        return json_answer(
            await _view_for_dashboard_page(services(request), instance), status=status
        )
    response = go_to("/")
    notices.leave(request, response, notices.DONE)
    return response


async def _session_for_dashboard_page(request: web.Request) -> LoggedIn:
    session = await current(request)
    if session is None:
        raise Unauthorized("you are not logged in any more", hint="open a new login link")
    return session


async def _view_for_dashboard_page(parts: PortalContext, instance: Instance) -> dict[str, Any]:
    (found,) = await _views_for_dashboard_page(parts, [instance])
    return found


async def _views_for_dashboard_page(
    parts: PortalContext, instances: list[Instance]
) -> list[dict[str, Any]]:
    known = await catalogue(parts.config)
    lent_by = await consent.lenders(instances) if parts.public.fileservers else {}
    return [
        view.instance_page_view(
            instance, parts.config, known, parts.reach.of(instance), parts.memory.of(instance)
        )
        | {
            "picture": tool_picture_url(parts.static, instance.image_name),
            "lender": lent_by[instance.id].name if instance.id in lent_by else "",
            "consent": f"/consents/{lent_by[instance.id].id}" if instance.id in lent_by else "",
        }
        for instance in instances
    ]


def _json_for_dashboard_page(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


def _is_script_for_dashboard_page(request: web.Request) -> bool:
    return "application/json" in request.headers.get("Accept", "")
