"""``/api/v1/images`` and ``/api/v1/instances``."""

import json
from typing import Any

from aiohttp import web

from dit4c_p2p.messages.instances import FINAL, State
from dit4c_p2p.portal import presentation
from dit4c_p2p.portal.answers import json_answer
from dit4c_p2p.portal.api.auth import person
from dit4c_p2p.portal.bodies import Body, read_json
from dit4c_p2p.portal.errors import BadRequest, NotFound, Unauthorized, Unavailable
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.services import services
from dit4c_p2p.portal.sse import KEEPALIVE_S, EventStream

_PREFIX = "/api/v1"
_DEFAULT_LINES = 200
_MAX_LINES = 2000


class NewInstance(Body, frozen=True):
    """The body of ``POST instances``."""

    image: str
    name: str = ""


def routes() -> list[web.RouteDef]:
    """See the package's table."""
    one = f"{_PREFIX}/instances/{{id}}"
    return [
        web.get(f"{_PREFIX}/images", images),
        web.get(f"{_PREFIX}/instances", list_instances),
        web.post(f"{_PREFIX}/instances", start),
        web.get(one, get),
        web.get(f"{one}/events", events, allow_head=False),
        web.get(f"{one}/logs", logs),
        web.post(f"{one}/discard", discard),
    ]


async def images(request: web.Request) -> web.Response:
    """The catalogue."""
    await person(request)
    return json_answer(
        [
            {
                "name": image.name,
                "title": image.title,
                "description": image.description,
                "image": image.image,
                "icon": image.icon,
            }
            for image in services(request).config.catalogue
        ]
    )


async def list_instances(request: web.Request) -> web.Response:
    """The caller's own."""
    who = await person(request)
    found = services(request).instances.of(who, discarded=request.query.get("all") == "1")
    return json_answer([_view(request, instance) for instance in await found])


async def start(request: web.Request) -> web.Response:
    """A new instance."""
    who = await person(request)
    wanted = await read_json(request, NewInstance)
    instance = await services(request).instances.start(who, wanted.image, wanted.name)
    location = f"{services(request).config.url}{_PREFIX}/instances/{instance.id}"
    return json_answer(_view(request, instance), status=201, Location=location)


async def get(request: web.Request) -> web.Response:
    """One instance."""
    return json_answer(_view(request, await _mine(request)))


async def discard(request: web.Request) -> web.Response:
    """Have it removed; 202, because it takes a moment."""
    who = await person(request)
    instance = await services(request).instances.discard(who, request.match_info["id"])
    return json_answer(_view(request, instance), status=202)


async def events(request: web.Request) -> web.StreamResponse:
    """The instance as it is, and again whenever that changes."""
    parts, who = services(request), await person(request)
    await _mine(request)
    shown = ""
    with parts.hub.subscribe(f"person:{who.id}") as subscription:
        async with EventStream(request) as stream:
            while not subscription.closed:
                # Asked again each time: a token that was taken back ends the stream.
                try:
                    instance = await _mine(request)
                except (NotFound, Unauthorized):
                    break
                now = json.dumps(_view(request, instance), ensure_ascii=False)
                if now != shown:
                    await stream.send(now, "state")
                    shown = now
                else:
                    await stream.keep_alive()
                if instance.state in FINAL:
                    break
                while not subscription.closed:
                    items = await subscription.changed(KEEPALIVE_S)
                    if not items or instance.id in items:
                        break
    return stream.response


async def logs(request: web.Request) -> web.Response:
    """The newest lines of the app's log: live, or what was kept of it when it failed."""
    parts, instance = services(request), await _mine(request)
    lines = _lines(request)
    if instance.state == State.ERRORED or instance.state in FINAL:
        text = instance.log_tail
    else:
        try:
            text = await parts.links.request_logs(instance, lines, parts.config.limits.logs_s)
        except Unavailable:
            if not instance.log_tail:
                raise
            text = instance.log_tail
    if "application/json" in request.headers.get("Accept", ""):
        return json_answer({"text": text})
    return web.Response(text=text, content_type="text/plain")


async def _mine(request: web.Request) -> Instance:
    who = await person(request)
    return await services(request).instances.get(who, request.match_info["id"])


def _view(request: web.Request, instance: Instance) -> dict[str, Any]:
    return presentation.view(instance, services(request).config)


def _lines(request: web.Request) -> int:
    text = request.query.get("lines", str(_DEFAULT_LINES))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MAX_LINES:
        raise BadRequest(f"lines is a number from 1 to {_MAX_LINES}", field="lines")
    return int(text)
