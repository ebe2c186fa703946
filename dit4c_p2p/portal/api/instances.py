"""``instances``."""

from aiohttp import web
from msgspec import UnsetType

from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.portal.accounts.names import composed_name
from dit4c_p2p.portal.api.endpoint import PREFIX, Call, Endpoint
from dit4c_p2p.portal.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    TookTooLong,
    TooMany,
    Unauthorized,
)
from dit4c_p2p.portal.http.sse import KEEPALIVE_S, EventStream
from dit4c_p2p.portal.http.token_auth import person_of_token
from dit4c_p2p.portal.instances import view
from dit4c_p2p.portal.instances.schemas import InstanceView
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.paging import page_of_rows
from dit4c_p2p.portal.schemas import (
    InstanceChange,
    InstancesQuery,
    LogsQuery,
    NewInstance,
    to_json,
)
from dit4c_p2p.portal.services.instances import instance_log_text


async def list_instances(call: Call, query: InstancesQuery) -> list[InstanceView]:
    """The caller's own instances, newest first."""
    discarded = query.all or query.state == State.DISCARDED
    rows = call.parts.instances.of(call.who, discarded=discarded)
    if isinstance(query.state, State):
        rows = rows.filter(state=query.state.value)
    if query.image:
        rows = rows.filter(image_name=query.image)
    if query.q:
        rows = rows.filter(name__icontains=composed_name(query.q))
    found, cursor = await page_of_rows(rows, query.limit, query.cursor, time="created_at", id="id")
    call.next_page(cursor)
    return [_instance_view(call, instance) for instance in found]


async def start(call: Call, body: NewInstance) -> InstanceView:
    """Start an image of the catalogue, or go on from what was saved of an instance.

    The title is its name if none is given.
    """
    if bool(body.image) is bool(body.source):
        raise BadRequest("one of image and from is needed", field="image")
    if body.kept_on and not body.source:
        raise BadRequest("from is needed with kept_on", field="from")
    if body.kept_on:
        moves = call.parts.moves
        instance = await moves.copy_kept(call.who, body.source, body.kept_on, body.name)
    elif body.source:
        instance = await call.parts.saves.copy(call.who, body.source, body.name)
    else:
        instance = await call.parts.instances.start(call.who, body.image, body.name, body.machine)
    call.located(f"{PREFIX}/instances/{instance.id}")
    return _instance_view(call, instance)


async def get(call: Call) -> InstanceView:
    """One instance."""
    return _instance_view(call, await _own_instance(call))


async def discard(call: Call) -> InstanceView:
    """Have an instance removed, with everything in it; asking again changes nothing."""
    return _instance_view(call, await call.parts.instances.discard(call.who, call.path("id")))


async def delete(call: Call) -> InstanceView:
    """The same as ``discard``; what was saved of it is deleted as well."""
    return await discard(call)


async def stop(call: Call) -> InstanceView:
    """Have the app stopped; its files are kept. Asking again changes nothing."""
    return _instance_view(call, await call.parts.instances.stop(call.who, call.path("id")))


async def start_again(call: Call) -> InstanceView:
    """Have an app that was stopped, or has ended, started where it is, with its files."""
    return _instance_view(call, await call.parts.instances.start_again(call.who, call.path("id")))


async def new_key(call: Call) -> InstanceView:
    """Have an instance that runs, and whose key was revoked, given a new one; its app runs on."""
    return _instance_view(call, await call.parts.instances.new_key(call.who, call.path("id")))


async def save(call: Call) -> InstanceView:
    """Have the app stopped and its files saved; asking again changes nothing.

    Once they are, its state is ``uploaded``, and nothing of it is left on its machine.
    """
    return _instance_view(call, await call.parts.saves.want(call.who, call.path("id")))


async def checkpoint(call: Call) -> InstanceView:
    """Have its files saved while the app goes on; asking again meanwhile changes nothing."""
    return _instance_view(call, await call.parts.checkpoints.want(call.who, call.path("id")))


