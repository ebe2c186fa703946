"""What file servers ask and say: whose files, for whom, and which keys have logged in."""

import asyncio

from aiohttp import web

from dit4c_p2p.identity.names import Kind
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.http.peer_auth import authenticate_peer
from dit4c_p2p.portal.http.sse import EventStream
from dit4c_p2p.portal.services.user_keys import prove_ssh_key_of_person

# How long after a file server's key is revoked its stream may still tell it of changes.
_LOOK_AGAIN_S = 5.0


def file_server_routes() -> list[web.RouteDef]:
    """For file servers only; see :mod:`dit4c_p2p.messages.grants`."""
    return [
        web.get("/instances/{id}/creator", creator_for_file_server),
        web.get("/instances/{id}/grants", instance_grants),
        web.get("/users/{id}/grants", user_grants),
        web.get("/grants/events", grant_events_for_file_server, allow_head=False),
        web.post("/users/{id}/ssh-keys/{fingerprint}/proved", key_proved_at_file_server),
    ]


async def creator_for_file_server(request: web.Request) -> web.Response:
    """Caller created an instance."""
    server = (await authenticate_peer(request, Kind.FILESERVER)).issuer.id
    grants = services(request).grants
    return _answer_for_file_servers(await grants.creator(server, request.match_info["id"]))


async def instance_grants(request: web.Request) -> web.Response:
    """What an instance sees at the file server that asks."""
    server = (await authenticate_peer(request, Kind.FILESERVER)).issuer.id
    grants = services(request).grants
    return _answer_for_file_servers(await grants.of_instance(server, request.match_info["id"]))


async def user_grants(request: web.Request) -> web.Response:
    """What a person sees at the file server that asks."""
    server = (await authenticate_peer(request, Kind.FILESERVER)).issuer.id
    grants = services(request).grants
    return _answer_for_file_servers(await grants.of_person(server, request.match_info["id"]))


async def key_proved_at_file_server(request: web.Request) -> web.Response:
    """A person's key has logged in at the file server."""
    token = await authenticate_peer(request, Kind.FILESERVER)
    match = request.match_info
    await prove_ssh_key_of_person(services(request), token, match["id"], match["fingerprint"])
    return web.Response(status=204)


async def grant_events_for_file_server(request: web.Request) -> web.StreamResponse:
    """Whose grants change, as it happens, with a heartbeat. It ends with the server's key."""
    token = await authenticate_peer(request, Kind.FILESERVER)
    parts = services(request)
    loop = asyncio.get_running_loop()
    looked_at = loop.time()
    with parts.grant_events.listen(token.issuer.id) as queue:
        async with EventStream(request) as stream:
            while (frame := await queue.get()) is not None:
                if loop.time() - looked_at > _LOOK_AGAIN_S:
                    looked_at = loop.time()
                    if not await parts.registry.holds(token.issuer, token.fingerprint):
                        break
                await stream.send(frame)
    return stream.response


def _answer_for_file_servers(record: object) -> web.Response:
    return web.Response(
        body=encode(record) + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
