"""Requests of peers about instances, and the scheduler's link."""

import json

import msgspec
from aiohttp import web

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.helper import AnswersOn
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import NotFound, Unauthorized
from dit4c_p2p.portal.http.peer_auth import authenticate_peer
from dit4c_p2p.portal.http.request_body import read_body
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.instances import view
from dit4c_p2p.portal.instances.catalogue import catalogue
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.oauth.server import claim_peer_token


def instance_peer_routes() -> list[web.RouteDef]:
    """Who may: instances, routers, schedulers, everybody."""
    return [
        web.put("/instances/", instance_answers_on),
        web.get("/instances/{id}/page-state", instance_page_state),
        web.get("/schedulers/{id}/link", scheduler_link),
        web.get("/config.json", public_config),
        web.get("/caller-address", caller_address),
    ]


async def caller_address(request: web.Request) -> web.Response:
    """Where the portal sees the call come from: a node keeps its pods from that address."""
    return json_answer({"address": request.remote or ""})


async def instance_answers_on(request: web.Request) -> web.Response:
    """An instance answered its own URL; the portal derives the URL from who says so."""
    parts = services(request)
    token = await authenticate_peer(request, Kind.INSTANCE)
    said = decode(await read_body(request), AnswersOn)
    async with in_transaction("portal"):
        if not await claim_peer_token(token):
            raise Unauthorized("the token was used before", hint="make a new one for each call")
        instance = await parts.instances.answers_on(token.issuer.id, said.routers)
    parts.instances.changed(instance)
    return web.Response(status=204)


async def instance_page_state(request: web.Request) -> web.Response:
    """For a router's page in the place of an instance that it has no tunnel to."""
    await authenticate_peer(request, Kind.ROUTER)
    instance = await Instance.get_or_none(id=request.match_info["id"])
    known = await catalogue(services(request).config)
    return json_answer(view.page_state(instance, known))


async def scheduler_link(request: web.Request) -> web.StreamResponse:
    """The scheduler's WebSocket; who it is, it proves inside."""
    parts = services(request)
    try:
        scheduler = PeerName(Kind.SCHEDULER, request.match_info["id"])
    except InvalidName as error:
        raise NotFound(str(error)) from None
    return await parts.links.serve(request, scheduler, parts.instances)


async def public_config(request: web.Request) -> web.Response:
    """Return the installation's public configuration."""
    return json_answer(json.loads(msgspec.json.encode(services(request).public)))
