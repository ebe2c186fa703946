"""The published keys: documents, signatures and events, for everybody."""

import json

import msgspec
from aiohttp import web

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.keys import key_signs_tokens
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.sshsig import without_armor
from dit4c_p2p.identity.tokens import public_jwk
from dit4c_p2p.messages.registry import SIGNATURE_HEADER, KeyHolder
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import BadRequest, NotFound
from dit4c_p2p.portal.http.peer_auth import authenticate_peer
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.http.sse import EventStream
from dit4c_p2p.portal.keys.registry import SignedDocument
from dit4c_p2p.portal.models import SshKey

_KINDS = "|".join(Kind)
_SIGNATURE_TYPE = "application/x-ssh-signature"


def key_registry_routes() -> list[web.RouteDef]:
    """Return the routes of the key registry (docs/architecture.md, "Identity")."""
    peer = f"/{{kind:{_KINDS}}}s/{{id}}"
    return [
        web.get(f"{peer}/ssh-keys", ssh_keys),
        web.get(f"{peer}/ssh-keys.sig", ssh_keys_signature),
        web.get(f"{peer}/jwks.json", peer_jwks),
        web.get("/ssh-keys/{fingerprint}", key_holder),
        web.get("/known_hosts", known_hosts),
        web.get("/known_hosts.sig", known_hosts_signature),
        web.get("/keys/events", key_events, allow_head=False),
    ]


async def ssh_keys(request: web.Request) -> web.Response:
    """``authorized_keys`` lines of the keys in force."""
    return _document_response(
        await services(request).registry.document(_peer_name_of_path(request))
    )


async def ssh_keys_signature(request: web.Request) -> web.Response:
    """The signature of the body with the serial that the query names."""
    return _signature_response(
        services(request).registry.signature(_peer_name_of_path(request), _serial_of_query(request))
    )


async def peer_jwks(request: web.Request) -> web.Response:
    """The same keys as a JWK set (RFC 7517)."""
    keys = await services(request).registry.in_force(_peer_name_of_path(request))
    return json_answer({"keys": [public_jwk(key) for key in keys if key_signs_tokens(key)]})


async def key_holder(request: web.Request) -> web.Response:
    """Return the holder of a key, and whether the key was revoked."""
    key = await SshKey.get_or_none(fingerprint=request.match_info["fingerprint"])
    if key is None:
        raise NotFound("nobody published such a key")
    holder = KeyHolder(
        fingerprint=key.fingerprint,
        name=key.name,
        revoked=key.revoked_at is not None,
        published_at=int(key.published_at),
        revoked_at=None if key.revoked_at is None else int(key.revoked_at),
    )
    return json_answer(json.loads(msgspec.json.encode(holder)))


async def known_hosts(request: web.Request) -> web.Response:
    """For stock OpenSSH."""
    return _document_response(await services(request).registry.known_hosts())


async def known_hosts_signature(request: web.Request) -> web.Response:
    """The signature of the ``known_hosts`` with the serial that the query names."""
    return _signature_response(
        services(request).registry.signature(None, _serial_of_query(request))
    )


async def key_events(request: web.Request) -> web.StreamResponse:
    """Changes of keys as they happen, with a signed heartbeat.

    A router that proves who it is hears as well whose access to instances has ended.
    """
    parts = services(request)
    is_router = "Authorization" in request.headers
    if is_router:
        await authenticate_peer(request, Kind.ROUTER)
    with parts.key_events.listen(request.remote, router=is_router) as listener:
        if is_router:
            parts.key_events.access_ended(await parts.access_ends.standing(), listener)
        async with EventStream(request) as stream:
            async for frame in listener:
                await stream.send(frame)
    return stream.response


def _peer_name_of_path(request: web.Request) -> PeerName:
    try:
        return PeerName.of(request.match_info["kind"], request.match_info["id"])
    except InvalidName as error:
        raise NotFound(str(error), hint=error.hint) from None


def _serial_of_query(request: web.Request) -> int:
    text = request.query.get("serial", "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest("say which serial", field="serial", hint="it is in the first line")
    return int(text)


def _document_response(document: SignedDocument) -> web.Response:
    headers = {SIGNATURE_HEADER: without_armor(document.signature)}
    return web.Response(
        body=document.body, content_type="text/plain", charset="utf-8", headers=headers
    )


def _signature_response(signature: str) -> web.Response:
    return web.Response(text=signature, content_type=_SIGNATURE_TYPE)