async def go_on(call: Call) -> InstanceView:
    """Have an instance whose machine is lost go on from its newest checkpoint at another one.

    Its address stays. What was written after the checkpoint is kept at the old machine.
    """
    return _instance_view(call, await call.parts.moves.go_on(call.who, call.path("id")))


async def change(call: Call, body: InstanceChange) -> InstanceView:
    """Give an instance another name, or say how often checkpoints are made; its address stays."""
    parts, id, instance = call.parts, call.path("id"), await _own_instance(call)
    if not isinstance(body.name, UnsetType):
        instance = await parts.instances.rename(call.who, id, body.name)
    if not isinstance(body.checkpoint_minutes, UnsetType):
        instance = await parts.checkpoints.set_interval(call.who, id, body.checkpoint_minutes)
    return _instance_view(call, instance)


async def events(call: Call) -> web.StreamResponse:
    """Server-sent events ``state``: the instance as it is, and again whenever that changes.

    The stream ends when the instance is discarded.
    """
    parts, request = call.parts, call.request
    await _own_instance(call)
    shown = b""
    with parts.hub.subscribe(f"person:{call.who.id}") as subscription:
        async with EventStream(request) as stream:
            while not subscription.closed:
                # Asked again each time: a token that was taken back ends the stream.
                try:
                    await person_of_token(request)
                    instance = await _own_instance(call)
                except (NotFound, Unauthorized, Forbidden):
                    break
                now = to_json(_instance_view(call, instance)).strip()
                if now != shown:
                    await stream.send(now.decode(), "state")
                    shown = now
                else:
                    await stream.keep_alive()
                if instance.state in FINAL:
                    break
                while not subscription.closed:
                    items = await subscription.changed(KEEPALIVE_S)
                    if not items or instance.id in items or "session" in items:
                        break
    return stream.response


async def logs(call: Call, query: LogsQuery) -> web.Response:
    """The newest lines of the app's log: live, or what was kept of it when it failed.

    Text, or JSON ``{"text": …}`` by ``Accept``.
    """
    parts, instance = call.parts, await _own_instance(call)
    text = await instance_log_text(parts, instance, query.lines)
    if "application/json" in call.request.headers.get("Accept", ""):
        return web.Response(body=to_json({"text": text}), content_type="application/json")
    return web.Response(text=text, content_type="text/plain")


async def _own_instance(call: Call) -> Instance:
    return await call.parts.instances.get(call.who, call.path("id"))


def _instance_view(call: Call, instance: Instance) -> InstanceView:
    parts = call.parts
    return view.instance_view(
        instance, parts.config, parts.reach.of(instance), parts.memory.of(instance)
    )


ENDPOINTS = (
    Endpoint("GET", "instances", list_instances),
    Endpoint(
        *("POST", "instances", start),
        status=201,
        location=True,
        errors=(Conflict, NotFound, TooMany),
    ),
    Endpoint("GET", "instances/{id}", get),
    Endpoint("PATCH", "instances/{id}", change, errors=(Conflict,)),
    Endpoint(
        "GET", "instances/{id}/events", events, media=("text/event-stream",), errors=(TooMany,)
    ),
    Endpoint(
        "GET",
        "instances/{id}/logs",
        logs,
        media=("text/plain", "application/json"),
        errors=(TookTooLong,),
    ),
    Endpoint("POST", "instances/{id}/stop", stop, status=202, errors=(Conflict,)),
    Endpoint("POST", "instances/{id}/start", start_again, status=202, errors=(Conflict, TooMany)),
    Endpoint("POST", "instances/{id}/new-key", new_key, status=202, errors=(Conflict,)),
    Endpoint("POST", "instances/{id}/save", save, status=202, errors=(Conflict,)),
    Endpoint("POST", "instances/{id}/checkpoint", checkpoint, status=202, errors=(Conflict,)),
    Endpoint("POST", "instances/{id}/go-on", go_on, status=202, errors=(Conflict,)),
    Endpoint("POST", "instances/{id}/discard", discard, status=202),
    Endpoint("DELETE", "instances/{id}", delete, status=202),
)
